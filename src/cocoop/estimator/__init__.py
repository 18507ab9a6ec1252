"""One classifier of one's own: by the name of its method, or from a model folder."""

import json
import shlex
from pathlib import Path
from typing import Any

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import AUTO, choose_device, choose_precision
from cocoop.errors import CocoopError
from cocoop.estimator.backbone import shared_backbone
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.folder import read_model
from cocoop.estimator.params import SAVED
from cocoop.estimator.pull import check_backbone, model_folder
from cocoop.training.modes import checked_mode
from cocoop.training.prompt_file import trained_method
from cocoop.training.screening import check_mode


def CoCoOp(backbone: str | Backbone | None = None, **params: Any) -> PromptClassifier:
    """Return a `PromptClassifier` of CoCoOp: context conditioned on the image (arXiv:2203.05557).

    Examples:
        >>> import cocoop
        >>> from cocoop.data import open_image
        >>> data = cocoop.open_dataset("emoji/food")
        >>> items = [item for item in data.items("train") if item.name in ("banana", "grapes", "pizza")]
        >>> images = [open_image(data.root, item.path) for item in items]
        >>> model = cocoop.CoCoOp("tiny-clip", epochs=2, device="cpu")
        >>> model = model.fit(images, [item.name for item in items])
        >>> model.classes_.tolist()
        ['banana', 'grapes', 'pizza']
        >>> model.predict(images[:1], classes=["banana", "violin", "teapot"]).tolist()
        ['banana']
    """
    return PromptClassifier("cocoop", backbone, **params)


def CoOp(backbone: str | Backbone | None = None, **params: Any) -> PromptClassifier:
    """Return a `PromptClassifier` of CoOp: one context for all images (arXiv:2109.01134).

    Examples:
        >>> import cocoop
        >>> cocoop.CoOp(epochs=50, settings={"n_ctx": 8, "ctx_init": None})
        PromptClassifier(method='coop', epochs=50, settings={'n_ctx': 8, 'ctx_init': None})
    """
    return PromptClassifier("coop", backbone, **params)


def ZeroShot(backbone: str | Backbone | None = None, **params: Any) -> PromptClassifier:
    """Return a `PromptClassifier` of zero-shot CLIP: it predicts with `classes=` without a fit.

    Examples:
        >>> import cocoop
        >>> from cocoop.data import open_image
        >>> data = cocoop.open_dataset("emoji/food")
        >>> images = [open_image(data.root, item.path) for item in data.items("test") if item.name == "pizza"]
        >>> model = cocoop.ZeroShot("tiny-clip", device="cpu")
        >>> model.predict(images[:1], classes=["pizza", "violin", "teapot"]).tolist()
        ['pizza']
    """
    return PromptClassifier("zeroshot", backbone, **params)


def load(
    folder: str | Path,
    backbone: Backbone | None = None,
    *,
    device: str = AUTO,
    precision: str = AUTO,
    memory_budget: int | None = None,
    testing: str = AUTO,
) -> PromptClassifier:
    """Read a model folder back.

    Args:
        folder: what `PromptClassifier.save`, `cocoop fit` or `cocoop import-official` wrote; or what
            `cocoop push` put on the Hub, "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION".
        backbone: the loaded CLIP it was trained on; None loads it by the name in the folder.
        device: where to put that; "auto" takes an accelerator where there is one.
        precision: of that; see `load_backbone`.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        testing: how logits are computed; see `PromptClassifier`.

    Raises:
        UsageError: no such device, precision or way of testing, or the method has only the exact one.
        CocoopError: a file is missing, edited or cut off, or the backbone is another or not to be had; or a
            repository of the Hub is not there, or no model.

    Examples:
        >>> import cocoop
        >>> from cocoop.data import open_image
        >>> data = cocoop.open_dataset("emoji/food")
        >>> images = [open_image(data.root, item.path) for item in data.items("train")[:4]]
        >>> cocoop.CoOp("tiny-clip", epochs=1).fit(images, ["amphora"] * 2 + ["avocado"] * 2).save("model")
        >>> model = cocoop.load("model")
        >>> model.classes_.tolist()
        ['amphora', 'avocado']
    """
    choose_precision(precision, choose_device(device))  # a wrong one is not the backbone's fault
    info, tensors = read_model(model_folder(folder))
    name = info.prompt.backbone
    if backbone is None:
        check_backbone(folder, name)
    try:
        clip = backbone or shared_backbone(name, device, precision)
    except CocoopError as error:
        code = f"import cocoop; cocoop.load_backbone({json.dumps(name)})"
        raise CocoopError(
            f"{folder} needs the backbone {name}, which is not here and cannot be fetched: {error}. With a "
            f"network, fetch it once: {shlex.join(['python', '-c', code])}"
        ) from error
    method = trained_method(info.prompt, tensors, clip, folder)
    if testing != AUTO:
        check_mode(method, checked_mode(testing))
    here: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "memory_budget": memory_budget,
        "testing": testing,
    }
    params = {name: info.params[name] for name in SAVED if name in info.params}
    return PromptClassifier(backbone=backbone or name, **here, **params)._set_fitted(clip, method, info)


__all__ = ["CoCoOp", "CoOp", "PromptClassifier", "ZeroShot", "load"]
