"""Image processing as transformers' files describe it, in the terms of this package."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoop.errors import CocoopError

if TYPE_CHECKING:
    from cocoop.data.transforms import Preprocess

FILES = ("preprocessor_config.json", "processor_config.json")
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
CLIP_PIXELS = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "resample": 3,
}


def clip_pixels(config: Any) -> dict[str, Any]:
    """Return CLIP's own settings: the shortest edge resized, then the centre."""
    edge = int(config.vision_config.image_size)
    crop = {"height": edge, "width": edge}
    return {**CLIP_PIXELS, "size": {"shortest_edge": edge}, "crop_size": crop, "do_center_crop": True}


def described_pixels(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's image processor; empty where it has none."""
    for name in FILES:
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text("utf-8"))
            settings = settings.get("image_processor", settings)
            return {key: value for key, value in settings.items() if value is not None}
    return {}


def preprocess(settings: Mapping[str, Any]) -> "Preprocess":
    """Return the pixels that the settings of an image processor describe.

    Raises:
        CocoopError: it resamples in an unknown way.
    """
    from cocoop.data.transforms import Preprocess

    size, crop = settings["size"], settings.get("crop_size")
    if isinstance(size, int):  # written before sizes had names
        size = {"shortest_edge": size}
    shortest = "shortest_edge" in size
    resized = size["shortest_edge"] if shortest else (size["height"], size["width"])
    cropped = _square(crop) if settings.get("do_center_crop") and crop else resized
    if (kind := RESAMPLING.get(settings.get("resample", 3))) is None:
        raise CocoopError(
            f"the backbone resamples images by {settings['resample']!r}, which is not supported"
        )
    mean, std = _affine(settings)
    return Preprocess(
        size=_square(cropped),
        mean=mean,
        std=std,
        interpolation=kind,
        resize_mode="shortest" if shortest else "squash",
        resize=None if _square(resized) == _square(cropped) else _square(resized),
    )


def _affine(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the mean and deviation, on the scale 0 to 1, of all that is done to a pixel."""
    factor = 255 * settings.get("rescale_factor", 1 / 255)
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    normal = settings.get("do_normalize", True)
    means = settings["image_mean"] if normal else (0.0, 0.0, 0.0)
    stds = settings["image_std"] if normal else (1.0, 1.0, 1.0)
    mean = tuple((offset + m) / factor for m in means)
    return mean, tuple(s / factor for s in stds)


def _square(size: Any) -> Any:
    """Return one edge for a square size, height and width for another."""
    if isinstance(size, Mapping):
        size = (size["height"], size["width"]) if "height" in size else size["shortest_edge"]
    if isinstance(size, int):
        return size
    return int(size[0]) if size[0] == size[1] else (int(size[0]), int(size[1]))
