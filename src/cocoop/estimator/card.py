"""What a saved model says about itself: as checked values for programs, and as a page for people."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from huggingface_hub import EvalResult, ModelCardData
from pydantic import BaseModel, ConfigDict, Field

from cocoop.backbones.names import hub_repository
from cocoop.estimator.calibration import Calibration, Threshold
from cocoop.estimator.multilabel import MultiLabel
from cocoop.methods import facts_of
from cocoop.methods._recipe import Recipe
from cocoop.training.prompt_file import PromptCard
from cocoop.utils.display import markdown as plain

SCHEMA = 2
TAGS = ("clip", "few-shot", "prompt-learning")
VIEWS = ("augmentation", "crop", "views")  # what is said of a closed form
STEPS = ("epochs", "batch_size", "lr", "optimizer", "weight_decay")  # what is always said of steps


class Result(BaseModel):
    """What a model and zero-shot CLIP got right on the same images with the same candidate classes.

    Attributes:
        name: which images and candidates, in words.
        classes: candidates.
        images: images tested.
        zeroshot: images that zero-shot CLIP has right.
        trained: images that the model has right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    classes: int
    images: int
    zeroshot: int
    trained: int

    @property
    def worse(self) -> bool:
        """Whether training did harm here."""
        return self.trained < self.zeroshot


class ModelInfo(BaseModel):
    """Everything in a model folder but the learned tensors.

    Attributes:
        prompt: what the prompt file says: method, settings, backbone and digest of its weights, class names.
        learned: SHA-256 of the prompt file.
        params: what the estimator was made with.
        recipe: how it was fitted; None where nothing is learned.
        preprocess: the pixels the backbone expects; empty where it was imported.
        precision: of the backbone in training; empty where it was imported.
        images: images trained on.
        lr, loss, terms, accuracy, selected, selected_on, seconds, hidden: what happened in the training, as
            `cocoop.training.log.TrainingLog` has it; losses are means of epochs.
        results: on images not trained on.
        calibration: of its probabilities; None where there were too few held-out images.
        unknown: from where on it answers; None where there were too few.
        multilabel: scores, thresholds and results where an image may have several classes; else None.
        environment: versions, commit and machine.
        created: when, in UTC.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Annotated[int, Field(ge=SCHEMA, le=SCHEMA)] = SCHEMA
    prompt: PromptCard
    learned: Annotated[str, Field(pattern="^[0-9a-f]*$")] = ""
    params: dict[str, Any] = {}
    recipe: dict[str, Any] | None = None
    preprocess: dict[str, Any]
    precision: str
    images: int = 0
    lr: list[float] = []
    loss: list[float] = []
    terms: dict[str, list[float]] = {}
    accuracy: list[float] = []
    selected: dict[str, Any] = {}
    selected_on: str = ""
    seconds: float = 0.0
    hidden: dict[str, list[float]] = {}
    results: list[Result] = []
    calibration: Calibration | None = None
    unknown: Threshold | None = None
    multilabel: MultiLabel | None = None
    environment: dict[str, str]
    created: str


def markdown(info: ModelInfo, name: str, transferable: bool = True) -> str:
    """Return the model card of a model called `name`: front matter as the Hub reads it, then the page.

    Args:
        info: what the card is about.
        name: of the model.
        transferable: whether it takes other class names than its own.
    """
    prompt = info.prompt
    calls = ['predict(["image.png"])'] if prompt.class_names else []
    calls += ['predict_proba(["image.png"], classes=["any", "other", "names"])'] if transferable else []
    use = "".join(f"print(model.{call})\n" for call in calls)
    weights = f"weights `{prompt.weights[:16]}`" if prompt.weights else "weights not recorded"
    parts = [
        f"---\n{front_matter(info, name).to_yaml()}\n---",
        f"# {plain(name)}",
        f"An image classifier made with cocoop: {_method(info)} It {_classes(info, transferable)}.",
        f"## Use it\n\n```python\nimport cocoop\n\nmodel = cocoop.load({name!r})\n{use}```",
        f"It needs the backbone {plain(prompt.backbone)}, the frozen CLIP it was trained on ({weights}), "
        "which is not part of this folder.",
        f"## Classes\n\n{', '.join(map(plain, prompt.class_names)) or 'None of its own.'}",
        f"## Training\n\n{_training(info)}",
        f"## Results\n\n{_results(info)}",
        f"## Limits\n\n{_unknown(info)} {_calibrated(info)}. "
        "It has the biases of its backbone, and of the images it was trained on.",
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(info: ModelInfo, name: str) -> ModelCardData:
    """Return what the Hub reads of a model called `name`."""
    scores = [
        EvalResult(
            task_type="image-classification",
            dataset_type="own",
            dataset_name=result.name,
            metric_type="accuracy",
            metric_value=round(result.trained / result.images, 4),
        )
        for result in info.results
    ]
    scores += [
        EvalResult(
            task_type="image-classification",
            dataset_type="own",
            dataset_name=result.name,
            metric_type="f1",
            metric_name="macro F1",
            metric_value=round(result.trained.macro_f1, 4),
        )
        for result in (info.multilabel.results if info.multilabel else ())
        if result.trained.macro_f1 is not None
    ]
    base = hub_repository(info.prompt.backbone)
    return ModelCardData(
        library_name="cocoop",
        pipeline_tag="zero-shot-image-classification",
        tags=[*TAGS, *["multi-label-classification"] * bool(info.multilabel), info.prompt.method],
        base_model=base,
        base_model_relation="adapter" if base else None,
        metrics=list(dict.fromkeys(each.metric_type for each in scores)) or None,
        model_name=name,
        eval_results=scores or None,
    )


def _method(info: ModelInfo) -> str:
    method = facts_of(info.prompt.method)
    learned = "fitted on a frozen CLIP." if method.learns else "nothing is learned."
    adapts = f" It adapts itself to {method.adaptation}, without labels." if method.sees_test_images else ""
    return f"[{method.name}]({method.paper.link}), {learned}{adapts}"


def _classes(info: ModelInfo, transferable: bool) -> str:
    if not info.prompt.class_names:
        return "has no classes of its own, and takes any names"
    others = "takes any other names" if transferable else "takes no other names"
    return f"knows {len(info.prompt.class_names)} classes, and {others}"


def _training(info: ModelInfo) -> str:
    if imported := info.prompt.notes.get("imported"):
        epoch = "" if imported["epoch"] is None else f", epoch {imported['epoch']}"
        return (
            f"By the released code; brought over from {plain(imported['file'])}{epoch} "
            f"(SHA-256 `{imported['sha256'][:16]}`)."
        )
    if not info.recipe:
        return f"None. The prompt is {plain(info.prompt.template)}."
    recipe = ", ".join(f"{key} {value}" for key, value in _said(info.recipe).items())
    if info.selected:
        chosen = ", ".join(f"{name} {plain(str(value))}" for name, value in info.selected.items())
        recipe += f". Selected on {info.selected_on or 'the training images'}: {chosen}"
    last = f"; the loss of the last epoch was {info.loss[-1]:.3f}" if info.loss else ""
    return (
        f"On {info.images} images with seed {info.prompt.seed}: {recipe}. It took {info.seconds:.0f} s"
        f"{last}. Settings, versions and the learning rates are in `model.json`."
    )


def _said(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe that matter: what is not as it is by default, and of steps the size."""
    default = asdict(Recipe())
    counted = recipe["epochs"] or recipe.get("steps") or recipe.get("steps_per_shot")
    kept = STEPS if counted else VIEWS
    return {
        name: value
        for name, value in recipe.items()
        if name in kept or (kept is STEPS and value != default.get(name, value))
    }


def _unknown(info: ModelInfo) -> str:
    if info.multilabel:
        return (
            "An image may have several of its classes, or none: a class is answered where its score reaches "
            "its threshold, which is in `model.json`."
        )
    if info.unknown is None:
        return "It answers with one of the names it is given, also where none of them fits."
    return (
        f"Among its own classes it is unsure where the {info.unknown.score} is below "
        f"{info.unknown.value:.4g}, as it is for one in twenty of the held-out images; among other names it "
        "always answers."
    )


def _calibrated(info: ModelInfo) -> str:
    """Say what its numbers are, and how far they can be trusted."""
    if several := info.multilabel:
        if not several.images:
            return "Its scores are not calibrated"
        return (
            f"Its scores are independent of each other, and calibrated on {several.images} held-out images "
            f"(expected calibration error {several.error_before:.3f} before, {several.error_after:.3f} after)"
        )
    what = "Its probabilities are over the names it is given"
    if info.calibration is None:
        return what
    found = info.calibration
    return (
        f"{what}, and calibrated on {found.images} held-out images (temperature {found.temperature:.3g}, "
        f"expected calibration error {found.before:.3f} before, {found.after:.3f} after)"
    )


def _results(info: ModelInfo) -> str:
    if info.multilabel and info.multilabel.results:
        return _several(info.multilabel)
    if not info.results:
        return "Not measured."
    rows = ["| images | classes | number | zero-shot | this model |", "| --- | ---: | ---: | ---: | ---: |"]
    for r in info.results:
        rows.append(
            f"| {plain(r.name)} | {r.classes} | {r.images} | {r.zeroshot / r.images:.1%} "
            f"| {r.trained / r.images:.1%} |"
        )
    return "\n".join(rows)


def _several(found: MultiLabel) -> str:
    """Return the results of a model whose images may have several classes."""
    rows = [
        "| images | classes | number | | mAP | micro F1 | macro F1 |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for r in found.results:
        for who, each in (("zero-shot", r.zeroshot), ("this model", r.trained)):
            values = (each.mean_average_precision, each.micro_f1, each.macro_f1)
            shown = " | ".join("" if value is None else f"{value:.3f}" for value in values)
            rows.append(f"| {plain(r.name)} | {r.classes} | {r.images} | {who} | {shown} |")
    return "\n".join(rows)
