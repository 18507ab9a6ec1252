"""Ablations (Figure 4, Table 5 and beyond): base-to-new with one setting of CoOp or CoCoOp changed at a time.

Figure 4 varies how CoCoOp's context starts and how long it is. Table 5 gives CoOp a context so long that it
learns about as many parameters as CoCoOp. What the Meta-Net makes of the image is asked by leaving it out
and by showing it another image.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import pandas as pd

from cocoop.experiments.aggregate import with_averages
from cocoop.experiments.cell import Cell
from cocoop.experiments.protocols import PROTOCOLS, Protocol, Settings, grid, unique
from cocoop.experiments.protocols.base_to_new import rows, tests
from cocoop.experiments.record import Record
from cocoop.methods import METHODS
from cocoop.methods._settings import MethodChoice

NAME = "ablation"
LENGTHS = (4, 8, 16)  # context vectors in Figure 4
LONGEST = 60  # in Table 5, where a window of 77 tokens has room for it beside the names


def cells(settings: Settings) -> list[Cell]:
    """Return the cells of base-to-new for every variant of every method."""
    methods = list(variants(settings))
    return unique(
        cell
        for dataset in settings.datasets
        for cell in grid(NAME, settings, dataset, "base", tests(dataset), methods=methods)
    )


def variants(settings: Settings) -> Iterator[MethodChoice]:
    """Yield every method as it is, and what is asked about CoOp and CoCoOp.

    Contexts are no longer than the names of all the datasets leave room for.
    """
    room = min((summary.room for summary in settings.summaries.values()), default=LONGEST)
    for choice in settings.methods:
        yield choice
        if choice.method == "coop":
            yield random_context(choice, min(LONGEST, room))
        if choice.method == "cocoop":
            yield from (random_context(choice, length) for length in LENGTHS if length <= room)
            yield without_meta_net(choice)
            yield other_image(choice)


def random_context(choice: MethodChoice, length: int) -> MethodChoice:
    """Start from so many random vectors in place of words."""
    config = dataclasses.replace(choice.config, ctx_init=None, n_ctx=length)
    return choice.variant(f"M={length}, random", config=config)


def without_meta_net(choice: MethodChoice) -> MethodChoice:
    """Leave the Meta-Net out, in training and testing: CoOp's model, trained by CoCoOp's recipe."""
    config = METHODS.get("coop").config_type(choice.config.ctx_init, choice.config.n_ctx)
    return choice.variant("no Meta-Net", method="coop", config=config)


def other_image(choice: MethodChoice) -> MethodChoice:
    """Show the Meta-Net another image, in training and testing."""
    return choice.variant("other images", method="cocoop-other-image")


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return the table of base-to-new, with the number of learned parameters as in Table 5."""
    learned = {record.cell.training.label: record.parameters for record in records}
    frame = with_averages(list(rows(records)), ("base", "new"))
    return frame if frame.empty else frame.assign(params=frame["method"].map(learned))


PROTOCOLS.register(NAME)(
    Protocol(
        title="Ablations",
        paper="Figure 4 and Table 5",
        order=6,
        about="Base-to-new with one thing changed at a time. M is the number of context vectors, which start "
        "from random values instead of words. “No Meta-Net” trains and tests CoCoOp without the network that "
        "looks at the image; “other images” shows that network another image than the one to recognise.",
        cells=cells,
        table=table,
        varies="settings",
    )
)
