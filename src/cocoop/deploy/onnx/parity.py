"""An exported model, fed by the shipped runner, against PyTorch on embedded images."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.backbones.features import Encode
from cocoop.data import Dataset, open_dataset
from cocoop.data.datasets.emoji import GROUPS
from cocoop.data.decode import open_image
from cocoop.data.storage import read_bytes
from cocoop.deploy.onnx.standalone import pixels
from cocoop.errors import CocoopError
from cocoop.training.classifier import Classifier
from cocoop.training.image import encoder_of
from cocoop.training.linearised import Linearised

TOLERANCE = 1e-4  # of a probability
BATCH = 16


@dataclass(frozen=True)
class Parity:
    """How an exported model differs from PyTorch.

    Attributes:
        data: name of the images it was tried on.
        images: how many.
        same: images with the same likeliest class.
        probability: largest difference of a probability.
        batch: largest difference between a batch and one image at a time, both exported.
        pixels: largest difference of a preprocessed pixel, as normalised.
        exact: images with the likeliest class of exact logits.
        approximation: largest difference of a probability from the exact one.
    """

    data: str
    images: int
    same: int
    probability: float
    batch: float
    pixels: float
    exact: int
    approximation: float

    def check(self) -> None:
        """Raise CocoopError where the exported model is not the same as PyTorch's."""
        if self.same < self.images or max(self.probability, self.batch) > TOLERANCE:
            raise CocoopError(
                f"the exported model is not the same: {self.same} of {self.images} answers agree and "
                f"probabilities differ by {max(self.probability, self.batch):.1e}; nothing was written"
            )


def compare(
    backbone: Backbone,
    answers: Classifier | Linearised,
    model: bytes,
    spec: dict[str, Any],
    data: Dataset,
    shares: Callable[[Float[Tensor, "n c"]], Float[Tensor, "n c"]] = lambda logits: logits.softmax(1),
) -> Parity:
    """Compare an ONNX file, fed by the runner's preprocessing, with what was exported.

    Args:
        backbone: the frozen CLIP.
        answers: what was exported.
        model: the ONNX file.
        spec: the preprocessing as the runner reads it.
        data: images to compare on; their labels do not matter.
        shares: probabilities of logits, or scores.
    """
    classifier = answers.classifier if isinstance(answers, Linearised) else answers
    encode = encoder_of(backbone, classifier.method)
    items, views, fimg = data.items("test"), views_of(backbone, data), features(backbone, data, encode)
    expected, exact = (shares(each.predict(fimg)).numpy() for each in (answers, classifier))
    inputs = [pixels(io.BytesIO(read_bytes(data.root, item.path)), spec) for item in items]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    probabilities = np.concatenate(
        [_run(session, inputs[i : i + BATCH]) for i in range(0, len(inputs), BATCH)]
    )
    single = np.concatenate([_run(session, [image]) for image in inputs[:BATCH]])
    return Parity(
        data=data.name,
        images=len(items),
        same=int((probabilities.argmax(1) == expected.argmax(1)).sum()),
        probability=float(np.abs(probabilities - expected).max()),
        batch=float(np.abs(probabilities[:BATCH] - single).max()),
        pixels=float(np.abs(np.stack(inputs) - torch.stack(views).numpy()).max()),
        exact=int((probabilities.argmax(1) == exact.argmax(1)).sum()),
        approximation=float(np.abs(expected - exact).max()),
    )


def features(backbone: Backbone, data: Dataset, encode: Encode) -> Float[Tensor, "n kd"]:
    """Encode the test images of a dataset with what makes features of pixels."""
    batches = torch.stack(views_of(backbone, data)).split(BATCH)
    return torch.cat([encode(batch) for batch in batches])


def views_of(backbone: Backbone, data: Dataset) -> list[Float[Tensor, "3 s s"]]:
    """Return the test images of a dataset as the image tower takes them."""
    return [backbone.preprocess.test(open_image(data.root, item.path)) for item in data.items("test")]


def embedded_images(class_names: Sequence[str]) -> Dataset:
    """Return the embedded dataset that shares most names with `class_names`."""
    groups = [open_dataset(f"emoji/{group}") for group in GROUPS]
    return max(groups, key=lambda group: len(set(group.class_names) & set(class_names)))


def _run(session: onnxruntime.InferenceSession, images: Sequence[np.ndarray]) -> np.ndarray:
    probabilities: np.ndarray = session.run(None, {"images": np.stack(images)})[0]
    return probabilities
