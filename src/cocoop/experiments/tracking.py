"""The curves of a fit, epoch by epoch, to TensorBoard or another tracker that accelerate knows."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cocoop.errors import CocoopError, unknown
from cocoop.experiments.cell import Training
from cocoop.training.loop import Epoch

DEFAULT = "tensorboard"
NONE = "none"


def choose_tracker(name: str | None) -> str:
    """Return the tracker called `name`; without a name TensorBoard where it is installed, else "none".

    Raises:
        UsageError: accelerate knows no such tracker.
        CocoopError: it is not installed.
    """
    if name is None:
        return DEFAULT if importlib.util.find_spec("tensorboard") else NONE
    if name == NONE:
        return NONE
    from accelerate import tracking

    if name not in tracking.LOGGER_TYPE_TO_CLASS:
        raise unknown("tracker", name, [NONE, *tracking.LOGGER_TYPE_TO_CLASS])
    if name not in map(str, tracking.get_available_trackers()):
        raise CocoopError(f"the tracker {name} is not installed; install it, or leave --track out")
    return name


@contextmanager
def tracked(name: str, folder: Path, training: Training) -> Iterator[Callable[[Epoch], None]]:
    """Track one training; yield what to call after every epoch.

    Trackers that write files write them to `folder`, in a subfolder for every training; for the others
    all trainings belong to the project "cocoop".
    """
    if name == NONE:
        yield lambda epoch: None
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    where = (f"{training.method}-{training.key}", folder) if kind.requires_logging_directory else ("cocoop",)
    tracker = kind(*where)
    tracker.start()
    settings = training.model_dump(exclude={"config", "recipe"}) | training.config | (training.recipe or {})
    tracker.store_init_configuration({key: value for key, value in settings.items() if value is not None})
    try:
        yield lambda epoch: tracker.log({"loss": epoch.loss, "lr": epoch.lr}, step=epoch.done)
    finally:
        tracker.finish()
