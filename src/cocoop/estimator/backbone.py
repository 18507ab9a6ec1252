"""The backbone of a classifier: loaded once for all, and chosen where none is named."""

import threading
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache

from huggingface_hub import constants, get_session
from rich.console import Console

from cocoop.backbones.clip import EMBEDDED, Backbone, load_backbone
from cocoop.backbones.names import cached
from cocoop.backbones.pretrained import DRAWINGS, PHOTOGRAPHS, SHIPPED, embedded_for
from cocoop.data import Dataset
from cocoop.data.drawn import are_photographs, look_photographed
from cocoop.errors import CocoopError
from cocoop.utils.assets import ASSETS

AUTO = "auto"
REAL = "ViT-B-16/openai"  # what "auto" takes where it can be had
SIZE = "600 MB"  # of its weights
PATIENCE = 3.0  # seconds until a network counts as absent


@lru_cache(maxsize=2)
def shared_backbone(name: str, device: str, precision: str) -> Backbone:
    """Load a backbone once for all classifiers: it is frozen."""
    return load_backbone(name, device, precision)


@cache
def chosen() -> tuple[str, str]:
    """Return the backbone that "auto" fetches or has here, "" for an embedded one, and why: asked once."""
    if cached(REAL):
        return REAL, "it is in the cache"
    if constants.HF_HUB_OFFLINE:
        return "", f"{REAL} is not in the cache, and HF_HUB_OFFLINE is set"
    if not _reachable():
        return "", f"{REAL} is not in the cache, and {constants.ENDPOINT} cannot be reached"
    return REAL, f"it is fetched once, {SIZE}"


def backbone_name(name: str | None, photographs: bool) -> str:
    """Return the name of a backbone, where "auto" or none is given the one that can be had here.

    Args:
        name: of a backbone, or None.
        photographs: whether the images look like photographs, for which another one is embedded.
    """
    return chosen()[0] or embedded_for(photographs) if name in (None, AUTO) else str(name)


def backbone_for(name: str, data: Dataset, device: str, precision: str, console: Console) -> Backbone:
    """Load the backbone for a dataset; warn first where it will not know the images.

    Args:
        name: of a backbone; "auto" takes ViT-B/16 from the cache or the network, else the embedded one
            that knows such images.
        data: what it is for.
        device: where to put it.
        precision: see `load_backbone`.
        console: where the choice and the warning go.

    Raises:
        CocoopError: a backbone that was named cannot be had.
    """
    name, why = planned(name, data)
    if why and name == REAL:
        console.print(f"backbone: {REAL} ({why})", highlight=False, soft_wrap=True)
        try:
            return shared_backbone(name, device, precision)
        except CocoopError as error:
            name, why = embedded_for(are_photographs(data)), str(error)
    if why:  # it was chosen by looking at the images
        warn(f"{why}, so the embedded {name} is used. {limits(name)}.", console)
    elif name in SHIPPED and not _is_embedded(data) and any(data.splits.values()):
        warn(unknown_to_it(name, are_photographs(data)), console)
    return shared_backbone(name, device, precision)


def planned(name: str, data: Dataset) -> tuple[str, str]:
    """Return the backbone that a name means for a dataset, and why where "auto" chose it, loading nothing."""
    if name != AUTO:
        return name, ""
    if _is_embedded(data):
        return EMBEDDED, ""
    real, why = chosen()
    return real or embedded_for(are_photographs(data)), why


def _is_embedded(data: Dataset) -> bool:
    return isinstance(data.root, type(ASSETS)) and data.root.is_relative_to(ASSETS)


def warn(text: str, console: Console) -> None:
    """Print a warning, if there is any."""
    if text:
        console.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True)


def photograph_warning(data: Dataset) -> str:
    """Return what to say of own photographs that "auto" would give to an embedded backbone, or ""."""
    real, why = chosen()
    if real or not are_photographs(data):
        return ""
    name = embedded_for(photographs=True)
    return f"{why}, so that --backbone {AUTO} is the embedded {name} here. {limits(name)}."


def limits(name: str) -> str:
    """Return what an embedded backbone knows, and what knows more."""
    if SHIPPED[name].knows == DRAWINGS:
        return f"{name} knows drawings, not photographs"
    return (
        f"{name} knows everyday things, far less well than {REAL}, which is fetched once ({SIZE}), or read "
        f"from a file: --backbone {REAL}@FILE"
    )


def unknown_to_it(name: str, photographs: bool) -> str:
    """Return that an embedded backbone does not know photographs, or drawings, and what does; else ""."""
    kind, other = (PHOTOGRAPHS, DRAWINGS) if photographs else (DRAWINGS, PHOTOGRAPHS)
    if SHIPPED[name].knows == kind:
        return ""
    better = embedded_for(photographs)
    return (
        f"{name} knows {other}, not {kind}, which these look like: expect little of it. Use --backbone "
        f"{better}, which is embedded too{f', or better {REAL}' if photographs else ''}."
    )


def chosen_for(images: Sequence[object] | None, stacklevel: int) -> str:
    """Return the backbone for images where none was named; warn of an embedded one for photographs.

    Args:
        images: of any kind that the estimator takes; None where they are not at hand.
        stacklevel: of the warning.
    """
    photographs = images is None or look_photographed(images)
    name = backbone_name(None, photographs)
    if name in SHIPPED and photographs:
        warnings.warn(
            f"no backbone was named and {chosen()[1]}, so the embedded {name} is used. {limits(name)}. Pass "
            f"backbone={name!r} to have it without this warning.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return name


def _reachable() -> bool:
    """Whether the Hub answers at all, within a few seconds, a name that is not resolved among them."""
    answered = threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
        except Exception:  # whatever the network provokes
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()
