"""Domain generalization (Table 3): train on one domain, test on the same classes in shifted domains.

ImageNet's shifted domains are datasets of their own. Any other dataset may have them as further lists of test
images, as the embedded groups have their monochrome vendors.
"""

from collections.abc import Iterator

from cocoop.errors import UsageError
from cocoop.experiments.cell import Cell, Testing
from cocoop.experiments.protocols import PROTOCOLS, Protocol, Settings, grid, unique
from cocoop.experiments.protocols.cross_dataset import table, whole

NAME = "domain-generalization"
VARIANTS = {"imagenet": ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")}


def cells(settings: Settings) -> list[Cell]:
    """Return cells for every source, method and seed: its own test images and those of its shifted domains.

    Sources are that of the settings, else all datasets that have shifted domains.

    Raises:
        UsageError: no source has a shifted domain.
    """
    sources = (settings.source,) if settings.source else settings.datasets
    shifted = {source: list(domains(source, settings)) for source in sources}
    if not any(shifted.values()):
        raise UsageError(
            f"{NAME} tests in shifted domains, and {', '.join(sources)} has none; datasets with some: "
            f"{', '.join(VARIANTS)} and those with further lists of test images, such as emoji/food"
        )
    return unique(
        cell
        for source, tests in shifted.items()
        if tests
        for cell in grid(NAME, settings, source, "all", [whole(source), *tests])
    )


def domains(source: str, settings: Settings) -> Iterator[Testing]:
    """Yield the tests in the shifted domains of a source."""
    yield from map(whole, VARIANTS.get(source, ()))
    if source in settings.summaries:
        yield from (whole(source, split) for split in settings.summaries[source].domains)


PROTOCOLS.register(NAME)(
    Protocol(
        title="Domain generalization",
        paper="Table 3",
        order=3,
        about="Prompts are trained on all classes of a dataset, the source, and tested on images of the same "
        "classes from other domains, the targets: sketches of what was photographed, or monochrome drawings "
        "of what was in colour.",
        cells=cells,
        table=table,
    )
)
