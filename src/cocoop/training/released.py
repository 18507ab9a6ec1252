"""Prompts that the released CoOp and CoCoOp code has trained, read without running anything in the file.

A run's `prompt_learner/model.pth.tar-N` holds the state dict among optimiser and scheduler objects. It is
loaded by PyTorch's restricted reader with a list of what such files name; of those objects nothing is
built. Only the context and the Meta-Net are taken, and checked against the sizes of the backbone.
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cocoop.backbones.family import text_sizes
from cocoop.backbones.state import check_pickle, check_tensors
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.methods import cocoop, coop
from cocoop.text.prompt import Position
from cocoop.training.prompt_file import PromptCard
from cocoop.utils.display import brief, reason
from cocoop.utils.files import file_digest

LEARNER, BEST = "prompt_learner", "model-best.pth.tar"  # names that the released code gives
DROPPED = ("token_prefix", "token_suffix")  # class names as embeddings; ours are an argument
MOST_EPOCHS = 1_000_000  # a larger number is none
MOST_VECTORS = 75  # CLIP reads 77 tokens, start and end among them
META_NET = tuple(
    f"meta_net.{layer}.{part}" for layer in ("linear1", "linear2") for part in ("weight", "bias")
)
# the frozen CLIP in a state dict of the whole model
_FROZEN = re.compile(
    r"logit_scale|(image|text)_encoder\.(transformer\.resblocks\.\d+\.(attn|ln_1|ln_2|mlp)\..+"
    r"|(class|positional)_embedding|(text_projection|proj)|(ln_pre|ln_post|ln_final|conv\d|bn\d)\.\w+"
    r"|(layer\d|attnpool)\..+)"
)


class _Sizes(NamedTuple):
    """Of a backbone: its name, the size of a text token's vector, and that of the joint embedding."""

    name: str
    width: int
    embed_dim: int


class _Inert:
    """Stands where the file names an object of the training state: takes anything, keeps nothing."""

    def __new__(cls, *arguments: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _plain_dict(*arguments: object) -> dict[Any, Any]:
    return {}


_TRAINING_STATE = (
    *(
        f"torch.optim.lr_scheduler.{name}"
        for name in ("CosineAnnealingLR", "StepLR", "MultiStepLR", "LambdaLR")
    ),
    *(f"dassl.optim.lr_scheduler.{name}WarmupScheduler" for name in ("Constant", "Linear")),
    *(f"torch.optim.{name.lower()}.{name}" for name in ("SGD", "Adam", "AdamW", "RMSprop")),
    *(f"numpy.{name}" for name in ("dtype", "core.multiarray.scalar", "_core.multiarray.scalar")),
    *(f"numpy.dtypes.{name}" for name in ("Float64DType", "Float32DType", "Int64DType")),
    "_codecs.encode",
)
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((_Inert, name) for name in _TRAINING_STATE),
    (_plain_dict, "collections.defaultdict"),
    (dict, "builtins.dict"),
    (dict, "__builtin__.dict"),
]


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path means.

    Args:
        path: the file, or the folder `prompt_learner` of a run, or the run's folder. Of several checkpoints
            `model-best.pth.tar` is taken, as the released code does, else that of the highest epoch.

    Raises:
        CocoopError: the folder holds none.
    """
    if not path.is_dir():
        return path
    folder = path / LEARNER if (path / LEARNER).is_dir() else path
    if (folder / BEST).is_file():
        return folder / BEST
    matches = [re.fullmatch(r"model\.pth\.tar-([0-9]{1,6})", file.name) for file in folder.iterdir()]
    epochs = {int(match[1]): match[0] for match in matches if match}
    if not epochs:
        raise CocoopError(f"{folder} holds no checkpoint; a run keeps it in {LEARNER}/model.pth.tar-N")
    return folder / epochs[max(epochs)]


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Return the learned tensors of a checkpoint by name, in fp32, and its epoch where it tells.

    Args:
        path: what the released code saved; or a state dict alone, of its prompt learner or its whole model.

    Raises:
        CocoopError: the file is no such checkpoint, or names anything that those do not hold.
    """
    try:
        check_pickle(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_ALLOWED):
            warnings.simplefilter("ignore")
            # a pickle, as the released code left it: read by the restricted reader alone
            checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CocoopError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # whatever a damaged or hostile file provokes
        named = re.search(r"GLOBAL (\S+)|function (.+)", str(error))
        why = f"it names {named[1] or named[2]}" if named else reason(error)
        raise CocoopError(
            f"{path} is no checkpoint of the released code, or not a safe one: {why}. Nothing in it was run."
        ) from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    learned = _learned(state) if isinstance(state, dict) else {}
    if "ctx" not in learned:
        raise CocoopError(f"{path} holds no learned context; a run keeps it in {LEARNER}/model.pth.tar-N")
    if foreign := learned.keys() - {"ctx", *META_NET}:
        what = min(brief(name) if isinstance(name, str) else type(name).__name__ for name in foreign)
        raise CocoopError(f"{path} holds {what} too: it is of a method other than CoOp and CoCoOp")
    try:
        check_tensors(learned, path)
    except ValueError as error:
        raise CocoopError(f"{path}: {error}") from error
    if odd := [name for name, value in learned.items() if not value.is_floating_point()]:
        raise CocoopError(f"{path}: {odd[0]} is no tensor of real numbers")
    epoch = checkpoint.get("epoch")
    known = isinstance(epoch, int) and 0 <= epoch < MOST_EPOCHS
    return {name: value.float() for name, value in learned.items()}, epoch if known else None


def _learned(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return what is learned of a state dict, by its names in the prompt learner."""
    learned = {}
    for name, value in state.items():
        if isinstance(name, str):
            name = name.removeprefix("module.").removeprefix(f"{LEARNER}.")
            if name in DROPPED or _FROZEN.fullmatch(name):
                continue
        learned[name] = value
    return learned


def read_prompt(
    path: Path,
    backbone: str,
    *,
    method: str | None = None,
    template: str = "a photo of a {}.",
    class_names: tuple[str, ...] = (),
    position: Position = "end",
) -> tuple[PromptCard, dict[str, Tensor]]:
    """Return the prompt in a checkpoint of the released code as a method's card and tensors.

    The backbone is not loaded. The card has no digest of its weights, since the checkpoint does not tell it.

    Args:
        path: the checkpoint.
        backbone: name of the one it was trained with.
        method: the method it must be of; None to tell by what it holds.
        template: the zero-shot prompt of the data it was trained on.
        class_names: the classes it was trained on, in label order; class-specific contexts need them.
        position: where the class name stands; the file does not say.

    Raises:
        UsageError: no such backbone or method, or class-specific contexts without the name of each class.
        CocoopError: see `read_checkpoint`; or the tensors do not fit the method or the backbone.
    """
    if method and method not in _CONVERTERS:
        raise unknown("method of the released code", method, _CONVERTERS)
    sizes = text_sizes(backbone)
    state, epoch = read_checkpoint(path)
    kind = "cocoop" if set(META_NET) & state.keys() else "coop"
    if method and method != kind:
        lack = "has no Meta-Net" if kind == "coop" else "has a Meta-Net, which CoOp would ignore"
        raise CocoopError(f"{path} {lack}: it is a {kind} checkpoint, not a {method} one")
    if odd := [name for name, value in state.items() if not value.isfinite().all()]:
        raise CocoopError(f"{path}: {odd[0]} holds values that are no finite numbers; that training diverged")
    own = [(0, *state[name].shape)[-1] if name in state else 0 for name in ("ctx", META_NET[0])]
    config, tensors = _CONVERTERS[kind](state, _Sizes(backbone, *(sizes or own)), class_names, position)
    if config.n_ctx > MOST_VECTORS:
        raise CocoopError(f"{path} has {config.n_ctx:,} context vectors, more than CLIP reads")
    card = PromptCard(
        method=kind,
        config=dataclasses.asdict(config),
        backbone=backbone,
        weights="",
        template=template,
        class_names=list(class_names),
        seed=0,
        notes={"imported": {"file": path.name, "sha256": file_digest(path), "epoch": epoch}},
    )
    return card, tensors


def _coop(
    state: Mapping[str, Tensor], backbone: _Sizes, class_names: tuple[str, ...], position: Position
) -> tuple[coop.Config, dict[str, Tensor]]:
    ctx = state["ctx"]
    specific = ctx.dim() == 3
    if specific and len(ctx) != len(class_names):
        raise UsageError(
            f"the context is class-specific, for {len(ctx)} classes, and {len(class_names)} names are given; "
            "give the names it was trained on, in label order and one a line: --class-names FILE"
        )
    n_ctx = ctx.shape[-2] if ctx.dim() > 1 else 0
    _check(state, {"ctx": (*ctx.shape[: int(specific)], n_ctx, backbone.width)}, backbone)
    config = coop.Config(ctx_init=None, n_ctx=n_ctx, position=position, class_specific=specific)
    return config, {"ctx": ctx if specific else ctx[None]}


def _cocoop(
    state: Mapping[str, Tensor], backbone: _Sizes, class_names: tuple[str, ...], position: Position
) -> tuple[cocoop.Config, dict[str, Tensor]]:
    if missing := sorted(set(META_NET) - state.keys()):
        raise CocoopError(f"the checkpoint's Meta-Net is not whole: {missing[0]} is missing")
    w, d = backbone.width, backbone.embed_dim
    n_ctx, hidden = ((*state[name].shape, 0)[0] for name in ("ctx", "meta_net.linear1.bias"))
    shapes = dict(zip(META_NET, [(hidden, d), (hidden,), (w, hidden), (w,)], strict=True))
    _check(state, {"ctx": (n_ctx, w), **shapes}, backbone)
    reduction = d // hidden
    if max(1, d // max(1, reduction)) != hidden:
        raise CocoopError(f"a Meta-Net with {hidden} hidden units is no whole reduction of {d}")
    return cocoop.Config(ctx_init=None, n_ctx=n_ctx, reduction=reduction), dict(state)


def _check(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], backbone: _Sizes) -> None:
    for name, shape in shapes.items():
        if tuple(state[name].shape) != shape or 0 in shape:
            raise CocoopError(
                f"{name} has the shape {tuple(state[name].shape)} where {backbone.name} needs {shape}: the "
                "prompt was trained with another backbone; give that one with --backbone"
            )


_CONVERTERS: dict[str, Callable[..., tuple[Any, dict[str, Tensor]]]] = {"coop": _coop, "cocoop": _cocoop}
