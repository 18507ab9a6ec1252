"""A frozen image-text model, CLIP or one like it, behind the few names that prompt learning needs."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.device import (
    AUTO,
    DTYPES,
    LEARNED,
    Precision,
    allow_tf32,
    choose_device,
    choose_precision,
)
from cocoop.backbones.family import Parts
from cocoop.backbones.interpolation import load_parts
from cocoop.backbones.names import EMBEDDED
from cocoop.backbones.pretrained import EMBEDDED_VIT
from cocoop.backbones.text_model import TextModel
from cocoop.backbones.tokenizer import Tokenizer
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.data.transforms import Preprocess
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.files import digest


class Backbone:
    """A frozen image-text model in eval mode.

    Probabilities are a softmax over candidates. A bias that all logits share, as SigLIP learned one for its
    sigmoid, does not change them, so that no method adds it.

    Args:
        name: what `load_backbone` was called with.
        parts: of the model, as its family gives them; all parameters are frozen here.
        precision: of the towers' matrix products; the weights stay as they are.

    Raises:
        CocoopError: the tokenizer is not that of the text tower.

    Attributes:
        text: the text tower.
        image: the image tower, a module.
        tokenize: whole prompts to tokens, e.g. [SOT, ..., EOT].
        preprocess: the pixels that the image tower expects.
        embed_dim: d, the size of the joint embedding.
        width: w, the size of a text token's vector.
        context_length: the most tokens a prompt can have.
        logit_scale: the factor of the cosine: exp of CLIP's learned temperature, 100 in the released weights.
        logit_bias: what SigLIP adds to every logit; None where there is none.
        languages: what the text tower reads, "English" or "multilingual"; empty where that is not known.

    Examples:
        >>> import cocoop
        >>> clip = cocoop.load_backbone("tiny-clip", device="cpu")
        >>> clip.tokenize("a red apple")
        [49406, 320, 736, 3055, 49407]
        >>> clip.embed_words("a photo of a").shape
        torch.Size([4, 128])
    """

    def __init__(self, name: str, parts: Parts, precision: Precision = "fp32") -> None:
        self.name = name
        self.precision = precision
        # frozen: no dropout, and batch statistics as they were trained
        self.model: nn.Module = parts.model.eval().requires_grad_(False)
        self.image: nn.Module = parts.image.eval()
        self.text: TextModel = _read_at_end(parts)
        self._vision_parts, self._vision = parts.vision, cast("VisionTower | None", None)
        self.preprocess: Preprocess = parts.preprocess
        self.embed_dim = self.text.embed_dim
        self.width = self.text.width
        self.context_length = self.text.context_length
        self.logit_scale = parts.logit_scale()
        self.logit_bias = parts.logit_bias() if parts.logit_bias else None
        self.languages = parts.languages
        self.tokenize = Tokenizer(parts.vocabulary, name, self.context_length)
        words = self.tokenize.words("a photo")
        if not {*words} - {parts.vocabulary.unknown} or max(words) >= self.text.vocabulary:
            raise CocoopError(f"the tokenizer of {name} is empty, or not that of its text tower")

    @property
    def text_tower(self) -> Any:
        """The module with the text weights, as its library has it."""
        return self.text.module

    @property
    def token_embedding(self) -> Float[Tensor, "v w"]:
        """The vectors of all tokens."""
        return self.text.table

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
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        return cast(Tensor, self.text.embedding.weight)

    @property
    def vision(self) -> VisionTower:
        """The image tower by its parts, for methods that learn inside it.

        Raises:
            UsageError: it cannot be taken apart; the message says why.
        """
        if self._vision is None:
            parts = self._vision_parts()
            if isinstance(parts, str):
                raise UsageError(
                    f"nothing can be learned inside the image tower of {self.name}: {parts}; choose a "
                    f"ViT, e.g. {EMBEDDED_VIT}, which is embedded"
                )
            self._vision = VisionTower(parts, LEARNED.get(self.precision))
        return self._vision

    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "b 3 h w"], cut: Cut = "feature") -> Float[Tensor, "b *n d"]:
        """Encode images to features as the image tower gives them, of any length, on the CPU in fp32.

        Args:
            images: their pixels.
            cut: where to stop, and what to return instead: see `VisionTower.below`.
        """
        if cut != "feature":
            return self.vision.below(images.to(self.device, self.dtype), cut).cpu()
        dtype = DTYPES.get(self.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            features = self.image(images.to(self.device, self.dtype))
        return cast(Tensor, features.float().cpu())

    def word(self, token: int) -> str:
        """Return the text of one token; "-" stands where the word goes on."""
        return self.tokenize.vocabulary.word(token)

    def words(self) -> Iterator[tuple[int, str]]:
        """Yield the tokens that are words or pieces of words, with their text: all but the special ones."""
        vocabulary = self.tokenize.vocabulary
        special = {*vocabulary.prefix, *vocabulary.suffix, *vocabulary.special, vocabulary.unknown}
        for token in range(min(vocabulary.size, self.text.vocabulary)):
            if token not in special:
                yield token, self.word(token)

    def embed(self, tokens: list[int]) -> Float[Tensor, "n w"]:
        """Return the vectors of tokens."""
        with torch.no_grad():
            vectors: Tensor = self.text.embedding(torch.tensor(tokens, dtype=torch.long, device=self.device))
        return vectors.detach().clone()

    def embed_words(self, words: str) -> Float[Tensor, "m w"]:
        """Return the vectors of `words`, one row a token."""
        return self.embed(self.tokenize.words(words))

    def to(self, device: str | torch.device) -> "Backbone":
        """Move the weights and return self."""
        self.model.to(device)
        self._vision = None
        return self


def load_backbone(name: str = EMBEDDED, device: str = AUTO, precision: str = AUTO) -> Backbone:
    """Load a frozen image-text model.

    Args:
        name: "tiny-clip" (embedded, no network), "tiny-clip-vit" (the same with a vision transformer as its
            image tower), or "toy" (a few untrained layers, for tests), or
            an open_clip model as "ARCHITECTURE/TAG", e.g. "ViT-B-16/openai" or, in the paper's spelling,
            "ViT-B/16"; the tag "random" gives the architecture untrained; or
            "ARCHITECTURE/TAG@FILE" with a file of those weights; "ARCHITECTURE@FILE" with weights of no
            known tag; the file alone where it is one of the archives that OpenAI published;
            a folder as open_clip or transformers saves it, "hf-hub:OWNER/NAME" for what open_clip and
            "hf:OWNER/NAME" for what transformers put on the Hub. "A+0.5*B" is the first of two models of one
            architecture, moved half the way to the second.
        device: "cpu", "cuda", "mps"; "auto" takes an accelerator where there is one.
        precision: of the frozen towers: "fp32", "tf32" (CUDA), "bf16", "fp16"; "auto" is fp16 on CUDA and
            fp32 elsewhere.

    Raises:
        UsageError: no such architecture, tag, file, device or precision.
        CocoopError: the weights cannot be had here, or the model is none that this package understands.

    Examples:
        >>> import cocoop
        >>> clip = cocoop.load_backbone("tiny-clip", device="cpu")
        >>> clip.embed_dim, clip.width, clip.context_length
        (128, 128, 32)
    """
    target = choose_device(device)
    resolved = choose_precision(precision, target)
    if target.type == "cuda":
        allow_tf32(resolved)
    return Backbone(name, load_parts(name), resolved).to(target)


def _read_at_end(parts: Parts) -> TextModel:
    """Return the text tower, without a token tree where its feature is not read at the end of prompts."""
    text, vocabulary = parts.text, parts.vocabulary
    end = vocabulary.size - 1 if text.read_at < 0 else text.read_at
    if text.transformer is None or vocabulary.suffix[-1:] == (end,):
        return text
    return text.padded("its feature is not read at the token that ends its tokenizer's prompts")


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
