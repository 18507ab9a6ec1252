"""A frozen CLIP from open_clip behind the few names that prompt learning needs."""

import logging
import math
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from jaxtyping import Float
from open_clip.model import get_model_preprocess_cfg
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.data.images import Preprocess
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.files import digest
from cocoop.seeding import seeded

EMBEDDED = "tiny-clip"  # the pre-trained model inside the package; the default everywhere
RANDOM = "random"  # as a weights tag: the architecture untrained, for tests and benchmarks

_ASSETS = Path(__file__).parent / "assets"
_TOY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
    "quick_gelu": True,
}


class Backbone:
    """A frozen CLIP in eval mode.

    Args:
        name: what `load_backbone` was called with.
        model: an open_clip `CLIP` or `CustomTextCLIP`; its parameters are frozen here.
        tokenizer: CLIP's byte-pair tokenizer.

    Attributes:
        embed_dim: d, the size of the joint embedding.
        width: w, the size of a text token's vector.
        context_length: the most tokens a prompt can have.
        logit_scale: exp of CLIP's learned temperature, 100 in the released weights.
    """

    def __init__(self, name: str, model: nn.Module, tokenizer: open_clip.SimpleTokenizer) -> None:
        self.name = name
        self.model: Any = cast(Any, model.eval().requires_grad_(False))
        self.width = int(self.token_embedding.shape[1])
        self.context_length = int(self.text_tower.context_length)
        self.logit_scale = float(self.model.logit_scale.exp())
        self._tokenizer = tokenizer

    @property
    def text_tower(self) -> Any:
        """The module with the text weights; open_clip's `CustomTextCLIP` keeps it apart."""
        return getattr(self.model, "text", self.model)

    @property
    def token_embedding(self) -> Float[Tensor, "v w"]:
        """CLIP's token table."""
        return cast(Tensor, self.text_tower.token_embedding.weight)

    @cached_property
    def embed_dim(self) -> int:
        """Size of the joint embedding, asked of the text tower's projection."""
        projection = self.text_tower.text_projection
        if projection is None:
            return self.width
        return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])

    @cached_property
    def preprocess(self) -> Preprocess:
        """The pixels the image tower expects."""
        found = get_model_preprocess_cfg(self.model)
        size = found["size"]
        if isinstance(size, (tuple, list)):
            if size[0] != size[1]:
                raise CocoopError(
                    f"{self.name} takes {size[0]}x{size[1]} images; only square ones are supported"
                )
            size = size[0]
        mean = found.get("mean") or open_clip.OPENAI_DATASET_MEAN
        std = found.get("std") or open_clip.OPENAI_DATASET_STD
        return Preprocess(int(size), tuple(mean), tuple(std))

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 over every name, shape and value of the weights."""
        state = sorted(self.model.state_dict().items())
        parts = [(f"{key} {tuple(value.shape)} {value.dtype}", value) for key, value in state]
        raw = (part for head, value in parts for part in (head, _bytes(value)))
        return digest(*raw)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.token_embedding.device

    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Encode images to L2-normalised features, on the CPU in fp32."""
        features = self.model.encode_image(images.to(self.device, self.token_embedding.dtype))
        return F.normalize(features, dim=-1).float().cpu()

    def tokenize(self, text: str) -> list[int]:
        """Tokenise a whole prompt to [SOT, ..., EOT], unpadded.

        Raises:
            UsageError: the text holds a special token, or is longer than the context.
        """
        words = self._tokenizer.encode(text)
        sot, eot = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        if sot in words or eot in words:
            raise UsageError(f"the text {text!r} contains one of CLIP's special tokens; remove it")
        if len(words) + 2 > self.context_length:
            raise UsageError(
                f"the prompt {text!r} has {len(words) + 2} tokens with start and end, more than the "
                f"{self.context_length} of {self.name}; shorten the class name or the context"
            )
        return [sot, *words, eot]

    def word(self, token: int) -> str:
        """Return the text of one token; a piece that a word goes on after ends in "-"."""
        text: str = self._tokenizer.decode([token])
        return text.rstrip() if text.endswith(" ") else f"{text}-"

    def embed_words(self, words: str) -> Float[Tensor, "m w"]:
        """Return the token embeddings of `words`, one row a token."""
        return self.token_embedding[self.tokenize(words)[1:-1]].detach().clone()

    def to(self, device: str | torch.device) -> "Backbone":
        """Move the weights and return self."""
        self.model.to(device)
        return self


def load_backbone(name: str = EMBEDDED, device: str = "cpu") -> Backbone:
    """Load a frozen CLIP.

    Args:
        name: "tiny-clip" (embedded, no network), "toy" (a few untrained layers, for tests), or any
            open_clip model as "ARCHITECTURE/TAG", e.g. "ViT-B-16/openai"; the tag "random" gives the
            architecture untrained. `cocoop list backbones` names the architectures.
        device: where to put the weights.

    Raises:
        UsageError: no such architecture or tag.
        CocoopError: the weights cannot be had here.
    """
    logging.getLogger().setLevel(max(logging.getLogger().level, logging.WARNING))
    if name == EMBEDDED:
        folder = _ASSETS / EMBEDDED
        model = open_clip.create_model(f"local-dir:{folder}")
        return _wrap(name, model).to(device)
    if name == "toy":
        with seeded(0):
            model = open_clip.CLIP(**_TOY_CONFIG)
            nn.init.constant_(model.logit_scale, math.log(100.0))
        return _wrap(name, model).to(device)
    architecture, _, tag = name.replace("ViT-B/", "ViT-B-").replace("ViT-L/", "ViT-L-").partition("/")
    if architecture not in open_clip.list_models():
        raise unknown("backbone", name, [EMBEDDED, "toy", *open_clip.list_models()])
    return _wrap(name, _create(architecture, tag)).to(device)


def _create(architecture: str, tag: str) -> nn.Module:
    if tag == RANDOM:
        with seeded(0):
            return open_clip.create_model(architecture, pretrained=None)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise unknown(f"weights of {architecture}, written {architecture}/TAG: tag", tag, [*tags, RANDOM])
    config = open_clip.get_pretrained_cfg(architecture, tag)
    try:
        # the activation belongs to the weights: the other one loads too, and gives other features
        return open_clip.create_model(
            architecture, pretrained=tag, force_quick_gelu=bool(config.get("quick_gelu", False))
        )
    except (OSError, RuntimeError) as error:
        raise CocoopError(f"the weights {architecture}/{tag} cannot be loaded: {error}") from error


def _wrap(name: str, model: nn.Module) -> Backbone:
    text = getattr(model, "text", model)
    context_length = getattr(text, "context_length", None)
    if not hasattr(text, "token_embedding") or context_length is None:
        raise CocoopError(f"{name} has a text tower without a token table; only CLIP text transformers work")
    return Backbone(name, model, open_clip.SimpleTokenizer(context_length=context_length))


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
