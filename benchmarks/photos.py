"""How well an embedded model names photographs, prompt by prompt: zero-shot accuracy on test images.

    python -m benchmarks.photos --root DATA --datasets caltech101,eurosat

DATA holds the datasets of the benchmark in its own layout. "own" is the template of the dataset in CoOp's
code; nothing is chosen, all templates are shown.
"""

from typing import Annotated

import torch
import typer
from rich.console import Console

from cocoop import ZeroShot, open_dataset
from cocoop.backbones.pretrained import EMBEDDED_PHOTO
from cocoop.estimator.features import encoder

TEMPLATES = ("a photo of a {}.", "{}", "a good photo of a {}.", "a close-up photo of a {}.", "a {}.")


def accuracies(dataset: str, root: str, backbone: str) -> dict[str, float]:
    """Return the top-1 accuracy in percent on the test images of a dataset, by template."""
    data = open_dataset(dataset, root)
    clip = ZeroShot(backbone, device="cpu").load_backbone()
    items = data.items("test")
    features = encoder(clip, data).test(data.root, items)
    truth = torch.tensor([item.label for item in items])
    found = {}
    for template in (data.template, *TEMPLATES):
        model = ZeroShot(clip, template=template)
        right = model.logits(features, data.class_names).argmax(1) == truth
        found["own" if template == data.template and not found else template] = (
            100 * right.double().mean().item()
        )
    return found


def main(
    root: Annotated[str, typer.Option(help="The folder of the datasets.")],
    datasets: Annotated[str, typer.Option(help="Names, separated by commas.")] = "caltech101,eurosat",
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = EMBEDDED_PHOTO,
) -> None:
    """Print the accuracies."""
    console = Console()
    for dataset in datasets.split(","):
        for template, value in accuracies(dataset, root, backbone).items():
            console.print(f"{dataset:12} {value:5.1f}  {template}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
