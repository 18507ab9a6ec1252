"""The curves of a fit in TensorBoard, epoch by epoch."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cocoop.errors import CocoopError, unknown
from cocoop.experiments.cell import Training
from cocoop.training.loop import Epoch

TENSORBOARD = "tensorboard"
NONE = "none"


def choose_tracker(name: str | None) -> str:
    """Return `name`, "tensorboard" or "none"; without a name TensorBoard where it is installed.

    Raises:
        UsageError: another name.
        CocoopError: TensorBoard is not installed.
    """
    installed = importlib.util.find_spec("tensorboard") is not None
    if name is None:
        return TENSORBOARD if installed else NONE
    if name not in (TENSORBOARD, NONE):
        raise unknown("tracker", name, (TENSORBOARD, NONE))
    if name == TENSORBOARD and not installed:
        raise CocoopError("--track tensorboard needs TensorBoard: pip install 'cocoop[track]'")
    return name


@contextmanager
def tracked(name: str, folder: Path, training: Training) -> Iterator[Callable[[Epoch], None]]:
    """Track one training in a subfolder of `folder`; yield what to call after every epoch."""
    if name == NONE:
        yield lambda epoch: None
        return
    from torch.utils.tensorboard import SummaryWriter

    settings = training.model_dump(exclude={"config", "recipe"}) | training.config | (training.recipe or {})
    shown = {key: value for key, value in settings.items() if isinstance(value, bool | int | float | str)}

    def log(epoch: Epoch) -> None:
        writer.add_scalar("loss", epoch.loss, epoch.done)
        writer.add_scalar("lr", epoch.lr, epoch.done)
        writer.flush()

    with SummaryWriter(str(folder / f"{training.method}-{training.key}")) as writer:
        writer.add_hparams(shown, {}, run_name=".")
        yield log
