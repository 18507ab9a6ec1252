"""One file adds a method with any hook: files that between them have all, dropped into the folder."""

import inspect
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import cocoop
from cocoop import Backbone, UsageError
from cocoop.backbones.features import ImageEncoder
from cocoop.data import open_dataset
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, _hooks, build
from cocoop.methods._settings import resolve
from cocoop.report.page import html
from cocoop.report.tables import tables
from cocoop.report.tables.blocks import table_blocks
from cocoop.report.tables.notes import notes
from cocoop.report.tables.results import results
from cocoop.training.classifier import Classifier
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
TOWERED = (
    HEAD
    + '''
from cocoop.backbones.block import Change, Changes

@dataclass(frozen=True)
class Config:
    cut: int = 1

@METHODS.register("towered")
class Model(nn.Module):
    """Vectors inside the image tower, which draws; a scale inside the text tower; another view's feature."""
    facts = Facts("Towered", "is a test", PAPER, cut="block")
    config_type = Config
    presets = {"towered": Preset(Config(), Recipe(
        epochs=2, batch_size=16, lr=0.001, schedule="step", first_stage=0.5), "a test")}
    transferable = True
    def __init__(self, cfg, backbone, *, template, n_classes, seed):
        super().__init__()
        self.width, self.prompts = backbone.width, (Prompt(template),)
        self.cut = cfg.cut if cfg.cut >= 0 else "pixels"
        self.step_views = 2
        self.vectors = nn.Parameter(torch.zeros(1, 2, backbone.vision.width))
        self.register_buffer("names", torch.zeros((), dtype=torch.long))
        self.scale = nn.Parameter(torch.zeros(backbone.width))
    def forward(self, zimg, text):
        return zimg.new_empty(1, 1, 0, self.width)
    def image(self, state, tower):
        prompts = {1: F.dropout(self.vectors, 0.5, self.training)}
        pairs = state.dim() == (5 if self.cut == "pixels" else 4)
        first, second = state.unbind(1) if pairs else (state, state)
        return torch.cat([tower.above(first, self.cut, prompts), tower.above(second, self.cut)], 1)
    def second_stage(self, ftxt):
        self.names += len(ftxt)
    def text_changes(self):
        return Changes({1: Change(beside=lambda x: x * self.scale)})
    def logits(self, out):
        assert out.others.shape[1:] == (1, out.fimg.shape[1])
        return out.similarity + out.logit_scale * F.normalize(out.others[:, 0], dim=-1) @ out.ztxt[0].T
'''
)
SEEING = (
    HEAD
    + '''
from cocoop.data.views import ImageViews

@dataclass(frozen=True)
class Config:
    looks: int = LOOKS

@METHODS.register("NAME")
class Model(nn.Module):
    """Logits that depend on other views, or on other images."""
    facts = Facts("Seeing", "is a test", PAPER, images=False, training="none", draws=True, adapts_to="KIND")
    config_type = Config
    presets = {"NAME": Preset(Config(), None, "a test")}
    transferable = True
    def __init__(self, cfg, backbone, *, template, n_classes, seed):
        super().__init__()
        self.width, self.prompts = backbone.width, (Prompt(template),)
        self.image_views = ImageViews(cfg.looks)
    def forward(self, zimg, text):
        return zimg.new_empty(1, 1, 0, self.width)
    def zero_shot(self, images):
        ztxt = F.normalize(images.encode(self(images.zimg[:, 0], images.text)), dim=-1)[0]
        return images.logit_scale * images.zimg.mean(1) @ ztxt.T
'''
)
VIEWED = (
    SEEING.replace("KIND", "views").replace("NAME", "viewed").replace("LOOKS", "3")
    + """
    def adapt(self, images):
        return self.zero_shot(images)
"""
)
STREAMED = (
    SEEING.replace("KIND", "stream").replace("NAME", "streamed").replace("LOOKS", "1")
    + """
    def observe(self, images):
        logits = self.zero_shot(images)
        before = logits.cumsum(0) / torch.arange(1, len(logits) + 1)[:, None]
        return logits - before
"""
)
GATHERED = (
    SEEING.replace("KIND", "whole set").replace("NAME", "gathered").replace("LOOKS", "1")
    + """
    def assign(self, images):
        logits = self.zero_shot(images)
        return logits - logits.mean(0), {"images": len(logits)}
"""
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
    assert set().union(*map(hooks_of, (CACHED, SEARCHED, TOWERED, VIEWED, STREAMED, GATHERED))) == members


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


@pytest.mark.parametrize("kept", [True, False])
def test_a_method_learns_inside_the_towers(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """What is kept at the cut, made when a step asks for it, or cut at the pixels: the same training."""
    losses = []
    drop_in(TOWERED, "towered", tmp_path, monkeypatch)
    if not kept:
        monkeypatch.setattr(ImageEncoder, "keeps", lambda self, images: self.cut == "feature")
    monkeypatch.setenv("COCOOP_CACHE", str(tmp_path / "cache"))
    for cut in ("1", "-1"):
        folder = tmp_path / cut
        records = cocoop.run(
            "base-to-new",
            datasets=["emoji/activities"],
            methods=["towered"],
            overrides=[f"towered.cut={cut}"],
            seeds=[1],
            shots=1,
            backbone="toy",
            folder=folder / "runs",
        )
        own = [record for record in records if record.cell.training.method == "towered"]
        assert own[0].loss[1] != own[0].loss[0]
        losses.append([[*record.loss, record.correct] for record in own])
        entries = [load_file(path)["features"] for path in tmp_path.glob("cache/features/*/*")]
        assert any(entry.dim() == 3 for entry in entries) == kept
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-4, atol=1e-4)


def run_on_halves(
    name: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...] = (1, 2)
) -> list[Record]:
    drop_in(code, name, folder, monkeypatch)
    return cocoop.run(
        "base-to-new",
        datasets=["emoji/activities"],
        methods=[name],
        seeds=list(seeds),
        shots=1,
        backbone="toy",
        folder=folder / "runs",
    )


def by_hand(record: Record, clip: Backbone, order: torch.Tensor | None, looks: int = 1) -> int:
    """Images right, of what the method says about features in an order."""
    data = open_dataset("emoji/activities")
    items, names = record.cell.testing.choose(data)
    kind = METHODS.get(record.cell.training.method)
    method = build(record.cell.training.method, kind.config_type(), clip, template=data.template,
                   n_classes=1, seed=0)  # fmt: skip
    order = torch.arange(len(items)) if order is None else order.long()
    encoder = ImageEncoder(clip, None, data.decode)
    seen = encoder.looks(data.root, items, method.image_views, record.cell.training.seed)  # type: ignore[attr-defined]
    assert seen.shape[1] == looks
    torch.testing.assert_close(seen[:, 0], encoder.test(data.root, items))
    answers = Classifier(clip, method.eval(), names).predict(seen[order]).argmax(1)
    return int((answers == torch.tensor([items[place].label for place in order.tolist()])).sum())


def test_a_stream_is_in_an_order_that_the_record_tells(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = run_on_halves("streamed", STREAMED, tmp_path, monkeypatch)
    own = [record for record in records if record.cell.training.method == "streamed"]
    assert [record.order.split(",")[0] for record in own] == ["seed 1", "seed 1", "seed 2", "seed 2"]
    assert len({record.order for record in own}) == 4
    assert not any(record.order for record in records if record not in own)
    for record in own:
        top = load_file(tmp_path / "runs" / "predictions" / f"{record.cell.key}.safetensors")
        assert sorted(top["order"].tolist()) == list(range(record.total))
        assert record.correct == by_hand(record, toy, top["order"])
    (result,) = results(records)
    said = "streamed sees test images, without labels: the test images before each one, in a stream"
    assert f"{said}; drawn by seed 1, 2." in notes(result.frame, result.records)


def test_views_of_an_image_are_of_the_seed(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = run_on_halves("viewed", VIEWED, tmp_path, monkeypatch)
    own = [record for record in records if record.cell.training.method == "viewed"]
    assert len(own) == 4
    for record in own:
        assert record.correct == by_hand(record, toy, None, looks=3)
        assert not record.order


def test_rows_of_methods_that_see_test_images_stand_apart(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(GATHERED, "gathered", tmp_path, monkeypatch)
    records = cocoop.run(
        "base-to-new",
        datasets=["emoji/activities"],
        methods=["coop", "gathered"],
        overrides=["coop.epochs=1"],
        seeds=[1],
        shots=1,
        backbone="toy",
        folder=tmp_path / "runs",
    )
    own = [record for record in records if record.cell.training.method == "gathered"]
    assert [record.selected for record in own] == [{"images": record.total} for record in own]
    assert [record.cell.training.seed for record in own] == [1, 1]
    (result,) = results(records)
    assert list(result.frame["method"]) == ["zeroshot", "coop (epochs=1)", "gathered"]
    frame = result.frame.assign(base=[1.0, 2.0, 3.0], new=[3.0, 2.0, 4.0])
    shown = tables.text(frame, result.learned)
    assert shown["method"].iloc[2] == "gathered, sees test images"
    assert list(shown["new"]) == ["3.00", "2.00 ▼", "4.00"]  # below zero-shot, not below what sees images
    (block,) = table_blocks(frame, result.learned)
    assert [row.note for row in block.rows] == ["", "", "sees test images"]
    assert [[value.best for value in row.values[:2]] for row in block.rows] == [
        [False, True],
        [True, False],
        [False, False],
    ]
    page = html.page(Store(tmp_path / "runs"))
    assert "gathered sees test images, without labels: all test images at once." in page
