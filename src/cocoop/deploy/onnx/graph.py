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
from cocoop.estimator.calibration import Score
from cocoop.estimator.multilabel import MultiLabel
from cocoop.methods._hooks import Output
from cocoop.training.classifier import Classifier
from cocoop.training.image import encoder_of, image_tower
from cocoop.training.linearised import Linearised

LIMIT = 2 * 1000**3  # bytes of one ONNX file, which is one protobuf message
Outputs = Callable[[Float[Tensor, "b d"]], Output]


class ImageClassifier(nn.Module):
    """Image tower, logits and softmax in one module.

    Args:
        backbone: the frozen CLIP.
        classifier: over the names.
        output: image features (b, d) to what its logits are computed from.
        temperature: of the probabilities.
        score: what tells images of no class, as a second output; None for no such output.
        several: where an image may have several classes, how logits become scores, which take the place of
            the probabilities; else None.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: Classifier,
        output: Outputs,
        temperature: float = 1.0,
        score: Score | None = None,
        several: MultiLabel | None = None,
    ) -> None:
        super().__init__()
        self.affine: tuple[float, Tensor] | None = several.affine(classifier.class_names) if several else None
        self.temperature, self.score = temperature, score
        self.image = image_tower(backbone, classifier.method)
        self.classifier, self.output = classifier, output

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (b, 3, h, w) to probabilities (b, c), and to the score (b,) where there is one."""
        out = self.output(self.image(images))
        if self.affine is not None:
            slope, shift = self.affine
            return torch.sigmoid(slope * out.logits + shift)
        probabilities = (out.logits / self.temperature).softmax(-1)
        if self.score is None:
            return probabilities
        if self.score == "confidence":
            return probabilities, probabilities.amax(-1)
        if self.score == "energy":
            return probabilities, out.logits.logsumexp(-1)
        return probabilities, self.classifier.cosine(out).amax(-1)


@torch.no_grad()
def to_onnx(
    backbone: Backbone,
    answers: Classifier | Linearised,
    temperature: float = 1.0,
    score: Score | None = None,
    several: MultiLabel | None = None,
) -> bytes:
    """Return a classifier as an ONNX file, with probabilities, and the score for unknown images if wanted.

    Where an image may have several classes, its output is called "scores" and has one for each.

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
    if (size := sum(p.nbytes for p in backbone.image.parameters())) > LIMIT:
        raise UsageError(f"an ONNX file holds 2 GB, the image tower of {backbone.name} has {size / 1e9:.1f}")
    edges = backbone.preprocess.edges
    seen = encoder_of(backbone, classifier.method)(torch.zeros(1, 3, *edges))
    answers.predict(seen)  # what is computed once must not be traced
    output = answers.output if isinstance(answers, Linearised) else _exact(backbone, answers)
    model = ImageClassifier(backbone, classifier, output, temperature, score, several)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            model.eval(),  # a module in training mode makes the exporter warn
            (torch.zeros(2, 3, *edges),),
            input_names=["images"],
            output_names=["scores" if several else "probabilities", *(["score"] if score else [])],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(Path(folder) / "model.onnx"), external_data=False)
        return (Path(folder) / "model.onnx").read_bytes()


def _exact(backbone: Backbone, classifier: Classifier) -> Outputs:
    if classifier.method.facts.conditional:
        encode = classifier.encoder_in_one_piece()
        return lambda fimg: classifier.pair(fimg, encode(classifier.contexts(fimg)))
    fixed = classifier.encode(classifier.contexts(torch.zeros(1, backbone.embed_dim)))
    return lambda fimg: classifier.pair(fimg, fixed)


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
