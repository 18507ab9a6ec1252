"""Checkpoints of the released code: what they hold is taken, what they name is never run."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cocoop import Backbone, Classifier, CocoopError, UsageError
from cocoop.methods import Method
from cocoop.methods.cocoop import Config
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.training.prompt_file import PromptCard, trained_method
from cocoop.training.released import find_checkpoint, read_prompt
from tests.methods.test_methods import NAMES, images

RAN = []


def state_dict(backbone: Backbone, meta_net: bool, dtype: torch.dtype = torch.float16) -> dict[str, Any]:
    """The prompt learner's state, as the released code saves it."""
    d, w = backbone.embed_dim, backbone.width
    hidden = d // 16
    state = {"ctx": 0.02 * torch.randn(4, w), "token_prefix": torch.randn(3, 1, w)}
    state["token_suffix"] = torch.randn(3, 72, w)
    if meta_net:
        net = nn.Sequential()
        net.add_module("linear1", nn.Linear(d, hidden))
        net.add_module("linear2", nn.Linear(hidden, w))
        state |= {f"meta_net.{name}": value for name, value in net.state_dict().items()}
    return {name: value.to(dtype) for name, value in state.items()}


def save(path: Path, state: dict[str, Any], **extra: Any) -> Path:
    """Save as Dassl does: the state beside an optimiser's and a warm-up scheduler's with an object in it."""
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=0.002, momentum=0.9)
    parameter.grad = torch.ones(3)
    optimizer.step()
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    scheduler = {
        "successor": successor,
        "warmup_epoch": 1,
        "cons_lr": 1e-5,
        "last_epoch": 10,
        "verbose": False,
    }
    checkpoint = {
        "state_dict": state,
        "epoch": 10,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler,
        "val_result": np.float64(81.5),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint | extra, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "seed1" / "prompt_learner" / "model.pth.tar-10"


def test_such_files_are_refused_without_the_list(toy: Backbone, file: Path) -> None:
    save(file, state_dict(toy, True))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)


def load(path: Path, toy: Backbone, **options: Any) -> tuple[Method, PromptCard]:
    """The prompt of a checkpoint as a method."""
    card, tensors = read_prompt(path, "toy", **options)
    return trained_method(card, tensors, toy, path), card


@pytest.mark.parametrize("legacy", [False, True])
def test_cocoop(toy: Backbone, file: Path, legacy: bool) -> None:
    state = state_dict(toy, True)
    save(file, state)
    if legacy:
        torch.save(torch.load(file, weights_only=False), file, _use_new_zipfile_serialization=False)
    method, card = load(file, toy, method="cocoop")
    assert card.notes["imported"]["epoch"] == 10
    for name, value in method.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].float())
    direct = CoCoOp(Config(), toy, template="", n_classes=3, seed=0)
    direct.load_state_dict({name: state[name].float() for name in direct.state_dict()})
    ours, theirs = (Classifier(toy, each, NAMES).predict(images(toy, 4)) for each in (method, direct))
    torch.testing.assert_close(ours, theirs)


def test_coop(toy: Backbone, file: Path) -> None:
    state = state_dict(toy, False, torch.float32)
    method, card = load(save(file, state), toy, position="middle")
    assert (card.method, card.config["position"], card.config["n_ctx"]) == ("coop", "middle", 4)
    assert torch.equal(method.state_dict()["ctx"][0], state["ctx"])


TOWERS = {
    **{f"image_encoder.{name}": 1 for name in ("class_embedding", "proj", "conv1.weight", "ln_pre.weight")},
    **{f"image_encoder.{name}": 1 for name in ("layer3.2.bn1.num_batches_tracked", "attnpool.k_proj.weight")},
    **{f"text_encoder.{name}": 1 for name in ("positional_embedding", "ln_final.bias", "text_projection")},
    **{f"text_encoder.transformer.resblocks.11.{name}": 1 for name in ("attn.in_proj_bias", "mlp.c_fc.bias")},
    "logit_scale": 1,
}


@pytest.mark.parametrize("meta_net", [False, True])
@pytest.mark.parametrize("form", ["learner", "parallel", "model", "parallel-model"])
def test_bare_state_dicts(form: str, meta_net: bool, toy: Backbone, file: Path) -> None:
    """`torch.save(model.state_dict(), path)` of the prompt learner or the model, in `DataParallel` or not."""
    state = state_dict(toy, meta_net, torch.float32)
    prefix = {"learner": "", "parallel": "module.", "model": "prompt_learner."}.get(
        form, "module.prompt_learner."
    )
    saved = {f"{prefix}{name}": value for name, value in state.items()}
    if "model" in form:
        head = prefix.removesuffix("prompt_learner.")
        saved |= {f"{head}{name}": torch.zeros(size) for name, size in TOWERS.items()}
    file.parent.mkdir(parents=True)
    torch.save(OrderedDict(saved), file)
    method, card = load(file, toy)
    assert card.method == ("cocoop" if meta_net else "coop")
    assert card.notes["imported"]["epoch"] is None
    for name, value in method.state_dict().items():
        assert torch.equal(value.reshape(state[name].shape), state[name])


def test_what_another_method_learned_in_the_towers_is_not_passed_over(toy: Backbone, file: Path) -> None:
    state = {f"prompt_learner.{name}": value for name, value in state_dict(toy, False).items()}
    for name in (
        "image_encoder.VPT",
        "text_encoder.transformer.resblocks.1.VPT_shallow",
        "adapter.fc.0.weight",
    ):
        with pytest.raises(CocoopError, match="a method other than CoOp and CoCoOp"):
            read_prompt(save(file, state | {name: torch.zeros(1)}), "toy")


def test_the_folder_of_a_run(toy: Backbone, file: Path, tmp_path: Path) -> None:
    save(file, state_dict(toy, True))
    run = file.parent.parent
    for other in ("model.pth.tar-9", "model.pth.tar-x", "model.pth.tar-1234567", "checkpoint"):
        (file.parent / other).write_text("other")
    for path in (file, file.parent, run):
        assert find_checkpoint(path) == file
    best = file.rename(file.parent / "model-best.pth.tar")
    for path in (file.parent, run):
        assert find_checkpoint(path) == best
    with pytest.raises(CocoopError, match=r"holds no checkpoint; a run keeps it in prompt_learner/model.pth"):
        find_checkpoint(tmp_path)


def test_class_specific_contexts_need_the_names(toy: Backbone, file: Path) -> None:
    ctx = torch.randn(3, 4, toy.width)
    save(file, state_dict(toy, False) | {"ctx": ctx})
    for names in ((), tuple(NAMES[:2])):
        with pytest.raises(
            UsageError, match=rf"for 3 classes, and {len(names)} names are given.*--class-names"
        ):
            read_prompt(file, "toy", class_names=names)
    method, card = load(file, toy, class_names=tuple(NAMES))
    assert not method.transferable
    assert card.class_names == NAMES
    assert torch.equal(method.state_dict()["ctx"], ctx)


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("ctx"), "no learned context"),
        (without("meta_net.linear2.bias"), "not whole: meta_net.linear2.bias is missing"),
        (lambda state: state | {"compound_prompts_text.0": torch.zeros(2, 32)}, "other than CoOp and CoCoOp"),
        (lambda state: state | {"ctx": torch.zeros(4, 512)}, r"ctx has the shape \(4, 512\) where toy needs"),
        (lambda state: state | {"ctx": torch.zeros(0, 32)}, "ctx has the shape"),
        (lambda state: state | {"ctx": torch.tensor(0.0)}, "ctx has the shape"),
        (lambda state: state | {"meta_net.linear1.bias": torch.tensor(0.0)}, "linear1.weight has the shape"),
        (lambda state: state | {"ctx": torch.zeros(76, 32)}, "76 context vectors, more than CLIP reads"),
        (lambda state: state | {"ctx": torch.zeros(4, 32, dtype=torch.int64)}, "no tensor of real numbers"),
        (lambda state: state | {"ctx": "a photo of a"}, "it holds str where a tensor belongs"),
        (lambda state: state | {"ctx": torch.full((4, 32), torch.nan)}, "training diverged"),
        (
            lambda state: state | {"meta_net.linear1.weight": torch.zeros(1, 512)},
            "linear1.weight has the shape",
        ),
        (lambda state: [1, 2], "no learned context"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: Callable[[Any], Any], message: str, toy: Backbone, file: Path
) -> None:
    save(file, change(state_dict(toy, True)))
    with pytest.raises(CocoopError, match=message):
        read_prompt(file, "toy")


def test_sizes_are_those_of_the_named_backbone(toy: Backbone, file: Path, tmp_path: Path) -> None:
    """As open_clip lists them; where only the weights tell, the checkpoint's own are taken."""
    save(file, state_dict(toy, True))
    for name in ("ViT-B/16", "ViT-B-16/openai", "RN50@weights.pt", "tiny-clip"):
        with pytest.raises(CocoopError, match=rf"ctx has the shape \(4, 32\) where {name} needs"):
            read_prompt(file, name)
    assert read_prompt(file, "hf-hub:somebody/clip")[0].backbone == "hf-hub:somebody/clip"
    for name, words in {
        "ViT-B-61": "Did you mean 'ViT-B-16",
        "ViT-B-16/opena": "Did you mean 'openai'",
        str(tmp_path): "it is not a model folder",
    }.items():
        with pytest.raises(UsageError, match=words):
            read_prompt(file, name)


def test_one_method_is_not_taken_for_the_other(toy: Backbone, file: Path) -> None:
    save(file, state_dict(toy, False))
    with pytest.raises(CocoopError, match="has no Meta-Net: it is a coop checkpoint"):
        read_prompt(file, "toy", method="cocoop")
    save(file, state_dict(toy, True))
    with pytest.raises(CocoopError, match="has a Meta-Net, which CoOp would ignore"):
        read_prompt(file, "toy", method="coop")
    with pytest.raises(UsageError, match="Did you mean 'coop'"):
        read_prompt(file, "toy", method="cop")


class Hostile:
    """Runs a function when a plain unpickler meets it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def note(word: str) -> None:
    RAN.append(word)


@pytest.mark.parametrize("place", ["scheduler", "state_dict", "val_result"])
@pytest.mark.parametrize(
    "hostile",
    [
        Hostile(note, "ran"),
        Hostile(exec, "import tests.training.test_released as t; t.note('ran')"),
        Hostile(getattr, "x", "upper"),
        Hostile(torch.optim.lr_scheduler.ReduceLROnPlateau),
    ],
    ids=["function", "exec", "getattr", "class"],
)
def test_hostile_files_run_nothing(place: str, hostile: Hostile, toy: Backbone, file: Path) -> None:
    save(file, state_dict(toy, True), **{place: {"x": hostile}})
    RAN.clear()
    with pytest.raises(CocoopError, match=r"it names .*Nothing in it was run"):
        read_prompt(file, "toy")
    assert not RAN


def test_objects_of_the_training_state_are_not_built(toy: Backbone, file: Path) -> None:
    """Even what is on the list is replaced by something inert, whatever state it is given."""
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR.__new__(torch.optim.lr_scheduler.CosineAnnealingLR)
    scheduler.__dict__.update({"step": "overwritten", "optimizer": None})
    save(file, state_dict(toy, True), scheduler={"successor": scheduler})
    read_prompt(file, "toy")


@pytest.mark.parametrize("damage", ["empty", "text", "half", "zip", "pickle", "missing", "folder"])
def test_damaged_files(damage: str, toy: Backbone, file: Path) -> None:
    save(file, state_dict(toy, True))
    whole = file.read_bytes()
    if damage == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
    elif damage in ("missing", "folder"):
        file = file.parent / "nothing" if damage == "missing" else file.parent
    else:
        content = {"empty": b"", "text": b"<html>", "half": whole[: len(whole) // 2], "pickle": b"\x80\x02}."}
        file.write_bytes(content[damage])
    with pytest.raises(CocoopError):
        read_prompt(file, "toy")
