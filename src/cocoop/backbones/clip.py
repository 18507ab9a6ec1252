"""A frozen CLIP from open_clip behind the few names that prompt learning needs."""

from functools import cached_property
from typing import Any, cast

import open_clip
import torch
from jaxtyping import Float
from open_clip.model import get_model_preprocess_cfg
from torch import Tensor, nn

from cocoop.backbones.device import AUTO, DTYPES, Precision, allow_tf32, choose_device, choose_precision
from cocoop.backbones.names import EMBEDDED, create_model
from cocoop.data.transforms import Preprocess
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import brief
from cocoop.utils.files import digest

VOCABULARY = 49408  # tokens of CLIP's byte-pair tokenizer
MAX_LETTERS = 16  # of a token on average, at most; words of natural language have about five


class Backbone:
    """A frozen CLIP in eval mode.

    Args:
        name: what `load_backbone` was called with.
        model: an open_clip `CLIP` or `CustomTextCLIP`; its parameters are frozen here.
        tokenizer: CLIP's byte-pair tokenizer.
        precision: of the towers' matrix products; the weights stay as they are.

    Attributes:
        embed_dim: d, the size of the joint embedding.
        width: w, the size of a text token's vector.
        context_length: the most tokens a prompt can have.
        logit_scale: exp of CLIP's learned temperature, 100 in the released weights.

    Examples:
        >>> import cocoop
        >>> clip = cocoop.load_backbone("tiny-clip", device="cpu")
        >>> clip.tokenize("a red apple")
        [49406, 320, 736, 3055, 49407]
        >>> clip.embed_words("a photo of a").shape
        torch.Size([4, 128])
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        tokenizer: open_clip.SimpleTokenizer,
        precision: Precision = "fp32",
    ) -> None:
        self.name = name
        self.precision = precision
        # frozen: no dropout, and batch statistics as they were trained
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
        config = get_model_preprocess_cfg(self.model)
        size = config["size"]
        if isinstance(size, (tuple, list)):
            if size[0] != size[1]:
                raise CocoopError(
                    f"{self.name} takes {size[0]}x{size[1]} images; only square ones are supported"
                )
            size = size[0]
        return Preprocess(
            int(size),
            tuple(config.get("mean") or open_clip.OPENAI_DATASET_MEAN),
            tuple(config.get("std") or open_clip.OPENAI_DATASET_STD),
            config.get("interpolation") or "bicubic",
            config.get("resize_mode") or "shortest",
        )

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
        """Encode images to features as the image tower gives them, of any length, on the CPU in fp32."""
        dtype = DTYPES.get(self.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            features = self.model.encode_image(images.to(self.device, self.token_embedding.dtype))
        return cast(Tensor, features.float().cpu())

    def tokenize(self, text: str) -> list[int]:
        """Tokenise a whole prompt to [SOT, ..., EOT], unpadded.

        OpenAI's spelling of the special tokens, "<|endoftext|>", is text like any other to this tokenizer.

        Raises:
            UsageError: the text spells one of the tokenizer's special tokens, <start_of_text> or
                <end_of_text> (also as in "<end&#95;of&#95;text>", which it resolves), is no valid Unicode, or
                is longer than the context.
        """
        if len(text) > MAX_LETTERS * self.context_length:  # the tokenizer's time grows with the square of it
            raise UsageError(f"the prompt {brief(text)} is longer than {self.name} reads; shorten it")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UsageError(f"the text {brief(text)} is not valid Unicode; write it anew")
        words = self._tokenizer.encode(text)
        sot, eot = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        if sot in words or eot in words:
            tokens = "<start_of_text> or <end_of_text>"
            raise UsageError(f"the text {brief(text)} holds a special token of CLIP, {tokens}; remove it")
        if len(words) + 2 > self.context_length:
            raise UsageError(
                f"the prompt {brief(text)} has {len(words) + 2} tokens with start and end, more than the "
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


def load_backbone(name: str = EMBEDDED, device: str = AUTO, precision: str = AUTO) -> Backbone:
    """Load a frozen CLIP.

    Args:
        name: "tiny-clip" (embedded, no network), or "toy" (a few untrained layers, for tests), or
            an open_clip model as "ARCHITECTURE/TAG", e.g. "ViT-B-16/openai" or, in the paper's spelling,
            "ViT-B/16"; the tag "random" gives the architecture untrained; or
            "ARCHITECTURE/TAG@FILE" with a file of those weights; "ARCHITECTURE@FILE" with weights of no
            known tag; the file alone where it is one of the archives that OpenAI published;
            a folder as open_clip saves it, or "hf-hub:OWNER/NAME".
        device: "cpu", "cuda", "mps"; "auto" takes an accelerator where there is one.
        precision: of the frozen towers: "fp32", "tf32" (CUDA), "bf16", "fp16"; "auto" is fp16 on CUDA and
            fp32 elsewhere.

    Raises:
        UsageError: no such architecture, tag, file, device or precision.
        CocoopError: the weights cannot be had here, or the model is not a CLIP this package understands.

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
    model = create_model(name)
    text: Any = getattr(model, "text", model)
    length = getattr(text, "context_length", None)
    if not hasattr(text, "token_embedding") or length is None:
        raise CocoopError(f"{name} has a text tower without a token table; only CLIP text transformers work")
    if text.token_embedding.weight.shape[0] != VOCABULARY:
        raise CocoopError(f"{name} has a vocabulary of its own; only CLIP's tokenizer works")
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    return Backbone(name, model, tokenizer, resolved).to(target)


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
