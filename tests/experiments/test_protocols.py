"""Every protocol: its cells, which of them share a prompt, its table, and one run of them all."""

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

import cocoop
from cocoop import Backbone, Classifier, UsageError
from cocoop.experiments.cell import Cell
from cocoop.experiments.protocols import PROTOCOLS, DatasetSummary, Settings
from cocoop.experiments.protocols.ablation import without_meta_net
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.methods import METHODS
from cocoop.methods._settings import resolve
from cocoop.report.page import html
from cocoop.report.show import report
from cocoop.report.tables.results import results
from tests.trees import make_imagenet, make_tree

SUMMARIES = {name: DatasetSummary(fewest=20, most=20, domains=("mono",), room=18) for name in ("a", "b", "c")}
VARIANTS = ["imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"]


def settings(**changes: object) -> Settings:
    methods = tuple(resolve(name) for name in ("zeroshot", "coop", "cocoop"))
    values = {
        "datasets": ("a", "b", "c"),
        "methods": methods,
        "seeds": (0, 1),
        "shots": 16,
        "summaries": SUMMARIES,
    }
    return Settings(backbone="toy", weights="0", **(values | changes))  # type: ignore[arg-type]


def cells(protocol: str, **changes: object) -> list[Cell]:
    return PROTOCOLS.get(protocol).cells(settings(**changes))


def trainings(protocol: str, **changes: object) -> set[str]:
    return {cell.training.key for cell in cells(protocol, **changes) if cell.training.recipe}


def records(protocol: str, accuracies: Iterator[float], total: int = 100, **changes: object) -> list[Record]:
    """Records of all cells, with the accuracies in the order of the cells."""
    empty = {"metrics": {}, "lr": [], "loss": [], "environment": {}, "files": "", "created": ""}
    return [
        Record(
            cell=cell,
            correct=round(next(accuracies) * total / 100),
            total=total,
            class_names=["x", "y"],
            train_images=4,
            parameters=7 if cell.training.recipe else 0,
            seconds_per_step=0,
            peak_memory_mb=0,
            **empty,
        )
        for cell in cells(protocol, **changes)
    ]


def only(frame: pd.DataFrame, dataset: str, method: str) -> pd.Series:
    return frame[(frame["dataset"] == dataset) & (frame["method"] == method)].iloc[0]


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_a_protocol_says_what_it_is(name: str) -> None:
    protocol = PROTOCOLS.get(name)
    assert protocol.title
    assert protocol.paper
    assert protocol.about.endswith(".")
    planned = cells(name)
    assert len({cell.key for cell in planned}) == len(planned) > 0
    assert {cell.protocol for cell in planned} == {name}
    assert any(cell.training.method == "zeroshot" for cell in planned)
    assert protocol.table([]).empty


def test_protocols_share_prompts() -> None:
    for seed in (0, 1):  # the same prompts of one source, whatever they are tested on
        source = trainings("cross-dataset", seeds=(seed,))
        assert source < trainings("domain-generalization", seeds=(seed,))
        assert source < trainings("few-shot", seeds=(seed,))
    assert trainings("class-incremental") == trainings("base-to-new") < trainings("ablation")


def test_cross_dataset_tests_one_source_on_the_others() -> None:
    for changes, source in (({}, "a"), ({"source": "b"}, "b"), ({"datasets": ("a", "imagenet")}, "imagenet")):
        planned = cells("cross-dataset", **changes)
        assert {cell.training.dataset for cell in planned} == {source}
        assert {cell.testing.dataset for cell in planned} == {source, *settings(**changes).datasets}
        assert {cell.transfers for cell in planned if cell.testing.dataset != source} == {True, False}
        assert not any(cell.transfers for cell in planned if cell.testing.dataset == source)
    with pytest.raises(UsageError, match="besides a, give at least one more"):
        cells("cross-dataset", datasets=("a",))


def test_shifted_domains_are_lists_of_a_dataset_or_datasets() -> None:
    planned = cells("domain-generalization", datasets=("a", "imagenet", "plain"))
    tested = {cell.training.dataset: set() for cell in planned}
    for cell in planned:
        tested[cell.training.dataset].add((cell.testing.dataset, cell.testing.split))
    assert tested == {
        "a": {("a", "test"), ("a", "mono")},
        "imagenet": {("imagenet", "test"), *((name, "test") for name in VARIANTS)},
    }
    with pytest.raises(UsageError, match="plain has none"):
        cells("domain-generalization", datasets=("plain",))


def test_shots_stop_where_classes_have_no_more_images() -> None:
    assert {cell.training.shots for cell in cells("few-shot") if cell.training.recipe} == {1, 2, 4, 8, 16}
    few = {name: DatasetSummary(2, 2, (), 18) for name in SUMMARIES}
    assert {c.training.shots for c in cells("few-shot", summaries=few) if c.training.recipe} == {1, 16}
    assert {c.training.shots for c in cells("few-shot", shots=4) if c.training.recipe} == {1, 2, 4}


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    variants = {cell.training.label: cell.training for cell in cells("ablation")}
    assert set(variants) == {
        "zeroshot",
        "coop",
        "coop (M=18, random)",
        "cocoop",
        *(f"cocoop (M={m}, random)" for m in (4, 8, 16)),
        "cocoop (no Meta-Net)",
        "cocoop (other images)",
    }
    changed = {
        label: [
            key
            for key in ("method", "recipe", "config")
            if getattr(variants[label], key) != getattr(variants["cocoop"], key)
        ]
        for label in variants
        if label.startswith("cocoop (")
    }
    assert changed.pop("cocoop (no Meta-Net)") == ["method", "config"]
    assert changed.pop("cocoop (other images)") == ["method"]
    assert set(map(tuple, changed.values())) == {("config",)}
    wide = {name: DatasetSummary(20, 20, (), 70) for name in SUMMARIES}
    assert "coop (M=60, random)" in {cell.training.label for cell in cells("ablation", summaries=wide)}


def test_leaving_out_the_meta_net_is_cocoop_with_a_silent_one(toy: Backbone) -> None:
    choice = resolve("cocoop")
    plain = without_meta_net(choice)
    build = {"template": "{}.", "n_classes": 3, "seed": 0}
    silent = METHODS.get("cocoop")(choice.config, toy, **build)
    with torch.no_grad():
        silent.meta_net.linear2.weight.zero_()
        silent.meta_net.linear2.bias.zero_()
    coop = METHODS.get(plain.method)(plain.config, toy, **build)
    zimg = torch.nn.functional.normalize(
        torch.randn(4, toy.embed_dim, generator=torch.Generator().manual_seed(0)), dim=1
    )
    for method in (silent, coop):
        torch.nn.functional.cross_entropy(
            Classifier(toy, method, ["cat", "dog", "red fox"])(zimg), torch.tensor([0, 1, 2, 0])
        ).backward()
    torch.testing.assert_close(silent.ctx.grad, coop.ctx.grad[0], rtol=1e-3, atol=1e-4)
    assert plain.recipe == choice.recipe


def test_class_incremental_counts_the_images_of_both_halves() -> None:
    planned = cells("class-incremental", datasets=("a",), seeds=(0,))
    assert {(cell.testing.subset, cell.testing.candidates) for cell in planned} == {
        ("base", "all"),
        ("new", "all"),
    }
    made = records("class-incremental", itertools.cycle([80.0, 50.0]), datasets=("a",), seeds=(0, 1))
    for place, record in enumerate(made):  # 150 base and 50 new images
        size = 150 if record.cell.testing.subset == "base" else 50
        made[place] = record.model_copy(update={"total": size, "correct": record.correct * size // 100})
    row = only(PROTOCOLS.get("class-incremental").table(made), "a", "cocoop")
    assert (row["base"], row["new"], row["all"], row["seeds"]) == (80.0, 50.0, 72.5, 2)
    halved = [record for record in made if record.cell.testing.subset == "base"]
    assert PROTOCOLS.get("class-incremental").table(halved).empty


def test_cross_dataset_averages_over_targets_not_the_source() -> None:
    made = records("cross-dataset", itertools.cycle([90.0, 40.0, 60.0]), seeds=(0,))
    frame = PROTOCOLS.get("cross-dataset").table(made)
    assert set(frame["dataset"]) == {"a → b", "a → c", "average"}
    average = only(frame, "average", "cocoop")
    assert (average["source"], average["target"], average["datasets"]) == (90.0, 50.0, 2)


def test_few_shot_has_a_column_for_every_number_of_shots() -> None:
    made = records("few-shot", itertools.cycle([10.0, 30.0]), datasets=("a",), shots=2)
    frame = PROTOCOLS.get("few-shot").table(made)
    learned, zero_shot = only(frame, "a", "coop"), only(frame, "a", "zeroshot")
    assert {"1 shot", "1 shot_std", "2 shots", "2 shots_std"} <= set(frame.columns)
    assert learned["seeds"] == 2
    assert zero_shot["1 shot"] == zero_shot["2 shots"]


def test_the_ablation_tells_parameters() -> None:
    frame = PROTOCOLS.get("ablation").table(records("ablation", itertools.repeat(50.0)))
    assert set(frame["params"][frame["method"] == "cocoop"]) == {7}
    assert set(frame["params"][frame["method"] == "zeroshot"]) == {0}


@pytest.mark.parametrize("protocol", ["base-to-new", "cross-dataset", "class-incremental", "ablation"])
def test_class_specific_contexts_are_refused_where_they_cannot_go(protocol: str, tmp_path: Path) -> None:
    arguments = {"datasets": ["emoji/food", "emoji/activities"], "methods": ["coop"], "backbone": "toy"}
    arguments |= {"overrides": ["coop.class_specific=true"], "folder": tmp_path / "runs"}
    with pytest.raises(UsageError, match=rf"{protocol} tests on classes .* which fit no other"):
        cocoop.run(["few-shot", protocol], **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_the_papers_transfer_tables_run_from_imagenet(tmp_path: Path) -> None:
    for name in ("imagenet", *VARIANTS):
        make_imagenet(tmp_path, name, wnids=2 if name in ("imagenet_a", "imagenet_r") else 4)
    make_tree(tmp_path, "eurosat")
    run_records = cocoop.run(
        ["cross-dataset", "domain-generalization"],
        datasets=["eurosat", "imagenet"],
        methods=["coop"],
        seeds=[1],
        backbone="toy",
        root=tmp_path,
        folder=tmp_path / "runs",
        overrides=["coop.epochs=1"],
    )
    rows = {result.name: set(result.frame["dataset"]) for result in results(run_records)}
    assert rows == {
        "cross-dataset": {"imagenet → eurosat"},
        "domain-generalization": {*(f"imagenet → {name}" for name in VARIANTS), "average"},
    }
    assert len(list((tmp_path / "runs" / "prompts").iterdir())) == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCOOP_CACHE", str(folder / "cache"))
        for protocols, datasets in (
            ([name for name in PROTOCOLS.names() if name != "ablation"], ["emoji/activities", "emoji/food"]),
            ("ablation", ["emoji/food"]),
        ):
            cocoop.run(
                protocols,
                datasets=datasets,
                methods=["coop", "cocoop"],
                seeds=[1],
                shots=1,
                backbone="toy",
                folder=folder / "runs",
                overrides=["coop.epochs=1", "cocoop.epochs=1", "cocoop.batch_size=32"],
            )
    return folder / "runs"


def test_one_call_runs_them_all(finished: Path) -> None:
    run_records = list(Store(finished).records())
    assert {record.cell.protocol for record in run_records} == set(PROTOCOLS.names())
    by_protocol = {name: [r for r in run_records if r.cell.protocol == name] for name in PROTOCOLS.names()}
    for name, own in by_protocol.items():
        assert any(record.cell.training.method == "zeroshot" for record in own), name
        assert not PROTOCOLS.get(name).table(own).empty
    joint = [r for r in by_protocol["class-incremental"] if r.cell.testing.dataset == "emoji/food"]
    assert {(r.cell.testing.subset, len(r.class_names), r.total) for r in joint} == {
        ("base", 88, 88),
        ("new", 88, 88),
    }
    keys = {record.cell.training.key for record in run_records if record.cell.training.recipe}
    assert {path.stem.rpartition("-")[2] for path in (finished / "prompts").iterdir()} == keys


def test_the_page_has_a_section_for_every_protocol(finished: Path) -> None:
    page = html.write(Store(finished)).read_text()
    sections = re.findall(r'<section id="([^"]+)">', page)
    assert sections[:4] == ["base-to-new", "cross-dataset", "domain-generalization", "class-incremental"]
    assert re.findall(r'<a href="#([^"]+)">', page) == sections
    for words in ("Most confused classes", "Calibration", "training images a class"):
        assert words in page
    for words in ("context vectors M", "time a training image", "emoji/activities → mono", "5,"):
        assert words in page


@pytest.mark.parametrize("format", ["table", "md", "csv", "latex"])
def test_every_format_has_every_protocol(
    finished: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report(finished, format, Console(width=120))
    shown = capsys.readouterr().out
    if format == "csv":
        frame = pd.read_csv(io.StringIO(shown))
        assert len(frame) == len(list(Store(finished).records()))
        assert (100 * frame["correct"] / frame["total"] - frame["accuracy"]).abs().max() < 1e-9
        return
    for name in PROTOCOLS.names():
        assert PROTOCOLS.get(name).title in shown
    assert "emoji/food" in shown
    if format == "latex":
        assert shown.count(r"\begin{tabular}") == shown.count(r"\end{tabular}") == len(PROTOCOLS.names())
        assert not re.search(r"(?<!\\)[%#_]", shown)
