"""`cocoop evaluate`: how good a model is on labelled images, class by class, beside zero-shot CLIP."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cocoop.data import Dataset
from cocoop.data.own.rows import same_name
from cocoop.errors import UsageError
from cocoop.estimator import ZeroShot
from cocoop.estimator.calibration import SCORES, Answers, Score, Separation, calibration_error, separation
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.evaluate_multilabel import evaluate_multilabel
from cocoop.estimator.features import answered, encode, seen_by
from cocoop.training.metrics import evaluate as measure
from cocoop.training.modes import in_words
from cocoop.training.screening import approximation
from cocoop.utils.display import harmless, short, some
from cocoop.utils.files import write_bytes, write_json, write_text

SHOWN = 10  # classes in the terminal; the files hold all
LABELLED = 60  # classes that the picture has room to name
LETTERS = 40  # of each name
BINS = 15  # of confidence


def evaluate(
    model: PromptClassifier,
    data: Dataset,
    split: str,
    out: Path,
    console: Console,
    unknown: Dataset | None = None,
) -> None:
    """Test a model on one split of a dataset, its class names as candidates; write files, print a part.

    Writes metrics.json, per_class.csv, confusion.csv, confusion.png and reliability.png to `out`. With data
    of images of none of the classes, it measures how well they are told apart.

    Raises:
        UsageError: no such split, or it is empty.
        CocoopError: an image cannot be read.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    if data.labels or model.info_.multilabel:
        return evaluate_multilabel(model, data, split, out, console, unknown)
    items, names = data.items(split), data.class_names
    if not items:
        raise UsageError(f"the split {split!r} of {data.name} has no images")
    zimg = encode(model.load_backbone(), data, items, console)
    truth = torch.tensor([item.label for item in items])
    seen = seen_by(model, data, items, zimg)
    predictor = model.predictor(seen, names)
    logits, cosines = predictor.similarities(seen)
    if model.method_.facts.sees_test_images:
        logits = answered(model, names, data, items, zimg)
    answers, zeroshot = Answers(logits, cosines), _zeroshot(model)
    zero = zeroshot.answers(zimg, names)
    label = model.info_.prompt.method
    asked = {"zero-shot": zero.logits, label: logits / model.temperature}
    values = {name: dict(measure(each, truth)) for name, each in asked.items()}
    if model.temperature != 1:
        values[label]["calibration_error_before"] = calibration_error(logits.softmax(1), truth)
    confusion = multiclass_confusion_matrix(logits.argmax(1), truth, len(names))
    classes = per_class(confusion, names)
    tested: dict[str, Any] = {"data": data.name, "split": split, "classes": len(names), "images": len(items)}
    tested["testing"] = model.testing_mode(len(items), names)
    apart = {}
    if unknown is not None:
        apart = _apart({"zero-shot": zeroshot, label: model}, (zero, answers), unknown, names, console)
        tested["unknown"] = {"data": unknown.name} | {
            who: {score: each.model_dump() for score, each in found.items()} for who, found in apart.items()
        }
    rough = approximation(predictor, seen)
    write_json(out / "metrics.json", tested | values | ({"approximation": rough} if rough else {}))
    safe = [harmless(name) for name in names]
    write_text(out / "per_class.csv", classes.map(_harmless).to_csv(index=False))
    write_text(out / "confusion.csv", pd.DataFrame(confusion.numpy(), safe, safe).to_csv(index_label="class"))
    write_bytes(out / "confusion.png", _picture(confusion, names))
    shown = {"before": logits.softmax(1), "calibrated": asked[label].softmax(1)}
    write_bytes(out / "reliability.png", _reliability(shown, truth, model.temperature != 1))
    _say(values, classes, console)
    _say_apart(apart, model, console)
    if rough:
        console.print(in_words(rough), highlight=False, soft_wrap=True)
    console.print(
        f"written to {out}: metrics.json, per_class.csv, confusion.csv, confusion.png, reliability.png",
        highlight=False,
        soft_wrap=True,
    )


def _apart(
    models: Mapping[str, PromptClassifier],
    known: Sequence[Answers],
    unknown: Dataset,
    names: Sequence[str],
    console: Console,
) -> dict[str, dict[Score, Separation]]:
    """Return by model and score how well images of none of the classes are told from the tested ones.

    Raises:
        UsageError: some of the classes of the unknown images are among the names.
    """
    if shared := sorted(set(map(same_name, names)) & set(map(same_name, unknown.class_names))):
        raise UsageError(f"{unknown.name} has classes that are to be known: {some(shared)}")
    items = [item for items in unknown.splits.values() for item in items]
    zimg = encode(next(iter(models.values())).load_backbone(), unknown, items, console)
    found = {}
    for (name, model), one in zip(models.items(), known, strict=True):
        seen = seen_by(model, unknown, items, zimg)
        other, heat = model.answers(seen, names), model.temperature if model.info_.calibration else 1.0
        found[name] = {each: separation(one.score(each, heat), other.score(each, heat)) for each in SCORES}
    return found


def per_class(confusion: Int[Tensor, "c c"], names: Sequence[str]) -> pd.DataFrame:
    """Return one row a class, the worst recall first: counts, recall, precision, F1, what it is taken for.

    Args:
        confusion: images by true class (rows) and answer (columns).
        names: in label order.
    """
    counts = confusion.numpy()
    right, images, answers = counts.diagonal(), counts.sum(1), counts.sum(0)
    wrong = counts - np.diag(right)
    frame = pd.DataFrame(
        {
            "class": names,
            "images": images,
            "correct": right,
            "recall": _share(right, images),
            "precision": _share(right, answers),
            "f1": _share(2 * right, images + answers),
            "taken_for": [names[row.argmax()] if row.any() else "" for row in wrong],
            "times": wrong.max(1),
        }
    )
    return frame.sort_values(["recall", "class"], kind="stable", ignore_index=True)


def _zeroshot(model: PromptClassifier) -> PromptClassifier:
    prompt = model.info_.prompt
    return ZeroShot(model.backbone_, template=prompt.template, phrases=prompt.phrases)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, not a number where there is nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _harmless(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) else value


def _say(values: dict[str, dict[str, float | int]], classes: pd.DataFrame, console: Console) -> None:
    table = Table(header_style="bold")
    table.add_column("")
    for column in ("accuracy", "correct", "macro F1", "calibration error"):
        table.add_column(column, justify="right")
    for name, each in values.items():
        right = f"{each['correct']} of {each['total']}"
        rest = (f"{each['macro_f1']:.3f}", f"{each['calibration_error']:.3f}")
        table.add_row(name, f"{each['accuracy']:.1%}", right, *rest)
    console.print(table)
    worst = classes[classes["correct"] < classes["images"]].head(SHOWN)
    if worst.empty:
        console.print("every image is right")
        return
    table = Table(title="hardest classes", title_justify="left", header_style="bold")
    for column in ("class", "right", "mostly taken for"):
        table.add_column(column)
    for row in worst.itertuples():
        table.add_row(str(row[1]), f"{row.correct} of {row.images}", f"{row.taken_for} ({row.times})")
    console.print(table)


def _say_apart(
    apart: Mapping[str, Mapping[Score, Separation]], model: PromptClassifier, console: Console
) -> None:
    """Print how well unknown images are told apart, the model's own score marked."""
    if not apart:
        return
    chosen = model.info_.unknown.score if model.info_.unknown else None
    table = Table(title="images of none of the classes", title_justify="left", header_style="bold")
    for column in ("", "score", "AUROC", "answered where 95% of the known are"):
        table.add_column(column, justify="left" if column in ("", "score") else "right")
    for name, found in apart.items():
        for score, each in found.items():
            mark = " (the model's)" if score == chosen and name == model.info_.prompt.method else ""
            table.add_row(name, f"{score}{mark}", f"{each.auroc:.3f}", f"{each.fpr:.1%}")
    console.print(table)


def _reliability(
    shown: Mapping[str, Float[Tensor, "n c"]], truth: Int[Tensor, " n"], calibrated: bool
) -> bytes:
    """Draw accuracy by confidence in bins, without the temperature and with it where there is one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, chances in shown.items():
        if name == "calibrated" and not calibrated:
            continue
        confidence, right = chances.amax(1), (chances.argmax(1) == truth).float()
        bins = (confidence * BINS).long().clamp(max=BINS - 1)
        there = [each for each in range(BINS) if bool((bins == each).any())]
        x = [float(confidence[bins == each].mean()) for each in there]
        y = [float(right[bins == each].mean()) for each in there]
        axes.plot(x, y, marker="o", label=f"{name}, error {calibration_error(chances, truth):.3f}")
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _picture(confusion: Int[Tensor, "c c"], names: Sequence[str]) -> bytes:
    """Draw the confusion: shares of the true class, rows; names where there is room."""
    from matplotlib.figure import Figure

    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    edge = min(14.0, max(4.0, 0.22 * len(names) + 2))
    figure = Figure(figsize=(edge, edge), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="true class")
    if len(names) <= LABELLED:
        shown = [short(name, LETTERS) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(names)), shown, fontsize=7, parse_math=False)
    else:
        axes.set(xlabel="answer, by its row in confusion.csv", ylabel="true class, by its row")
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the class's images")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is a box
        figure.savefig(file, format="png", dpi=130)
    return file.getvalue()
