"""Prompts that the released CoOp and CoCoOp code has trained, read without running anything in the file.

A run's `prompt_learner/model.pth.tar-N` holds the state dict among optimiser and scheduler objects. It is
loaded by PyTorch's restricted reader with a list of what such files name; of those objects nothing is
built. Only the context and the Meta-Net are taken, checked against the backbone.
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cocoop.backbones.checkpoint import check_pickle, check_tensors
from cocoop.backbones.clip import Backbone
from cocoop.errors import CocoopError, UsageError
from cocoop.methods import cocoop, coop
from cocoop.text.prompt import Position
from cocoop.training.prompt_file import PromptCard, build_method, save_prompt
from cocoop.utils.display import brief, reason
from cocoop.utils.files import file_digest

DROPPED = ("token_prefix", "token_suffix")  # class names as embeddings; ours are an argument
MOST_EPOCHS = 1_000_000  # a larger number is none
META_NET = tuple(
    f"meta_net.{layer}.{part}" for layer in ("linear1", "linear2") for part in ("weight", "bias")
)


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


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Return the learned tensors of a checkpoint by name, and its epoch where it tells.

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
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or "ctx" not in state:
        raise CocoopError(
            f"{path} holds no learned context; a run keeps it in prompt_learner/model.pth.tar-N"
        )
    if foreign := state.keys() - {"ctx", *META_NET, *DROPPED}:
        what = min(brief(name) if isinstance(name, str) else type(name).__name__ for name in foreign)
        raise CocoopError(f"{path} holds {what} too: it is of a method other than CoOp and CoCoOp")
    learned = {name: value for name, value in state.items() if name not in DROPPED}
    try:
        check_tensors(learned, path)
    except ValueError as error:
        raise CocoopError(f"{path}: {error}") from error
    if odd := [name for name, value in learned.items() if not value.is_floating_point()]:
        raise CocoopError(f"{path}: {odd[0]} is no tensor of real numbers")
    epoch = checkpoint.get("epoch")
    return learned, epoch if isinstance(epoch, int) and 0 <= epoch < MOST_EPOCHS else None


def import_official(
    path: Path,
    out: Path,
    backbone: Backbone,
    *,
    method: str | None = None,
    template: str = "a photo of a {}.",
    class_names: tuple[str, ...] = (),
    position: Position = "end",
) -> Path:
    """Write a checkpoint of the released code as a prompt file into `out` and return its path.

    Args:
        path: the checkpoint.
        out: a folder.
        backbone: the one it was trained with.
        method: "coop" or "cocoop" where the file must be of that one; None to tell by what it holds.
        template: the zero-shot prompt of the data it was trained on.
        class_names: the classes it was trained on, in label order; class-specific contexts need them.
        position: where the class name stands; the file does not say.

    Raises:
        CocoopError: see `read_checkpoint`; or the tensors do not fit the method or the backbone.
    """
    state, epoch = read_checkpoint(path)
    found = "cocoop" if set(META_NET) & state.keys() else "coop"
    if method and method != found:
        lack = "has no Meta-Net" if found == "coop" else "has a Meta-Net, which CoOp would ignore"
        raise CocoopError(f"{path} {lack}: it is a {found} checkpoint, not a {method} one")
    make = _cocoop if found == "cocoop" else _coop
    config, tensors = make(state, backbone, class_names, position)
    if odd := [name for name, value in tensors.items() if not value.isfinite().all()]:
        raise CocoopError(f"{path}: {odd[0]} holds values that are no finite numbers; that training diverged")
    digest = file_digest(path)
    card = PromptCard(
        method=found,
        config=dataclasses.asdict(config),
        backbone=backbone.name,
        weights=backbone.weights_digest,
        template=template,
        class_names=list(class_names),
        seed=0,
        notes={"imported": {"file": path.name, "sha256": digest, "epoch": epoch}},
    )
    prompt = build_method(card, backbone)
    prompt.load_state_dict(tensors, strict=True)
    target = out / f"{found}-official-{digest[:8]}.safetensors"
    save_prompt(target, prompt, card)
    return target


def _coop(
    state: Mapping[str, Tensor], backbone: Backbone, class_names: tuple[str, ...], position: Position
) -> tuple[coop.Config, dict[str, Tensor]]:
    ctx = state["ctx"]
    specific = ctx.dim() == 3
    if specific and len(ctx) != len(class_names):
        raise UsageError(
            f"the context is class-specific, for {len(ctx)} classes; give their names in label order with "
            f"--classes FILE, one a line ({len(class_names)} given)"
        )
    n_ctx = ctx.shape[-2] if ctx.dim() > 1 else 0
    _fits(state, {"ctx": (*ctx.shape[: 1 if specific else 0], n_ctx, backbone.width)}, backbone)
    config = coop.Config(ctx_init=None, n_ctx=n_ctx, position=position, class_specific=specific)
    return config, {"ctx": ctx.float() if specific else ctx.float()[None]}


def _cocoop(
    state: Mapping[str, Tensor], backbone: Backbone, class_names: tuple[str, ...], position: Position
) -> tuple[cocoop.Config, dict[str, Tensor]]:
    if missing := sorted(set(META_NET) - state.keys()):
        raise CocoopError(f"the checkpoint's Meta-Net is not whole: {missing[0]} is missing")
    d, w = backbone.embed_dim, backbone.width
    n_ctx, hidden = len(state["ctx"]), len(state["meta_net.linear1.bias"])
    shapes = dict(zip(META_NET, [(hidden, d), (hidden,), (w, hidden), (w,)], strict=True))
    _fits(state, {"ctx": (n_ctx, w), **shapes}, backbone)
    reduction = d // max(1, hidden)
    if max(1, d // max(1, reduction)) != hidden:
        raise CocoopError(f"a Meta-Net with {hidden} hidden units is no whole reduction of {d}")
    config = cocoop.Config(ctx_init=None, n_ctx=n_ctx, reduction=reduction)
    return config, {name: value.float() for name, value in state.items()}


def _fits(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], backbone: Backbone) -> None:
    for name, shape in shapes.items():
        if tuple(state[name].shape) != shape or 0 in shape:
            raise CocoopError(
                f"{name} has the shape {tuple(state[name].shape)} where {backbone.name} needs {shape}: the "
                "prompt was trained with another backbone; give that one with --backbone"
            )
