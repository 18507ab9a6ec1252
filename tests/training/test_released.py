"""Checkpoints of the released code: what they hold is taken, what they name is never run."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cocoop import Backbone, Classifier, CocoopError, UsageError, load_prompt
from cocoop.cli import main
from cocoop.methods.cocoop import Config
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.training.released import import_official
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


@pytest.mark.parametrize("legacy", [False, True])
def test_cocoop(toy: Backbone, file: Path, tmp_path: Path, legacy: bool) -> None:
    state = state_dict(toy, True)
    save(file, state)
    if legacy:
        torch.save(torch.load(file, weights_only=False), file, _use_new_zipfile_serialization=False)
    path = import_official(file, tmp_path / "out", toy, method="cocoop")
    method, card = load_prompt(path, toy)
    assert card.notes["imported"]["epoch"] == 10
    for name, value in method.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].float())
    direct = CoCoOp(Config(), toy, template="", n_classes=3, seed=0)
    direct.load_state_dict({name: state[name].float() for name in direct.state_dict()})
    ours, theirs = (Classifier(toy, each, NAMES).predict(images(toy, 4)) for each in (method, direct))
    torch.testing.assert_close(ours, theirs)


def test_coop(toy: Backbone, file: Path, tmp_path: Path) -> None:
    state = state_dict(toy, False, torch.float32)
    method, card = load_prompt(import_official(save(file, state), tmp_path, toy, position="middle"), toy)
    assert (card.method, card.config["position"], card.config["n_ctx"]) == ("coop", "middle", 4)
    assert torch.equal(method.state_dict()["ctx"][0], state["ctx"])


def test_class_specific_contexts_need_the_names(toy: Backbone, file: Path, tmp_path: Path) -> None:
    ctx = torch.randn(3, 4, toy.width)
    save(file, state_dict(toy, False) | {"ctx": ctx})
    with pytest.raises(UsageError, match="3 classes; give their names"):
        import_official(file, tmp_path, toy)
    path = import_official(file, tmp_path, toy, class_names=tuple(NAMES))
    method, card = load_prompt(path, toy)
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
    change: Callable[[Any], Any], message: str, toy: Backbone, file: Path, tmp_path: Path
) -> None:
    save(file, change(state_dict(toy, True)))
    with pytest.raises(CocoopError, match=message):
        import_official(file, tmp_path / "out", toy)
    assert not (tmp_path / "out").exists()


def test_one_method_is_not_taken_for_the_other(toy: Backbone, file: Path, tmp_path: Path) -> None:
    save(file, state_dict(toy, False))
    with pytest.raises(CocoopError, match="has no Meta-Net: it is a coop checkpoint"):
        import_official(file, tmp_path, toy, method="cocoop")
    save(file, state_dict(toy, True))
    with pytest.raises(CocoopError, match="has a Meta-Net, which CoOp would ignore"):
        import_official(file, tmp_path, toy, method="coop")


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
def test_hostile_files_run_nothing(
    place: str, hostile: Hostile, toy: Backbone, file: Path, tmp_path: Path
) -> None:
    save(file, state_dict(toy, True), **{place: {"x": hostile}})
    RAN.clear()
    with pytest.raises(CocoopError, match=r"it names .*Nothing in it was run"):
        import_official(file, tmp_path / "out", toy)
    assert not RAN
    assert not (tmp_path / "out").exists()


def test_objects_of_the_training_state_are_not_built(toy: Backbone, file: Path, tmp_path: Path) -> None:
    """Even what is on the list is replaced by something inert, whatever state it is given."""
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR.__new__(torch.optim.lr_scheduler.CosineAnnealingLR)
    scheduler.__dict__.update({"step": "overwritten", "optimizer": None})
    save(file, state_dict(toy, True), scheduler={"successor": scheduler})
    import_official(file, tmp_path, toy)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "zip", "pickle", "missing", "folder"])
def test_damaged_files(damage: str, toy: Backbone, file: Path, tmp_path: Path) -> None:
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
        import_official(file, tmp_path / "out", toy)


def test_the_command(toy: Backbone, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(file, state_dict(toy, True))
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    command = ["import-official", str(file), "--out", str(tmp_path / "prompts"), "--backbone", "toy"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--dataset", "oxford_pets", "--classes", str(tmp_path / "names.txt")])
    assert not stopped.value.code
    (path,) = (tmp_path / "prompts").iterdir()
    assert path.name in capsys.readouterr().out.replace("\n", "")
    _, card = load_prompt(path, toy)
    assert card.template == "a photo of a {}, a type of pet."
    assert card.class_names == NAMES
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--method", "coop"])
    assert stopped.value.code == 1
    assert "has a Meta-Net" in capsys.readouterr().err.replace("\n", " ")
