"""`cocoop evaluate` where an image may have several classes or none: mAP and F1, class by class."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cocoop.data import Dataset
from cocoop.errors import UsageError
from cocoop.estimator import ZeroShot
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.features import encode, seen_by
from cocoop.estimator.fit_output import shares_of
from cocoop.estimator.multilabel import LabelMetrics, calibration_error, measure
from cocoop.estimator.shots import all_items
from cocoop.training.multilabel import targets
from cocoop.utils.display import harmless
from cocoop.utils.files import write_json, write_text

SHOWN = 10  # classes in the terminal; the file holds all


def evaluate_multilabel(
    model: PromptClassifier,
    data: Dataset,
    split: str,
    out: Path,
    console: Console,
    unknown: Dataset | None = None,
) -> None:
    """Test a model on one split of data whose images may have several classes; write files, print a part.

    Writes metrics.json and per_class.csv to `out`. Zero-shot CLIP has no thresholds, so that only its mean
    average precision is known. With data of images of none of the classes, those with an answer are counted.

    Raises:
        UsageError: no such split, or it is empty; or the model or the data have one class an image.
        CocoopError: an image cannot be read, or none has a class.
    """
    found = model.info_.multilabel
    if not (found and data.labels):
        one, other = ("the model", data.name) if data.labels else (data.name, "the model")
        raise UsageError(
            f"{one} has one class an image, {other} several or none; evaluate like with like, see --labels"
        )
    items, names = data.items(split), data.class_names
    if not items:
        raise UsageError(f"the split {split!r} of {data.name} has no images")
    zimg = encode(model.load_backbone(), data, items, console)
    truth = targets([data.names_of(item) for item in items], names).bool()
    prompt = model.info_.prompt
    zero = ZeroShot(model.backbone_, template=prompt.template, phrases=prompt.phrases)
    answers = model.answers(seen_by(model, data, items, zimg), names)
    scores, passing = found.scores(answers.logits, names), model.inference.passing(answers, names)
    values = {
        "zero-shot": measure(zero.logits(zimg, names), truth, None),
        prompt.method: measure(scores, truth, passing),
    }
    right = int((passing == truth).all(1).sum())
    tested = {"data": data.name, "split": split, "classes": len(names), "images": len(items)}
    about = {name: each.model_dump(exclude_none=True) for name, each in values.items()}
    about[prompt.method] |= {"all_right": right, "calibration_error": calibration_error(scores, truth)}
    if unknown is not None:
        away = all_items(unknown)
        others = seen_by(model, unknown, away, encode(model.load_backbone(), unknown, away, console))
        answered = model.inference.passing(model.answers(others, names), names).any(1)
        about["unknown"] = {"data": unknown.name, "images": len(others), "answered": int(answered.sum())}
    classes = per_label(scores, truth, passing, names)
    limits = dict(zip(names, found.thresholds_of(names).tolist(), strict=True))
    classes["threshold"] = classes["class"].map(limits)
    write_json(out / "metrics.json", {**tested, "testing": model.testing_mode(len(items), names), **about})
    safe = classes.assign(**{"class": classes["class"].map(harmless)})
    write_text(out / "per_class.csv", safe.to_csv(index=False))
    _say(values, classes, console)
    lines = [f"every class right: {right} of {len(items)} images"]
    if unknown is not None:
        lines.append(
            f"of {len(others)} images of {unknown.name}, {about['unknown']['answered']} get an answer"
        )
    if found.images:
        lines.append(
            f"Thresholds were chosen on {found.images} images; where these are tested, F1 looks too good."
        )
    for line in (*lines, f"written to {out}: metrics.json, per_class.csv"):
        console.print(line, highlight=False, soft_wrap=True)


def per_label(
    scores: Float[Tensor, "n c"],
    truth: Bool[Tensor, "n c"],
    answers: Bool[Tensor, "n c"],
    names: tuple[str, ...],
) -> pd.DataFrame:
    """Return one row a class, the worst F1 first: counts, recall, precision, F1 and average precision."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    y, given = truth.numpy(), answers.numpy()
    precision, recall, f1, images = precision_recall_fscore_support(
        y, given, average=None, zero_division=np.nan
    )
    average = [
        average_precision_score(y[:, c], scores[:, c].double().numpy()) if y[:, c].any() else np.nan
        for c in range(len(names))
    ]
    frame = pd.DataFrame(
        {
            "class": names,
            "images": images,
            "answers": given.sum(0),
            "correct": (y & given).sum(0),
            "recall": recall,
            "precision": precision,
            "f1": f1,
            "average_precision": average,
        }
    )
    return frame.sort_values(["f1", "class"], kind="stable", ignore_index=True)


def _say(values: dict[str, LabelMetrics], classes: pd.DataFrame, console: Console) -> None:
    table = Table(header_style="bold")
    for column in ("", "mAP", "micro F1", "macro F1"):
        table.add_column(column, justify="right" if column else "left")
    for name, each in values.items():
        table.add_row(name, *shares_of(each))
    console.print(table)
    table = Table(title="hardest classes", title_justify="left", header_style="bold")
    for column in ("class", "images", "answers", "correct", "F1"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in classes[classes["images"] > 0].head(SHOWN).itertuples():
        table.add_row(str(row[1]), str(row.images), str(row.answers), str(row.correct), f"{row.f1:.2f}")
    console.print(table)
