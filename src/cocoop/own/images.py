"""The images of a dataset as features, with a progress bar, and all bad files named where one is bad."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from cocoop.backbone import Backbone
from cocoop.data import Dataset, Item
from cocoop.data.images import open_image
from cocoop.errors import CocoopError
from cocoop.features import FeatureCache, ImageEncoder
from cocoop.files import default_cache

SHOWN = 10  # bad files named in a message


@contextmanager
def progress(
    what: str, total: int, console: Console, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a bar that goes away when done; yields what advances it. What else is printed stays apart."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=hidden or not console.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def encoder(backbone: Backbone, dataset: Dataset) -> ImageEncoder:
    """Return the encoder of a dataset's images, through the user's cache."""
    return ImageEncoder(backbone, FeatureCache(default_cache()), dataset.decode)


def encode(
    backbone: Backbone, dataset: Dataset, items: Sequence[Item], console: Console
) -> Float[Tensor, "n d"]:
    """Encode images of a dataset. Raises CocoopError naming all that cannot be read, not the first."""
    with progress("looking at images", len(items), console) as advance:
        try:
            return encoder(backbone, dataset).test(dataset.root, items, advance)
        except CocoopError as error:
            raise CocoopError(_bad(dataset, items) or str(error)) from error


def _bad(dataset: Dataset, items: Sequence[Item]) -> str:
    """Return what is wrong with the images that cannot be read."""
    problems = []
    for item in items:
        try:
            open_image(dataset.root, item.path, dataset.decode)
        except CocoopError as error:
            problems.append(f"\n  {item.path}: {error.__cause__}")
    more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return (
        f"{len(problems)} image(s) under {dataset.root} cannot be read; replace or remove them:"
        f"{''.join(problems[:SHOWN])}{more}"
        if problems
        else ""
    )
