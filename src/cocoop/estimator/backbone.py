"""The backbone of a classifier: loaded once for all, and chosen where none is named."""

import threading
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from huggingface_hub import constants, get_session
from PIL import Image
from rich.console import Console

from cocoop.backbones.clip import EMBEDDED, Backbone, load_backbone
from cocoop.backbones.names import cached
from cocoop.backbones.pretrained import SHIPPED
from cocoop.data import Dataset, Item
from cocoop.data.decode import open_image, to_image
from cocoop.data.storage import UNREADABLE, read_bytes
from cocoop.errors import CocoopError
from cocoop.utils.assets import ASSETS

AUTO = "auto"
REAL = "ViT-B-16/openai"  # what "auto" takes where it can be had
SIZE = "600 MB"  # of its weights
PATIENCE = 3.0  # seconds until a network counts as absent
LOOKED_AT = 16  # images that tell whether a person's own are photographs
EDGE = 256  # pixels an edge, at which they are looked at
FLAT = 0.15  # share of neighbouring pixels of one colour, below which nothing was drawn
CAMERA = (b"\xff\xd8\xff", b"ftyphei", b"ftypmif")  # how files of JPEG and HEIC begin


@lru_cache(maxsize=2)
def shared_backbone(name: str, device: str, precision: str) -> Backbone:
    """Load a backbone once for all classifiers: it is frozen."""
    return load_backbone(name, device, precision)


@cache
def chosen() -> tuple[str, str]:
    """Return the backbone that "auto" means here, and why it is that: asked once."""
    if cached(REAL):
        return REAL, "it is in the cache"
    if constants.HF_HUB_OFFLINE:
        return EMBEDDED, f"{REAL} is not in the cache, and HF_HUB_OFFLINE is set"
    if not _reachable():
        return EMBEDDED, f"{REAL} is not in the cache, and {constants.ENDPOINT} cannot be reached"
    return REAL, f"it is fetched once, {SIZE}"


def backbone_name(name: str | None) -> str:
    """Return the name of a backbone, where "auto" or none is given the one that can be had here."""
    return chosen()[0] if name in (None, AUTO) else str(name)


def backbone_for(name: str, data: Dataset, device: str, precision: str, console: Console) -> Backbone:
    """Load the backbone for a dataset; warn first where it will not know the images.

    Args:
        name: of a backbone; "auto" takes ViT-B/16 from the cache or the network, else the embedded one,
            which is also that of the embedded datasets.
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
            name, why = EMBEDDED, str(error)
    if name in SHIPPED and not _is_embedded(data):
        items = data.splits.get("train", ()) or data.items("test")
        warn_of_photographs(name, data, items, console, why)
    return shared_backbone(name, device, precision)


def planned(name: str, data: Dataset) -> tuple[str, str]:
    """Return the backbone that a name means for a dataset, and why where "auto" chose it, loading nothing."""
    if name != AUTO:
        return name, ""
    return (EMBEDDED, "") if _is_embedded(data) else chosen()


def _is_embedded(data: Dataset) -> bool:
    return isinstance(data.root, type(ASSETS)) and data.root.is_relative_to(ASSETS)


def warn_of_photographs(
    name: str, data: Dataset, items: Sequence[Item], console: Console, why: str = ""
) -> None:
    """Say that an embedded backbone is used, why, and where images look like photographs what that means."""
    photographs = are_photographs(data, items)
    words = [f"{why}, so the embedded {name} is used."] if why else []
    words += [unknown_to_it(name)] if photographs else []
    if words:
        console.print(f"warning: {' '.join(words)}", style="yellow", highlight=False, soft_wrap=True)


def photograph_warning(data: Dataset) -> str:
    """Return what to say of own data that "auto" would give to a backbone which does not know them, or ""."""
    items = data.splits.get("train", ()) or data.items("test")
    return unknown_to_it(EMBEDDED) if chosen()[0] == EMBEDDED and are_photographs(data, items) else ""


def unknown_to_it(name: str) -> str:
    """Return what an embedded backbone does not know, and what to do."""
    return (
        f"{name} knows drawings, not photographs, which these look like: expect little of it. For "
        f"photographs use --backbone {REAL}, which is fetched once ({SIZE}), or a file of it: "
        f"--backbone {REAL}@FILE."
    )


def are_photographs(data: Dataset, items: Sequence[Item]) -> bool:
    """Whether most of some images of a dataset look like photographs; unreadable ones do not count."""
    seen = []
    for item in items[:: max(1, len(items) // LOOKED_AT)][:LOOKED_AT]:
        try:
            head = read_bytes(data.root, item.path)[:12]
            seen.append(
                any(mark in head for mark in CAMERA)
                or not is_drawn(open_image(data.root, item.path, data.decode))
            )
        except (CocoopError, *UNREADABLE):
            continue
    return sum(seen) * 2 > len(seen)


def is_drawn(image: Image.Image) -> bool:
    """Whether an image has areas of one colour, as drawings have; noise and lenses leave none."""
    small = image.convert("RGB")
    small.thumbnail((EDGE, EDGE), Image.Resampling.NEAREST)
    pixels = np.asarray(small).astype(np.int16)
    return bool((pixels[:, 1:] == pixels[:, :-1]).all(2).mean() >= FLAT) if pixels.shape[1] > 1 else True


def warn_unnamed(images: Sequence[object] | None, stacklevel: int) -> None:
    """Warn that the embedded backbone is used because none was named, unless images look drawn."""
    some = [] if images is None else images[:: max(1, len(images) // LOOKED_AT)][:LOOKED_AT]
    drawn = [is_drawn(to_image(image)) for image in some]
    if drawn and sum(drawn) * 2 >= len(drawn):
        return
    warnings.warn(
        f"no backbone was named and {chosen()[1]}, so the embedded {EMBEDDED} is used. It knows drawings, "
        f"not photographs: for photographs pass backbone={REAL!r}, which is fetched once ({SIZE}); for "
        f"drawings pass backbone={EMBEDDED!r}.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


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
