"""A classifier over fixed names as an ONNX graph: images in, probabilities out, any number of images."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.training.classifier import Classifier
from cocoop.training.linearised import Linearised

LIMIT = 2 * 1000**3  # bytes of one ONNX file, which is one protobuf message
Logits = Callable[[Float[Tensor, "b d"]], Tensor]


class ImageClassifier(nn.Module):
    """Image tower, logits and softmax in one module.

    Args:
        backbone: the frozen CLIP.
        logits: image features (b, d) to logits (b, c).
    """

    def __init__(self, backbone: Backbone, logits: Logits) -> None:
        super().__init__()
        self.visual = backbone.model.visual
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, 3, s, s) to probabilities (b, c)."""
        return self.logits(self.visual(images)).softmax(-1)


@torch.no_grad()
def to_onnx(backbone: Backbone, answers: Classifier | Linearised) -> bytes:
    """Return a classifier as an ONNX file.

    Where the prompts depend on the image, the graph holds the text tower over the token tree of all the
    names, or where it is linearised an affine map for each; elsewhere it holds one matrix of text features.

    Raises:
        UsageError: the model is larger than one ONNX file can be, or its method is an ablation or adapts
            itself to test images.
    """
    classifier = answers.classifier if isinstance(answers, Linearised) else answers
    facts = classifier.method.facts
    if facts.ablation:
        raise UsageError(f"{facts.name} answers a question about {facts.extends}; export that instead")
    if facts.sees_test_images:
        raise UsageError(
            f"{facts.name} adapts itself to {facts.adaptation}, which a fixed graph cannot; use cocoop "
            "predict, or export a model of another method"
        )
    if (size := sum(p.nbytes for p in backbone.model.visual.parameters())) > LIMIT:
        raise UsageError(f"an ONNX file holds 2 GB, the image tower of {backbone.name} has {size / 1e9:.1f}")
    answers.predict(torch.zeros(1, backbone.embed_dim))  # what is computed once must not be traced
    logits = answers.logits if isinstance(answers, Linearised) else _exact(backbone, answers)
    model, edge = ImageClassifier(backbone, logits), backbone.preprocess.size
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            model.eval(),  # a module in training mode makes the exporter warn
            (torch.zeros(2, 3, edge, edge),),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(Path(folder) / "model.onnx"), external_data=False)
        return (Path(folder) / "model.onnx").read_bytes()


def _exact(backbone: Backbone, classifier: Classifier) -> Logits:
    if classifier.method.facts.conditional:
        encode = classifier.encode_text.in_one_piece()
        return lambda fimg: classifier.pair(fimg, encode(classifier.contexts(fimg))).logits
    fixed = classifier.encode(classifier.contexts(torch.zeros(1, backbone.embed_dim)))
    return lambda fimg: classifier.pair(fimg, fixed).logits


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the optimiser's notes on what it leaves as it is from the terminal."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
