"""Runs: what is finished stays finished, and what is stored can be trusted."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import cocoop
from cocoop import Backbone, CocoopError, UsageError, load_prompt
from cocoop.cli import main
from cocoop.experiments.aggregate import disambiguate
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.report.show import report
from cocoop.report.tables.notes import notes
from cocoop.report.tables.results import results
from cocoop.training.prompt_file import save_prompt
from cocoop.utils.files import sweep, write_bytes

ARGUMENTS = {
    "datasets": ["emoji/activities"],
    "methods": ["zeroshot", "coop", "cocoop"],
    "seeds": [0],
    "shots": 1,
    "backbone": "toy",
    "overrides": ["coop.epochs=1", "cocoop.epochs=1"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("runs"), ARGUMENTS)


def finish(folder: Path, arguments: dict[str, Any]) -> Path:
    """Do a run below a folder, with a cache of its own, and return where its results are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCOOP_CACHE", str(folder / "cache"))
        cocoop.run("base-to-new", folder=folder / "runs", **arguments)
    return folder / "runs"


def copy(finished: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(finished, tmp_path / "runs"))


def without_time(record: Record) -> dict:
    times = {"seconds_to_train", "seconds_per_step", "seconds_per_image"}
    return record.model_dump(exclude={"created", "peak_memory_mb", *times})


@pytest.mark.parametrize("testing", ["screened", "linear"])
def test_approximate_logits_have_records_of_their_own_that_say_so(
    finished: Path, tmp_path: Path, testing: str
) -> None:
    runs = copy(finished, tmp_path)
    before = {record.cell.key: record for record in Store(runs).records()}
    records = cocoop.run("base-to-new", folder=runs, testing=testing, **ARGUMENTS)
    fresh = [record for record in records if record.cell.key not in before]
    assert [record.cell.training.label for record in fresh] == [f"cocoop (epochs=1, {testing})"] * 2
    (exact,) = {r.cell.training.key for r in before.values() if r.cell.training.method == "cocoop"}
    assert {record.cell.training.key for record in fresh} == {exact}  # trained once
    assert all(record.cell.mode == testing and record.approximation["images"] > 0 for record in fresh)
    (result,) = results(records)
    assert any(
        line.startswith(f"cocoop (epochs=1, {testing}): Logits are") for line in notes(result.frame, records)
    )


def test_records_say_everything(finished: Path) -> None:
    records = list(Store(finished).records())
    assert len(records) == 6
    by_name = {(record.cell.training.method, record.cell.testing.subset): record for record in records}
    trained = by_name["cocoop", "base"]
    assert trained.total == 2 * 32  # two test drawings for each of the first ceil(63 / 2) classes
    assert 0 <= trained.correct <= trained.total
    assert trained.train_images == 32
    assert trained.lr == [1e-5]
    assert len(trained.loss) == 1
    assert trained.seconds_per_step > 0
    assert trained.cell.training.weights == cocoop.load_backbone("toy").weights_digest
    assert {"torch", "open_clip_torch", "python", "commit"} <= trained.environment.keys()
    zero_shot = by_name["zeroshot", "new"]
    assert (zero_shot.train_images, zero_shot.lr, zero_shot.loss) == (0, [], [])
    assert not set(trained.class_names) & set(by_name["cocoop", "new"].class_names)


def test_predictions_agree_with_the_count(finished: Path) -> None:
    store = Store(finished)
    for record in store.records():
        classes, probabilities, labels = store.predictions(record)
        assert (classes[:, 0] == labels).sum() == record.correct
        assert len(classes) == record.total
        assert (probabilities[:, 0] >= probabilities[:, -1]).all()
        assert classes.max() < len(record.class_names)


def test_a_second_run_computes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("cocoop.training.loop.fit", fail)
    monkeypatch.setattr("cocoop.backbones.features.ImageEncoder._encode", fail)
    assert len(cocoop.run("base-to-new", folder=finished, **ARGUMENTS)) == 6
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_an_interrupted_run_goes_on_where_it_was(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    write = Store.write

    def interrupted(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cocoop.run("base-to-new", folder=tmp_path, **ARGUMENTS)
    assert len(list(Store(tmp_path).records())) == 3
    resumed = cocoop.run("base-to-new", folder=tmp_path, **ARGUMENTS)
    undisturbed = list(Store(finished).records())
    assert list(map(without_time, resumed)) == list(map(without_time, undisturbed))


def test_prompts_are_shared_by_the_cells_that_need_them(finished: Path) -> None:
    assert len(list((finished / "prompts").iterdir())) == 2


def test_a_prompt_file_gives_the_method_back(finished: Path, toy: Backbone, tmp_path: Path) -> None:
    for path in (finished / "prompts").iterdir():
        method, card = load_prompt(path, toy)
        assert len(card.class_names) == 32
        save_prompt(tmp_path / path.name, method, card)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
        assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("damage", ["truncated", "empty", "json"])
def test_damaged_prompt_files(finished: Path, toy: Backbone, tmp_path: Path, damage: str) -> None:
    whole = next((finished / "prompts").iterdir()).read_bytes()
    path = tmp_path / "prompt.safetensors"
    path.write_bytes({"truncated": whole[:-10], "empty": b"", "json": b"{}"}[damage])
    with pytest.raises(CocoopError, match="not a readable prompt file"):
        load_prompt(path, toy)


def test_a_prompt_of_other_weights_is_refused(finished: Path) -> None:
    other = cocoop.load_backbone("toy")
    other.model.logit_scale.data.zero_()
    with pytest.raises(CocoopError, match="other weights"):
        load_prompt(next((finished / "prompts").iterdir()), other)


def test_a_damaged_record_is_named(finished: Path, tmp_path: Path) -> None:
    folder = copy(finished, tmp_path)
    path = sorted(folder.glob("records/*/*/*.json"))[0]
    path.write_text(path.read_text().replace('"correct"', '"corect"'))
    with pytest.raises(CocoopError, match=rf"{path.name} was changed or cut off"):
        list(Store(folder).records())


def test_a_run_folder_of_another_version_is_refused(finished: Path, tmp_path: Path) -> None:
    folder = copy(finished, tmp_path)
    (folder / "format.json").write_text(json.dumps({"cocoop_runs": 99}))
    with pytest.raises(CocoopError, match="format 99"):
        cocoop.run("base-to-new", folder=folder, **ARGUMENTS)
    (tmp_path / "file").write_text("")
    with pytest.raises(CocoopError, match="is a file"):
        Store(tmp_path / "file")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / ".record.json.x.tmp", tmp_path / "a" / ".record.json.y.tmp"
    for path in (old, new, old.with_name("record.json")):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    os.utime(old, (0, 0))
    os.utime(old.with_name("record.json"), (0, 0))
    sweep(tmp_path)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {new.name, "record.json"}


def test_unknown_names_fail_before_anything_is_written(tmp_path: Path) -> None:
    wrong = [
        {"datasets": ["emoji/foods"]},
        {"methods": ["cocop"]},
        {"backbone": "ViT-B-61/openai"},
        {"backbone": "ViT-B-16/openia"},
        {"shots": 0},
    ]
    for change in wrong:
        with pytest.raises(UsageError):
            cocoop.run("base-to-new", folder=tmp_path / "runs", **(ARGUMENTS | change))
    with pytest.raises(UsageError, match="Did you mean 'base-to-new'"):
        cocoop.run("base-2-new", folder=tmp_path / "runs", **ARGUMENTS)
    assert not (tmp_path / "runs").exists()


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(CocoopError, match="no finished runs"):
        report(tmp_path, "table", Console(quiet=True))


def test_a_run_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    cocoop.run(
        "base-to-new", folder=tmp_path, **(ARGUMENTS | {"overrides": ["coop.epochs=1"], "methods": ["coop"]})
    )
    assert torch.equal(torch.rand(3), expected)


def test_the_demo_runs_all_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict = {}
    monkeypatch.setattr(
        "cocoop.experiments.run.run", lambda protocol, **named: seen.update(named, protocol=protocol)
    )
    monkeypatch.setattr("cocoop.report.page.html.write", lambda store: store.folder / "report.html")
    with pytest.raises(SystemExit):
        main(["demo", "--out", str(tmp_path)])
    assert len(seen["datasets"]) == 8
    assert seen["protocol"] == "base-to-new"


def test_shots_are_not_averaged_as_if_they_were_seeds(finished: Path, tmp_path: Path) -> None:
    folder = copy(finished, tmp_path)
    cocoop.run(
        "base-to-new",
        folder=folder,
        **(ARGUMENTS | {"shots": 2, "methods": ["coop"]} | {"overrides": ["coop.epochs=1"]}),
    )
    labels = {record.cell.training.label for record in disambiguate(list(Store(folder).records()))}
    assert labels == {
        "zeroshot",
        "coop (epochs=1) (1 shots)",
        "coop (epochs=1) (2 shots)",
        "cocoop (epochs=1) (1 shots)",
    }


def test_missing_images_stop_a_run_before_it_starts(tmp_path: Path) -> None:
    from tests.trees import make_tree

    images = make_tree(tmp_path, "oxford_pets") / "images"
    for name in ("pug_600.jpg", "beagle_600.jpg", "beagle_0.jpg"):
        (images / name).unlink()
    (images / "beagle_0.jpg").touch()
    run = ARGUMENTS | {"datasets": ["oxford_pets"], "methods": ["coop"], "overrides": ["coop.epochs=1"]}
    with pytest.raises(CocoopError, match=r"3 image\(s\)") as stopped:
        cocoop.run("base-to-new", folder=tmp_path / "runs", root=tmp_path, **run)
    for fault in ("beagle_0.jpg: empty", "beagle_600.jpg: missing", "pug_600.jpg: missing"):
        assert fault in str(stopped.value)
    assert not (tmp_path / "runs").exists()


def test_broken_images_stop_a_run_with_all_of_them(tmp_path: Path) -> None:
    from tests.trees import make_tree

    images = make_tree(tmp_path, "oxford_pets") / "images"
    for name in ("basset_hound_600.jpg", "beagle_600.jpg"):
        (images / name).unlink()
        (images / name).write_bytes(b"<html>not found</html>")
    run = ARGUMENTS | {"datasets": ["oxford_pets"], "methods": ["zeroshot"], "overrides": []}
    with pytest.raises(
        CocoopError, match=r"2 image\(s\).*\n  basset_hound_600.*\n  beagle_600.*it is no image"
    ):
        cocoop.run("base-to-new", folder=tmp_path / "runs", root=tmp_path, **run)
    assert {record.cell.testing.subset for record in Store(tmp_path / "runs").records()} == {"new"}


def test_where_the_data_lie_is_no_part_of_a_cell(tmp_path: Path) -> None:
    from tests.trees import make_tree

    run = ARGUMENTS | {"datasets": ["oxford_pets"], "methods": ["zeroshot"], "overrides": []}
    make_tree(tmp_path / "here", "oxford_pets")
    first = cocoop.run("base-to-new", folder=tmp_path / "runs", root=tmp_path / "here", **run)
    (tmp_path / "here").rename(tmp_path / "there")
    again = cocoop.run("base-to-new", folder=tmp_path / "runs", root=tmp_path / "there", **run)
    assert again == first
