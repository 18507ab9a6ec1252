"""Linear and screened predictions of CoCoOp against exact ones: how fast, and how often they agree.

python -m benchmarks.linear speed --classes 1000
cocoop run base-to-new --methods cocoop --preset cocoop-paper --out runs
python -m benchmarks.linear agreement runs
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from benchmarks.measure import alternate, machine, versions
from benchmarks.text import class_names
from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import few_threads, synchronize
from cocoop.backbones.features import ImageEncoder
from cocoop.data import open_dataset
from cocoop.data.splits import SUBSETS, select, subset_labels
from cocoop.methods import METHODS, build
from cocoop.training.classifier import Classifier
from cocoop.training.linearised import linearise
from cocoop.training.prompt_file import PromptCard, load_prompt
from cocoop.training.screening import Screened, predictor
from cocoop.utils.files import default_cache

app = typer.Typer(add_completion=False)


@app.command()
def speed(
    classes: Annotated[int, typer.Option(min=2, help="How many of ImageNet's class names.")] = 1000,
    exact: Annotated[int, typer.Option(min=1, help="Images of each exact run.")] = 2,
    images: Annotated[int, typer.Option(min=1, help="Images of each screened and linear run.")] = 200,
    backbone: Annotated[str, typer.Option(help="Its speed does not depend on the weights.")] = (
        "ViT-B-16-quickgelu/random"
    ),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs of each, in turns.")] = 5,
) -> None:
    """Print the time of an answer from image features, once expanded, in Markdown."""
    clip = load_backbone(backbone, device, "fp32")
    config = METHODS.get("cocoop").config_type()
    method = build("cocoop", config, clip, template="{}", n_classes=classes, seed=1)
    classifier = Classifier(clip, method, class_names(classes))
    generator = torch.Generator().manual_seed(0)
    fimg = torch.randn(max(exact, images), clip.embed_dim, generator=generator)
    start = time.perf_counter()
    linear = linearise(classifier, fimg)
    synchronize()
    expansion = time.perf_counter() - start
    screened = Screened(linear)
    counts = {"exact": exact, "screened": images, "linear": images}
    sides = {"exact": classifier, "screened": screened, "linear": linear}
    jobs = {name: lambda name=name: sides[name].predict(fimg[: counts[name]]) for name in sides}
    runs = {
        name: [each / counts[name] for each in seconds] for name, seconds in alternate(jobs, repeats).items()
    }
    medians = {name: statistics.median(each) for name, each in runs.items()}
    print(
        "| | ms an image | fastest and slowest run | times as fast as exact |\n| --- | ---: | ---: | ---: |"
    )
    for name, each in runs.items():
        low, high = 1e3 * min(each), 1e3 * max(each)
        print(
            f"| {name} | {1e3 * medians[name]:.3g} | {low:.3g} to {high:.3g} | "
            f"{medians['exact'] / medians[name]:.0f} |"
        )
    even = expansion / (medians["exact"] - medians["screened"])
    shares = screened.measured.exact / screened.measured.images
    print(f"\n{classes} classes, d = {clip.embed_dim}, r = {len(linear.expansion.center)}")
    print(f"expansion {expansion:.1f} s: screening costs less from {even:.0f} images on")
    print(f"exact classes of a screened image: {shares:.1f}")
    print(f"{machine()}; {versions()}; medians of {repeats}, in turns")


@app.command()
def agreement(runs: Annotated[Path, typer.Argument(help="A run folder with trained prompts.")]) -> None:
    """Print how often the first answers are the exact ones, over base, new and all names, in Markdown."""
    clip = load_backbone("tiny-clip", "cpu", "fp32")
    with few_threads(clip.device, clip.width):
        rows = [
            row for path in sorted((runs / "prompts").glob("*.safetensors")) for row in _compare(path, clip)
        ]
    frame = pd.DataFrame(rows)
    columns = ["mean prompt", "linear", "screened", "mean error", "largest error", "exact classes"]
    print(f"| names | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    groups = [*frame.groupby("names", sort=False), ("together", frame)]
    for names, group in groups:
        shares = [f"{group[name].mean():.2%}" for name in columns[:3]]
        errors = [f"{group['mean error'].mean():.4f}", f"{group['largest error'].max():.2f}"]
        print(f"| {names} | {' | '.join([*shares, *errors, f'{group[columns[5]].mean():.1f}'])} |")
    lists = (
        f"{frame['prompt'].nunique()} prompts, {len(frame)} lists of names, {frame['images'].sum()} answers"
    )
    print(f"\n{lists}; fewest right of a list: linear {frame['linear'].min():.2%}")
    print(f"{machine()}; {versions()}")


def _compare(path: Path, clip: Backbone) -> Iterator[dict[str, Any]]:
    """Yield a row for each list of names that a prompt is tried on."""
    method, card = load_prompt(path, clip)
    if not method.facts.conditional:
        return
    data = open_dataset(card.notes["training"]["dataset"])
    images = ImageEncoder(clip, FeatureCache(default_cache()), data.decode)
    for subset in SUBSETS:
        labels = subset_labels(range(len(data.class_names)), subset)
        items = select(data.items("test"), labels)
        fimg = images.test(data.root, items)
        classifier = Classifier(clip, method, [data.class_names[label] for label in labels])
        yield {"prompt": path.stem, "names": subset, "images": len(items)} | _agreement(
            classifier, fimg, card
        )


@torch.no_grad()
def _agreement(classifier: Classifier, fimg: torch.Tensor, card: PromptCard) -> dict[str, float]:
    exact = classifier.predict(fimg)
    linear = predictor(classifier, "linear", fimg, card.hidden)
    screened = predictor(classifier, "screened", fimg, card.hidden)
    assert isinstance(screened, Screened)
    errors = (linear.predict(fimg) - exact).abs()
    mean = classifier.contexts(fimg).mean(0, keepdim=True)
    answers = {
        "mean prompt": classifier.pair(fimg, classifier.encode(mean)).logits,
        "linear": linear.predict(fimg),
        "screened": screened.predict(fimg),
    }
    same = {
        name: float((each.argmax(1) == exact.argmax(1)).double().mean()) for name, each in answers.items()
    }
    return same | {
        "mean error": float(errors.mean()),
        "largest error": float(errors.max()),
        "exact classes": screened.measured.exact / len(fimg),
    }


if __name__ == "__main__":
    app()
