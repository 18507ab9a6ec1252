"""What `--dry-run` says: the paper's settings value by value, and the work counted by hand."""

import re
from pathlib import Path

import pytest

from cocoop.cli import main
from cocoop.data import open_dataset
from cocoop.experiments.protocols.base_to_new import tests as halves_of
from tests.trees import make_tree, spec

PETS = "oxford_pets"

# the released configuration vit_b16_c4_ep10_batch1_ctxv1 with Dassl's defaults, and what its runs print;
# precision differs on purpose: the released fp16 run updates the prompt in fp16 too
COCOOP = {
    "preset": "cocoop-paper (the CoCoOp paper, section 4.1)",
    "ctx_init": "a photo of a",
    "n_ctx": "4",
    "reduction": "16",
    "epochs": "10",
    "batch_size": "1",
    "lr": "0.002",
    "warmup_epochs": "1",
    "warmup_lr": "1e-05",
    "momentum": "0.9",
    "weight_decay": "0.0005",
    "optimizer": "SGD, no dampening, no Nesterov",
    "schedule": "constant warm-up, then cosine; a step an epoch",
    "rates": "1e-05, 0.002, 0.0019511, 0.001809, 0.0015878, 0.001309, 0.001, 0.00069098, 0.00041221, "
    "0.00019098",
}
COOP = COCOOP | {
    "preset": "coop-paper (CoOp as trained in the CoCoOp paper)",
    "position": "end",
    "class_specific": "False",
    "epochs": "200",
    "batch_size": "32",
    "rates": "1e-05, 0.002, 4.9344e-07 (first two, last)",
}
COMMON = {
    "seeds": "1, 2, 3",
    "shots": "16 a class, drawn over all classes before they are cut",
    "train view": "random crop, area 0.08 to 1, to 32, bicubic; flip 0.5",
    "test view": "shorter edge to 32, bicubic; centre crop",
    "normalised": "mean 0.4815 0.4578 0.4082, std 0.2686 0.2613 0.2758",
    "logit_scale": "100",
}


def dry_run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "base-to-new", "--backbone", "toy", "--dry-run", *map(str, arguments)])
    return int(stopped.value.code or 0)


def sections(shown: str) -> dict[str, dict[str, str]]:
    """Settings by section title, from what was printed."""
    by_title: dict[str, dict[str, str]] = {}
    for block in shown.split("\n\n"):
        title, *lines = block.splitlines()
        rows = (re.match(r"  (\S+(?: view)?)\s+(.+)", line) for line in lines)
        by_title[title] = {row[1]: row[2] for row in rows if row}
    return by_title


def test_the_papers_settings_and_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(tmp_path, PETS, dict(spec(PETS).counts))
    assert dry_run("--datasets", PETS, "--root", tmp_path, "--out", tmp_path / "runs") == 0
    shown = capsys.readouterr().out
    said = sections(shown)
    assert COCOOP.items() <= said["cocoop"].items()
    assert {name: value for name, value in COOP.items() if name != "reduction"}.items() <= said[
        "coop"
    ].items()
    assert COMMON.items() <= said["all methods"].items()
    assert said["zeroshot"]["training"] == "nothing is learned"
    # of 3 seeds: 19 base classes of 16 shots; test images as dealt to the classes by the tree
    dealt = [3669 // 37 + (label < 3669 % 37) for label in range(37)]
    base, new = sum(dealt[:19]), sum(dealt[19:])
    work = f"cocoop: 3 trainings, {3 * 10 * 304:,} steps, {3 * 10 * 304 * 19:,} text sequences; "
    assert work + f"tests of {3 * (19 * base + 18 * new):,} text sequences" in shown
    assert f"coop: 3 trainings, {3 * 200 * 9:,} steps, {3 * 200 * 9 * 19:,} text sequences; " in shown
    assert "zeroshot: tests of 37 text sequences" in shown
    assert f"images: {3 * 200 * 304 + 3669:,} views" in shown
    assert not (tmp_path / "runs").exists()


def test_only_what_is_missing_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cocoop.experiments import run as experiment

    small = {"datasets": ["emoji/activities"], "methods": ["coop"], "shots": 1, "backbone": "toy"}
    small |= {"overrides": ["coop.epochs=1"], "folder": tmp_path / "runs"}
    experiment.run("base-to-new", seeds=[0], **small)  # type: ignore[arg-type]
    command = ["--datasets", "emoji/activities", "--methods", "coop", "--shots", 1, "--set", "coop.epochs=1"]
    assert dry_run(*command, "--seeds", "0", "--out", tmp_path / "runs") == 0
    shown = capsys.readouterr().out
    assert "4 cells, 0 to run" in shown
    assert "text sequences" not in shown
    assert dry_run(*command, "--seeds", "0,1", "--out", tmp_path / "runs") == 0
    assert "coop (epochs=1): 1 trainings, 1 steps, 32 text sequences; tests of 63" in capsys.readouterr().out


def test_a_sample_of_the_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--datasets", "emoji/activities", "--shots", 1, "--seeds", 1, "--methods", "coop")
    settings = ("batch_size=4", "classes_per_step=9", "epochs=2")
    words = (*few, *(word for each in settings for word in ("--set", f"coop.{each}")))
    assert dry_run(*words, "--out", tmp_path / "runs") == 0
    shown = capsys.readouterr().out
    assert "cross-entropy over 9 of the training classes, logits corrected" in shown
    assert f"1 trainings, {2 * 8} steps, {2 * 8 * 9} text sequences" in shown


def test_views_of_test_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--datasets", "emoji/activities", "--methods", "mta", "--set", "mta.looks=3"]
    assert dry_run(*command, "--seeds", "1,2", "--out", tmp_path / "runs") == 0
    shown = capsys.readouterr().out
    images = len(open_dataset("emoji/activities").items("test"))
    assert f"images: {images + 2 * 3 * images} views to encode" in shown  # zero-shot CLIP's, and of two seeds
    assert re.search("test images +adapts to views of each test image alone, without labels", shown)


def counted(method: str, folder: Path, shown: pytest.CaptureFixture[str], *settings: str) -> str:
    """What is said of two seeds of a method on 32 base classes, two shots each, tested on 63 in all."""
    words = [word for each in settings for word in ("--set", f"{method}.{each}")]
    few = ("--datasets", "emoji/activities", "--shots", 2, "--seeds", "1,2", "--methods", method)
    assert dry_run(*few, *words, "--out", folder / "runs") == 0
    return shown.readouterr().out


@pytest.mark.parametrize(
    ("method", "settings", "steps", "images", "numbers"),
    [
        ("prolip", ("epochs=300",), 300, 0, 32),
        ("mma", ("epochs=3", "batch_size=16"), 12, 192, 5 * 32),  # a class token and four patches
        ("clip-lora", ("steps_per_shot=5", "batch_size=16"), 10, 160, 0),
    ],
)
def test_what_is_learned_in_towers_is_counted(
    method: str,
    settings: tuple[str, ...],
    steps: int,
    images: int,
    numbers: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Views are kept at the cut; tests go through every trained tower again, but for the projection."""
    shown = counted(method, tmp_path, capsys, *settings)
    through = f", {2 * images:,} images through the image tower and back" if images else ""
    tests = len(open_dataset("emoji/activities").items("test"))
    texts = 32 if method == "prolip" else steps * 32
    assert f"2 trainings, {2 * steps} steps, {2 * texts:,} text sequences{through}; tests of " in shown
    views = 2 * 64 * int(settings[0][7:]) if numbers else 0
    # zero-shot CLIP's features of the test images, and what the method adds
    seen, kept = (tests, tests * 4 * 32) if method == "prolip" else (2 * tests, 0)
    size = (views * numbers * 4 + tests * 4 * 16 + kept) / 1e6
    assert f"images: {views + tests + seen:,} views to encode, {size:,.1f} MB in the cache" in shown


def test_contexts_tuned_to_each_image_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--datasets", "emoji/activities", "--methods", "tpt", "--set", "tpt.looks=3"]
    assert dry_run(*command, "--seeds", "1", "--out", tmp_path / "runs") == 0
    data = open_dataset("emoji/activities")
    halves = (half.choose(data) for half in halves_of("emoji/activities"))
    texts = sum(len(items) * len(names) for items, names in halves)
    assert f"tpt (looks=3): tests of {texts:,} text sequences" in capsys.readouterr().out
