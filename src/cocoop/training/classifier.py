"""Image features and class names to logits: CLIP's scaled cosine, or the method's own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.methods import Method
from cocoop.methods._hooks import Output, Text, WithLogits, WithTexts
from cocoop.text import TextEncoder
from cocoop.text.prompt import Prompt

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
        self.text = _frozen_text(backbone, method, class_names, memory_budget)

    def __call__(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Return the logits of L2-normalised image features: by default exp(logit scale) * cosine."""
        return self.output(zimg).logits

    def output(self, zimg: Float[Tensor, "b d"]) -> Output:
        """Return the logits of L2-normalised image features with what they were computed from."""
        zimg = zimg.to(self.device)
        return self._output(zimg, self.method(zimg, self.text))

    @torch.no_grad()
    def predict(self, zimg: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the logits of many images on the CPU, computed in pieces that keep memory bounded."""
        rows = [torch.empty(0, len(self.class_names))]
        for images in zimg.to(self.device).split(IMAGES_AT_ONCE):
            contexts = self.method(images, self.text)
            conditional = self.method.facts.conditional
            size = max(1, TEXTS_AT_ONCE // len(self.class_names)) if conditional else len(images)
            pieces = contexts.split(size) if conditional else [contexts]
            for piece, context in zip(images.split(size), pieces, strict=True):
                rows.append(self._output(piece, context).logits.cpu())
        return torch.cat(rows)

    def score(self, zimg: Float[Tensor, "b d"], ztxt: Float[Tensor, "#b c d"]) -> Float[Tensor, "b c"]:
        """Return the logits of L2-normalised image and text features."""
        if isinstance(self.method, WithLogits):
            return self.method.logits(zimg, ztxt, self.text, self.logit_scale)
        if ztxt.shape[0] == 1:
            return self.logit_scale * zimg @ ztxt[0].T
        return self.logit_scale * torch.einsum("bd,bcd->bc", zimg, ztxt)

    def _output(self, zimg: Float[Tensor, "b d"], contexts: Tensor) -> Output:
        ztxt = self.encode_text(contexts)
        return Output(self.score(zimg, ztxt), zimg, ztxt, self.text, self.logit_scale)


@torch.no_grad()
def _frozen_text(
    backbone: Backbone, method: Method, class_names: Sequence[str], memory_budget: int | None
) -> Text:
    """Encode the sentences that a method asks for, raw: authors differ in what they normalise, and when."""
    if not isinstance(method, WithTexts):
        return {}
    nothing = torch.empty(1, 1, 0, backbone.width, device=backbone.device)
    encoders = {
        name: [
            TextEncoder(backbone, [Prompt(template)], class_names, memory_budget, normalised=False)
            for template in templates
        ]
        for name, templates in method.texts.items()
    }
    return {name: torch.cat([encode(nothing) for encode in each]) for name, each in encoders.items()}
