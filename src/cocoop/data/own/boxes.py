"""Exports for detection, which have boxes in images and not one class an image."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cocoop.data.own.folder import entries

SAMPLE = 1 << 20  # bytes of a JSON file that are looked at


def boxes_of(top: Path) -> str:
    """Return the kind of an export for detection, or ""."""
    places = [top, *(path for path in entries(top) if path.is_dir())]
    names: Mapping[Path, set[str]] = {place: {path.name for path in entries(place)} for place in places}
    tests: dict[str, Callable[[Path, set[str]], bool]] = {
        "YOLO": lambda place, inside: {"images", "labels"} <= inside and _has(place / "labels", ".txt"),
        "COCO": lambda place, inside: any(
            _is_coco(place / name) for name in inside if name.endswith(".json")
        ),
        "Pascal VOC": lambda place, inside: (
            {"Annotations", "JPEGImages"} <= inside or any(_is_voc(place / n) for n in inside)
        ),
        "CreateML": lambda place, inside: "_annotations.createml.json" in inside,
        "TFRecord": lambda place, inside: any(name.endswith((".tfrecord", ".record")) for name in inside),
    }
    for tool, test in tests.items():
        if any(test(place, inside) for place, inside in names.items()):
            return tool
    return ""


def _has(folder: Path, suffix: str) -> bool:
    inside = [folder, *(path for path in entries(folder) if path.is_dir())] if folder.is_dir() else []
    return any(path.suffix == suffix for place in inside for path in entries(place))


def _is_coco(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(SAMPLE)
    except OSError:
        return False
    return b'"annotations"' in head and b'"images"' in head


def _is_voc(path: Path) -> bool:
    if path.suffix != ".xml" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return b"<annotation" in head and b"<object>" in head
