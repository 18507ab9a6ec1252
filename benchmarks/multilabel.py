"""Several classes an image, on collages of the embedded drawings: mAP and F1 by method, and with crops.

`python -m benchmarks.multilabel` pastes one or two drawings of twelve animals onto white; one image in ten
has another animal and none of these. It fits, calibrates and tests with three seeds, on drawings that are by
different vendors each.
"""

import random
import sys
from collections.abc import Iterator

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from cocoop import Dataset, PromptClassifier, open_dataset
from cocoop.data import open_image
from cocoop.estimator.multilabel import measure
from cocoop.training.multilabel import targets

GROUP, CLASSES = "animals", 12
EDGE, DRAWING = 128, 80  # pixels; two drawings lie in opposite corners, one over the other
NONE = 0.1  # share of images without one of the classes
COUNTS = {"train": 300, "val": 150, "test": 400}
SEEDS = (1, 2, 3)
# what is fitted: method, preset, epochs and further settings
RUNS = {
    "zeroshot": ("zeroshot", None, None, {}),
    "coop": ("coop", "coop-quick", 40, {}),
    "coop, random crops": ("coop", "coop-quick", 40, {"augmentation": "crop"}),
    "clip-adapter": ("clip-adapter", None, 60, {}),
}


def collages(
    data: Dataset, names: tuple[str, ...], split: str, count: int, seed: int
) -> tuple[list[Image.Image], list[list[str]]]:
    """Return images of one or two drawings of a split or of none of the names, and the names of each."""
    rng = random.Random(f"{split} {seed}")
    drawings: dict[str, list[str]] = {}
    for item in data.items(split):
        drawings.setdefault(item.name, []).append(item.path)
    others = [name for name in drawings if name not in names]
    images, labels = [], []
    for _ in range(count):
        none = rng.random() < NONE
        shown = [rng.choice(others)] if none else rng.sample(names, rng.randint(1, 2))
        corners = [(0, 0), (EDGE - DRAWING, EDGE - DRAWING)]
        rng.shuffle(corners)
        image = Image.new("RGB", (EDGE, EDGE), "white")
        for name, corner in zip(shown, corners, strict=False):
            drawing = open_image(data.root, rng.choice(drawings[name])).resize((DRAWING, DRAWING))
            ink = drawing.convert("L").point(lambda value: 255 * (value < 250))
            image.paste(drawing, corner, ink)
        images.append(image)
        labels.append([] if none else sorted(shown))
    return images, labels


def run(name: str, seed: int) -> dict[str, float]:
    """Fit, calibrate and test once; return the figures by name."""
    method, preset, epochs, settings = RUNS[name]
    data = open_dataset(f"emoji/{GROUP}")
    names = data.class_names[:CLASSES]
    parts = {split: collages(data, names, split, count, seed) for split, count in COUNTS.items()}
    model = PromptClassifier(
        method, "tiny-clip", preset=preset, epochs=epochs, settings=settings, seed=seed, device="cpu"
    )
    model.fit(*parts["train"]).calibrate(*parts["val"])
    images, labels = parts["test"]
    answers, truth = model.answers(model.looks(images), names), targets(labels, names).bool()
    found = measure(
        model.inference.shares(answers.logits, names), truth, model.inference.passing(answers, names)
    )
    several = model.info_.multilabel
    assert several
    assert several.error_before is not None
    assert several.error_after is not None
    none = torch.tensor([not each for each in labels])
    said = model.inference.passing(answers, names).any(1)
    return {
        "mAP": found.mean_average_precision,
        "micro F1": found.micro_f1 or 0.0,
        "macro F1": found.macro_f1 or 0.0,
        "error before": several.error_before,
        "error after": several.error_after,
        "none answered": float(said[none].double().mean()),
        "others answered": float(said[~none].double().mean()),
    }


def rows(names: list[str]) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """Yield mean and standard deviation over the seeds, a method at a time."""
    for name in names:
        found = [run(name, seed) for seed in SEEDS]
        columns = {column: torch.tensor([each[column] for each in found]) for column in found[0]}
        yield name, {column: (float(each.mean()), float(each.std())) for column, each in columns.items()}


def main() -> None:
    """Print a table, of the methods that are named or all."""
    made = dict(rows(sys.argv[1:] or list(RUNS)))
    table = Table("method", *next(iter(made.values())))
    for name, row in made.items():
        table.add_row(name, *(f"{mean:.3f} ± {std:.3f}" for mean, std in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
