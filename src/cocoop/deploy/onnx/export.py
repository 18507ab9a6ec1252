"""`cocoop export`: a model and its class names as a folder that runs without torch.

```
model.onnx    images (b, 3, s, s) to probabilities (b, classes), or scores where an image may have several
run.py        a runner: numpy, pillow and onnxruntime
export.json   class names, preprocessing, what it was made from and how it was checked; written last
```
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.folder import check_place
from cocoop.estimator.inputs import Classes
from cocoop.training.classifier import Classifier
from cocoop.training.linearised import Linearised
from cocoop.utils.files import write_bytes, write_json

DESCRIPTION, MODEL, RUNNER = "export.json", "model.onnx", "run.py"


def export(
    model: PromptClassifier,
    classes: Classes | None,
    out: Path,
    console: Console,
    overwrite: bool = False,
) -> None:
    """Export a model for fixed class names, check it against PyTorch, write it, and say how it compares.

    Args:
        model: on the CPU.
        classes: names to choose from; None for the model's.
        out: a new folder.
        console: where the figures go.
        overwrite: replace an earlier export.

    Raises:
        UsageError: bad names, `out` holds something else, the model is too large for ONNX, or it is to be
            screened: a graph cannot choose what it computes.
        CocoopError: the extra `export` is missing, or the exported model differs; nothing is written.
    """
    check_place(out, DESCRIPTION, (DESCRIPTION, MODEL, RUNNER), "an export", overwrite)
    try:
        from cocoop.deploy.onnx.graph import to_onnx
        from cocoop.deploy.onnx.parity import compare, embedded_images, features
    except ImportError as error:
        raise CocoopError(f"exporting needs more: pip install 'cocoop[export]' ({error})") from None
    if model.testing == "screened":
        raise UsageError("a graph cannot choose what it computes: export with --testing exact or linear")
    classifier, clip = model.classifier(classes), model.load_backbone()
    prompt, preprocess = model.info_.prompt, asdict(clip.preprocess)
    several, names = model.info_.multilabel, classifier.class_names
    if len(names) < 2 and not several:
        raise UsageError("an export of one class would answer with 100% whatever the image; give two or more")
    images = embedded_images(classifier.class_names)
    linear = model.testing == "linear" and classifier.method.facts.conditional
    answers = model.predictor(features(clip, images, clip.encode_image), classes) if linear else classifier
    assert isinstance(answers, Classifier | Linearised)
    limit = model.info_.unknown
    limit = limit if limit and limit.names == list(classifier.class_names) else None
    onnx = to_onnx(clip, answers, model.temperature, limit.score if limit else None, several)
    shares = partial(model.inference.shares, names=names)
    parity = compare(clip, answers, onnx, preprocess, images, shares)
    parity.check()
    write_bytes(out / MODEL, onnx)
    write_bytes(out / RUNNER, (Path(__file__).parent / "standalone.py").read_bytes())
    description = {
        "classes": classifier.class_names,
        "preprocess": preprocess,
        "temperature": model.temperature,
        "thresholds": several.thresholds_of(names).tolist() if several else None,
        "unsure": {"score": limit.score, "below": limit.value} if limit else None,
        "method": prompt.method,
        "testing": "linear" if linear else "exact",
        "backbone": prompt.backbone,
        "weights": clip.weights_digest,
        "environment": model.info_.environment,
        "parity": asdict(parity),
    }
    write_json(out / DESCRIPTION, description)
    conditional = classifier.method.facts.conditional
    kind = "prompts computed from each image" if conditional else "one matrix of prompts"
    kind = "text features to first order, an approximation" if linear else kind
    rough = (
        f"  same answer as exact       {parity.exact} of {parity.images}",
        f"  largest error              {parity.approximation:.1e} of a probability, of the approximation",
    )
    lines = (
        f"{prompt.method} on {prompt.backbone}, {len(classifier.class_names)} classes, {kind}",
        f"checked with onnxruntime on {parity.images} test images of {parity.data}:",
        f"  same answer as PyTorch     {parity.same} of {parity.images}",
        f"  largest difference         {parity.probability:.1e} of a probability, through run.py's pixels",
        f"  batch against one by one   {parity.batch:.1e} of a probability",
        f"  preprocessing              {parity.pixels:.1e} of a normalised pixel",
        *(rough if linear else ()),
        f"written to {out}: {MODEL} ({len(onnx) / 1e6:.1f} MB), {RUNNER}, {DESCRIPTION}",
        f"try: python {out / RUNNER} IMAGE",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
