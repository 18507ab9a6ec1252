"""One file adds a method with any hook: two files that between them have all, dropped into the folder."""

import inspect
from pathlib import Path

import pytest

import cocoop
from cocoop import Backbone, UsageError
from cocoop.methods import METHODS, _hooks
from cocoop.methods._settings import resolve
from cocoop.report.tables.notes import notes
from cocoop.report.tables.results import results
from tests.methods.drop_in import drop_in

HEAD = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F
from cocoop.methods import METHODS, Facts, Paper, Preset, Recipe
from cocoop.methods._parts import Draws
from cocoop.text.prompt import Prompt, context_template, init_context

PAPER = Paper("Test", "Doe et al.", "ICLR 2099", "2098-10", "https://example.org/test")
"""
CACHED = (
    HEAD
    + '''
@dataclass(frozen=True)
class Config:
    selects_on: str = "few-shot validation"

@METHODS.register("cached")
class Model(nn.Module):
    """Class means of the shots, mixed with sentences, tuned by two terms, and mixed by a selected weight."""
    facts = Facts("Cached", "is a test", PAPER, selects_on="few-shot validation", bound=True)
    config_type = Config
    presets = {"cached": Preset(Config(), Recipe(epochs=1, batch_size=8, views=2), "a test")}
    transferable = False
    def __init__(self, cfg, backbone, *, template, n_classes, seed):
        super().__init__()
        self.selects_on, self.width = cfg.selects_on, backbone.width
        self.prompts = (Prompt(template),)
        self.texts = {"own": (template, "a {}.")}
        self.means = nn.Parameter(torch.empty(0, backbone.embed_dim))
        self.register_buffer("weight", torch.tensor(1.0))
        self.combined = 0
    def sentences(self, class_names):
        return {"about": [[f"this is a {name}.", f"look, a {name}."] for name in class_names]}
    def forward(self, zimg, text):
        return zimg.new_empty(1, 1, 0, self.width)
    def fit(self, bank):
        views, labels = bank.fimg.flatten(0, 1), bank.labels.repeat(len(bank.fimg))
        classes = bank.text["own"].shape[1]
        self.means.data = torch.stack([views[labels == c].mean(0) for c in range(classes)])
    def derive(self, text, rows):
        return {"mean": F.normalize(text["own"].mean(0), dim=-1)}
    def logits(self, out):
        means = F.normalize(self.means[out.rows] if len(self.means) else out.text["own"].mean(0), dim=-1)
        known = out.text.get("mean", means)
        about = F.normalize(out.sentences["about"].features, dim=-1).mean(0)
        return out.similarity + self.weight * out.zimg @ (means + known + about).T
    def loss(self, out, labels):
        return {"cross-entropy": F.cross_entropy(out.logits, labels), "size": self.means.square().mean()}
    def combine(self, gradients):
        self.combined += 1
        return gradients[0]
    def finish(self, bank):
        self.weight.fill_(3.0 if len(bank.fval) else 2.0)
        return {"weight": float(self.weight), "steps": self.combined}
'''
)
SEARCHED = (
    HEAD
    + '''
@dataclass(frozen=True)
class Config:
    size: float = 1.0

@METHODS.register("searched")
class Model(nn.Module):
    """A context moved at random wherever that lowers the loss, and a little by the image."""
    facts = Facts(name="Searched", summary="is a test", paper=PAPER, conditional=True)
    config_type = Config
    presets = {"searched": Preset(Config(), Recipe(epochs=2, batch_size=16), "a test")}
    transferable = True
    def __init__(self, cfg, backbone, *, template, n_classes, seed):
        super().__init__()
        self.ctx = nn.Parameter(init_context(backbone, "a photo of a", 4, seed))
        self.prompts = (Prompt(context_template("a photo of a", 4), 4),)
        self.draws = Draws(seed)
    def forward(self, zimg, text):
        return self.from_hidden(self.hidden(zimg))
    def hidden(self, zimg):
        return F.relu(zimg[:, :3])
    def from_hidden(self, hidden):
        return (self.ctx + 0.1 * hidden.sum(1)[:, None, None])[:, None]
    def search(self, loss):
        assert self.ctx.grad is not None
        before, value = loss(), self.ctx.detach().clone()
        step = torch.randn(value.shape, generator=self.draws())
        self.ctx.data = value + 0.1 * step
        if loss() >= before:
            self.ctx.data = value
'''
)


def hooks_of(code: str) -> set[str]:
    """Names of what the hooks ask for that a file has."""
    protocols = [value for name, value in vars(_hooks).items() if name.startswith("With")]
    members = {name for each in protocols for name in (*each.__annotations__, *vars(each)) if name[0] != "_"}
    return {name for name in members if f"def {name}(" in code or f"self.{name}" in code}


def test_the_files_have_every_hook() -> None:
    protocols = [value for name, value in vars(_hooks).items() if name.startswith("With")]
    assert all(inspect.isclass(each) for each in protocols)
    members = {name for each in protocols for name in (*each.__annotations__, *vars(each)) if name[0] != "_"}
    assert hooks_of(CACHED) | hooks_of(SEARCHED) == members


def test_a_method_with_hooks_runs_and_says_what_it_selected_on(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(CACHED, "cached", tmp_path, monkeypatch)
    call = {"methods": ["cached"], "seeds": [0], "shots": 1, "backbone": "toy", "folder": tmp_path / "runs"}
    records = cocoop.run("few-shot", datasets=["emoji/activities"], **call)  # type: ignore[arg-type]
    (own,) = [record for record in records if record.cell.training.method == "cached"]
    classes = len(own.class_names)
    assert own.selected == {"weight": 3.0, "steps": classes // 8}
    assert own.selected_on == f"few-shot validation, {classes} images"
    assert set(own.terms) == {"cross-entropy", "size"}
    assert own.learned_bytes > 4 * own.parameters
    again = cocoop.run("few-shot", datasets=["emoji/activities"], **call)  # type: ignore[arg-type]
    assert again == records
    (result,) = results(records)
    assert "Selected on few-shot validation: cached." in notes(result.frame, result.records)
    with pytest.raises(UsageError, match="values of its own for every training class"):
        cocoop.run("base-to-new", datasets=["emoji/activities"], **call)  # type: ignore[arg-type]


def test_names_bound_values_are_picked_for_other_domains(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(CACHED, "cached", tmp_path, monkeypatch)
    call = {"methods": ["cached"], "seeds": [0], "shots": 1, "backbone": "toy", "folder": tmp_path / "runs"}
    records = cocoop.run("domain-generalization", datasets=["emoji/food"], **call)  # type: ignore[arg-type]
    splits = {r.cell.testing.split for r in records if r.cell.training.method == "cached"}
    assert len(splits) > 1


def test_a_method_that_searches_runs(toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_in(SEARCHED, "searched", tmp_path, monkeypatch)
    assert resolve("searched").recipe is not None
    assert METHODS.get("searched").facts.name == "Searched"
    call = {"methods": ["searched"], "seeds": [0], "shots": 1, "backbone": "toy", "folder": tmp_path / "runs"}
    records = cocoop.run("base-to-new", datasets=["emoji/activities"], **call)  # type: ignore[arg-type]
    own = [record for record in records if record.cell.training.method == "searched"]
    assert [len(record.loss) for record in own] == [2, 2]
    linear = cocoop.run(  # type: ignore[arg-type]
        "base-to-new", datasets=["emoji/activities"], testing="linear", **call
    )
    assert [record.cell.training.label for record in linear if record.approximation] == [
        "searched (linear)"
    ] * 2
