"""What `cocoop fit` prints: what it learns from, what is wrong with that, and what came of it."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cocoop.data import Dataset, Item, is_source
from cocoop.data.own.duplicates import duplicate_warnings
from cocoop.data.own.names import name_warnings
from cocoop.estimator.calibration import FEWEST
from cocoop.estimator.card import ModelInfo, Result
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.inputs import Labels, shots_in
from cocoop.estimator.multilabel import LabelMetrics, LabelResult, MultiLabel
from cocoop.methods import baseline

FEW = 100  # below so many images, what one of them weighs is said


def say_start(data: Dataset, train: Sequence[Item], console: Console) -> None:
    """Print what is learned from, and what a person should put right first."""
    held = len(data.items("test"))
    console.print(
        f"{data.name}: {len(data.class_names)} classes, {len(train)} images to learn from, {held} held out",
        highlight=False,
        soft_wrap=True,
    )
    if data.note:
        console.print(data.note, highlight=False, soft_wrap=True)
    if not is_source(data.name):
        return
    for text in (*data.warnings, *name_warnings(data.class_names), *duplicate_warnings(data)):
        console.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True)


def say_plan(
    model: PromptClassifier,
    backbone: str,
    out: Path,
    automatic: bool,
    labels: Labels,
    console: Console,
) -> None:
    """Print what would be done with images of these classes."""
    choice = model.choice
    recipe = choice.recipe
    trained = f", {recipe.length} epochs, batches of {recipe.batch_size}" if recipe and recipe.learns else ""
    if recipe and recipe.learns:
        trained += f", {recipe.all_steps(len(labels), shots_in(labels)):,} steps, learning rate {recipe.lr:g}"
    method = "the best of the quick methods" if automatic else f"{choice.method}{trained}"
    for line in (
        f"method: {method}",
        f"backbone: {backbone}",
        f"would write: {out}",
        "nothing was trained or written (--dry-run)",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def say_results(model: PromptClassifier, results: Sequence[Result], out: Path, console: Console) -> None:
    """Print what the model is worth beside zero-shot CLIP, how it was calibrated, and what to do next."""
    info = model.info_
    table = Table(header_style="bold")
    for column in ("tested on", "names", "images", "zero-shot", info.prompt.method):
        table.add_column(column, justify="left" if column == "tested on" else "right")
    for r in results:
        shares = [f"{right / r.images:.1%}" for right in (r.zeroshot, r.trained)]
        table.add_row(r.name, str(r.classes), str(r.images), *shares)
    console.print(table)
    for r in results:
        if r.worse:
            fewer = "fewer --epochs, " if info.loss else ""
            console.print(
                f"warning: it is worse than zero-shot CLIP on {r.name}: {r.trained} right, not {r.zeroshot}. "
                f"Try more images, {fewer}another method, or zero-shot CLIP itself: --method {baseline()}.",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )
    for line in _caveats(model, results):
        console.print(line, highlight=False, soft_wrap=True)
    if info.selected:
        chosen = ", ".join(f"{name} {value}" for name, value in info.selected.items())
        console.print(
            f"selected on {info.selected_on or 'the training images'}: {chosen}",
            highlight=False,
            soft_wrap=True,
        )
    for line in _calibrated(info):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(_where(info, out), highlight=False, soft_wrap=True)
    others = ' --classes "any,names"' if model.method_.transferable else ""
    console.print(f"try: cocoop predict {out} IMAGE{others}", highlight=False, soft_wrap=True)


def _calibrated(info: ModelInfo) -> list[str]:
    """Say what was calibrated, and how well that works."""
    found, limit = info.calibration, info.unknown
    if found is None or limit is None:
        return [f"Probabilities are not calibrated: that takes {FEWEST} held-out images."]
    lines = [
        f"calibrated on {found.images} images that it did not learn from: temperature "
        f"{found.temperature:.2f}, calibration error {found.before:.3f} before and {found.after:.3f} after, "
        "each half by the other"
    ]
    if limit.separations:
        best = limit.separations[limit.score]
        lines.append(
            f"unsure below {limit.value:.3g} of {limit.score}: of known images 95% get an answer, of unknown "
            f"ones {best.fpr:.0%} (AUROC {best.auroc:.2f}; {limit.others})"
        )
    return lines


def _caveats(model: PromptClassifier, results: Sequence[Result]) -> list[str]:
    lines = []
    if not results:
        lines.append("No class has an image to hold out, so nothing was measured.")
    elif results[0].images < FEW:
        lines.append(f"Few images: one of the held-out ones is {1 / results[0].images:.1%}.")
    if any("offered too" in result.name for result in results):
        lines.append("Without images of the new names, how well they are recognised cannot be measured.")
    return lines


def say_several(model: PromptClassifier, results: Sequence[LabelResult], out: Path, console: Console) -> None:
    """Print what a model of several classes an image is worth, how it was calibrated, and what to do next."""
    info = model.info_
    assert info.multilabel
    table = Table(header_style="bold")
    for column in ("tested on", "names", "images", "", "mAP", "micro F1", "macro F1"):
        table.add_column(column, justify="left" if column in ("tested on", "") else "right")
    for r in results:
        for who, found in (("zero-shot", r.zeroshot), (info.prompt.method, r.trained)):
            about = (r.name, str(r.classes), str(r.images)) if who == "zero-shot" else ("", "", "")
            table.add_row(*about, who, *shares_of(found))
    console.print(table)
    lines = [
        f"warning: it is worse than zero-shot CLIP on {r.name}. Try more images, another method, or "
        f"zero-shot CLIP itself: --method {baseline()}."
        for r in results
        if r.worse
    ]
    for line in lines:
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    for line in (*_tuned(info.multilabel), _where(info, out)):
        console.print(line, highlight=False, soft_wrap=True)
    others = ' --classes "any,names"' if model.method_.transferable else ""
    console.print(f"try: cocoop predict {out} IMAGE{others}", highlight=False, soft_wrap=True)


def shares_of(found: LabelMetrics) -> tuple[str, str, str]:
    """Return mAP, micro and macro F1 for a table."""
    values = (found.mean_average_precision, found.micro_f1, found.macro_f1)
    return tuple("" if value is None else f"{value:.3f}" for value in values)  # type: ignore[return-value]


def _tuned(found: MultiLabel) -> list[str]:
    """Say how thresholds were chosen."""
    if not found.images:
        untuned = f"Scores are not calibrated, and thresholds are {found.threshold}"
        return [f"{untuned}: to choose them takes {FEWEST} held-out images."]
    away = f", {found.unknown} of them of none of the classes" if found.unknown else ""
    return [
        f"F1 is of each half of the images by thresholds chosen on the other half. Scores and thresholds are "
        f"fitted to {found.images} images that it did not learn from{away}: calibration error "
        f"{found.error_before:.3f} before and {found.error_after:.3f} after."
    ]


def _where(info: ModelInfo, out: Path) -> str:
    epochs = f", {len(info.lr)} epochs in {info.seconds:.0f} s" if info.lr else ""
    return f"model: {out} ({info.prompt.method} on {info.prompt.backbone}{epochs})"
