"""`cocoop evaluate`: how good a model is on labelled images, class by class, beside zero-shot CLIP."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cocoop.data import Dataset
from cocoop.errors import UsageError
from cocoop.estimator import ZeroShot
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.features import answered, encode
from cocoop.training.metrics import evaluate as measure
from cocoop.training.modes import in_words
from cocoop.training.screening import approximation
from cocoop.utils.display import harmless, short
from cocoop.utils.files import write_bytes, write_json, write_text

SHOWN = 10  # classes in the terminal; the files hold all
LABELLED = 60  # classes that the picture has room to name
LETTERS = 40  # of each name


def evaluate(model: PromptClassifier, data: Dataset, split: str, out: Path, console: Console) -> None:
    """Test a model on one split of a dataset, its class names as candidates; write files, print a part.

    Writes metrics.json, per_class.csv, confusion.csv and confusion.png to `out`.

    Raises:
        UsageError: no such split, or it is empty.
        CocoopError: an image cannot be read.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    items, names = data.items(split), data.class_names
    if not items:
        raise UsageError(f"the split {split!r} of {data.name} has no images")
    zimg = encode(model.load_backbone(), data, items, console)
    truth = torch.tensor([item.label for item in items])
    answers = model.predictor(zimg, names)
    logits = answered(model, names, data, items, zimg)
    zero = ZeroShot(model.backbone_, template=model.info_.prompt.template).logits(zimg, names)
    label = model.info_.prompt.method
    values = {name: dict(measure(each, truth)) for name, each in (("zero-shot", zero), (label, logits))}
    confusion = multiclass_confusion_matrix(logits.argmax(1), truth, len(names))
    classes = per_class(confusion, names)
    tested = {"data": data.name, "split": split, "classes": len(names), "images": len(items)}
    tested["testing"] = model.testing_mode(len(items), names)
    rough = approximation(answers, zimg)
    write_json(out / "metrics.json", tested | values | ({"approximation": rough} if rough else {}))
    safe = [harmless(name) for name in names]
    write_text(out / "per_class.csv", classes.map(_harmless).to_csv(index=False))
    write_text(out / "confusion.csv", pd.DataFrame(confusion.numpy(), safe, safe).to_csv(index_label="class"))
    write_bytes(out / "confusion.png", _picture(confusion, names))
    _say(values, classes, console)
    if rough:
        console.print(in_words(rough), highlight=False, soft_wrap=True)
    console.print(
        f"written to {out}: metrics.json, per_class.csv, confusion.csv, confusion.png",
        highlight=False,
        soft_wrap=True,
    )


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
