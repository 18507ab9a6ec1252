"""The result of one cell, as it is kept in a run folder."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cocoop.experiments.cell import Cell

if TYPE_CHECKING:  # tables are made of records alone, without torch
    from jaxtyping import Float, Int
    from torch import Tensor

SCHEMA = 3
Count = Annotated[int, Field(ge=0, le=10**12)]


class Record(BaseModel):
    """The result of one cell.

    Attributes:
        schema_version: of this format.
        cell: what was trained and what it was tested on.
        correct: test images whose highest logit is the true class.
        total: test images.
        metrics: accuracy, macro F1 and calibration error, between 0 and 1.
        class_names: the candidates, in label order.
        train_images: images trained on.
        parameters: numbers learned.
        learned_bytes: memory of all that is saved beside the backbone: what is learned, and what is kept.
        lr: learning rate of every epoch.
        loss: mean training loss of every epoch.
        terms: where the loss has several, the mean of each in every epoch, by name.
        accuracy_by_epoch: share of the validation images right after every epoch, where the best is kept.
        selected: what the method selected or found, by name.
        selected_on: the images that this was decided on; empty where nothing was.
        order: of a stream of test images: the seed that it was drawn from, and a digest. The order itself is
            beside the predictions; empty where it makes no difference.
        seconds_to_train: wall time of all steps, and of what is computed in closed form.
        seconds_per_step: mean wall time of a training step.
        seconds_per_image: mean wall time of an answer from image features, the text features of the class
            names included.
        peak_memory_mb: highest resident memory of the process until now.
        files: digest of the training and test lists (path, label, name).
        predictions: SHA-256 of the file with them.
        environment: versions of packages, commit, machine and threads; see `cocoop.utils.environment`.
        approximation: where logits are not exact: "error", the largest difference of one found on "images"
            test images, and of screened ones "exact", the mean share of an image's classes that are exact.
        note: what must be known of the training data, and of how many classes a step compared, if anything.
        created: when, in UTC.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Annotated[int, Field(ge=SCHEMA, le=SCHEMA)] = SCHEMA
    cell: Cell
    correct: Count
    total: Annotated[Count, Field(ge=1)]
    metrics: dict[str, float]
    class_names: list[str]
    train_images: int
    parameters: int
    learned_bytes: int = 0
    lr: list[float]
    loss: list[float]
    terms: dict[str, list[float]] = {}
    accuracy_by_epoch: list[float] = []
    selected: dict[str, Any] = {}
    selected_on: str = ""
    order: str = ""
    seconds_to_train: float = 0.0
    seconds_per_step: float
    seconds_per_image: float = 0.0
    peak_memory_mb: float
    files: str
    predictions: str = ""
    environment: dict[str, str]
    approximation: dict[str, float] = {}
    note: str = ""
    created: str

    @property
    def accuracy(self) -> float:
        """Percent of test images classified correctly."""
        return 100 * self.correct / self.total


class Predictions(NamedTuple):
    """The highest logits of every test image.

    Attributes:
        classes: the classes they are of, the likeliest first.
        probabilities: of these classes.
        labels: the true classes.
    """

    classes: "Int[Tensor, 'n k']"
    probabilities: "Float[Tensor, 'n k']"
    labels: "Int[Tensor, ' n']"
