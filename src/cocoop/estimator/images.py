"""The images of a dataset as features, with a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import Backbone
from cocoop.backbones.features import ImageEncoder
from cocoop.data import Dataset, Item
from cocoop.utils.files import default_cache


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
    """Encode images of a dataset. Raises CocoopError naming all that cannot be read."""
    with progress("looking at images", len(items), console) as advance:
        return encoder(backbone, dataset).test(dataset.root, items, advance)
