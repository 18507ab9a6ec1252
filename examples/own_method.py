"""A method of your own beside the paper's: does the Meta-Net need to see *this* image?

In a fresh folder, python examples/own_method.py runs CoCoOp and a variant that is shown another image, on
base and new classes, and prints the table. In the package the class would be one file in methods/.
"""

from pathlib import Path
from typing import ClassVar

from torch import nn

import cocoop
from cocoop.methods import METHODS, Facts, Paper, Preset, Recipe
from cocoop.methods.cocoop import Model as CoCoOp

QUICK = Recipe(epochs=1, batch_size=8)


@METHODS.register("stranger")
class Stranger(nn.Module):
    """CoCoOp, conditioned on an image from elsewhere in the batch."""

    facts = Facts(
        name="CoCoOp of a stranger",
        summary="is CoCoOp, conditioned on another image of the batch",
        paper=Paper("Never written", "You", "nowhere 2026", "2026-01", "https://example.org"),
        conditional=True,
        extends="cocoop",
    )
    config_type = CoCoOp.config_type
    presets: ClassVar = {"stranger": Preset(CoCoOp.config_type(), QUICK, "an example")}
    transferable = True

    def __init__(self, cfg, backbone, **given):
        super().__init__()
        self.cocoop = CoCoOp(cfg, backbone, **given)
        self.prompts = self.cocoop.prompts

    def forward(self, zimg, text):
        """Shift the context by what the Meta-Net says of another image."""
        return self.cocoop(zimg.roll(len(zimg) // 2, dims=0), text)


records = cocoop.run(
    "base-to-new",
    datasets=["emoji/activities"],
    methods=["zeroshot", "cocoop", "stranger"],
    seeds=[1],
    overrides=["cocoop.epochs=1", "cocoop.batch_size=8"],
    folder=Path("own-method"),
)
for record in records:
    cell = record.cell
    print(f"{cell.training.method:9} {cell.testing.subset:5} {record.correct:3} of {record.total} right")
