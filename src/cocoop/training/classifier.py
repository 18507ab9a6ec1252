"""Image features and class names to logits: CLIP's scaled cosine under a method's prompts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.methods import Method
from cocoop.text import TextEncoder

IMAGES_AT_ONCE = 1000  # contexts held at a time when predicting
TEXTS_AT_ONCE = 1 << 14  # image-specific text features held at a time when predicting


class Classifier:
    """A method over one list of class names.

    Args:
        backbone: the frozen CLIP.
        method: what makes the context vectors, trained or not.
        class_names: candidates, in the order of the logits.
        memory_budget: bytes for the text encoder; None for what the machine allows.

    Raises:
        UsageError: an empty list, an empty name or one too long for the context window.

    Examples:
        >>> import cocoop
        >>> import torch
        >>> from cocoop.methods import METHODS, build
        >>> clip = cocoop.load_backbone("tiny-clip", device="cpu")
        >>> config = METHODS.get("cocoop").config_type()
        >>> method = build("cocoop", config, clip, template="a photo of a {}.", n_classes=2, seed=1)
        >>> classify = cocoop.Classifier(clip, method, ["red apple", "violin", "teapot"])
        >>> zimg = torch.nn.functional.normalize(torch.ones(5, clip.embed_dim), dim=1)
        >>> classify.predict(zimg).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        class_names: Sequence[str],
        memory_budget: int | None = None,
    ) -> None:
        self.method = method
        self.class_names = tuple(class_names)
        self.logit_scale = backbone.logit_scale
        self.device = backbone.device
        self.encode_text = TextEncoder(backbone, method.prompts, class_names, memory_budget)

    def __call__(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Return exp(logit scale) * cos(image, prompt) for L2-normalised image features and every class."""
        zimg = zimg.to(self.device)
        return self._score(zimg, self.encode_text(self.method(zimg)))

    @torch.no_grad()
    def predict(self, zimg: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the logits of many images on the CPU, computed in pieces that keep memory bounded."""
        rows = [torch.empty(0, len(self.class_names))]
        for images in zimg.to(self.device).split(IMAGES_AT_ONCE):
            contexts = self.method(images)
            conditional = self.method.facts.conditional
            size = max(1, TEXTS_AT_ONCE // len(self.class_names)) if conditional else len(images)
            pieces = contexts.split(size) if conditional else [contexts]
            for piece, context in zip(images.split(size), pieces, strict=True):
                rows.append(self._score(piece, self.encode_text(context)).cpu())
        return torch.cat(rows)

    def _score(self, zimg: Float[Tensor, "b d"], ztxt: Float[Tensor, "#b c d"]) -> Float[Tensor, "b c"]:
        if len(ztxt) == 1:
            return self.logit_scale * zimg @ ztxt[0].T
        return self.logit_scale * torch.einsum("bd,bcd->bc", zimg, ztxt)
