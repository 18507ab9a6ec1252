"""Classify images without torch: python run.py IMAGES... (needs numpy, pillow and onnxruntime)."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def pixels(file: Any, spec: dict[str, Any]) -> np.ndarray:
    """Return an image file as the model takes it: upright, on white, resized, cropped, normalised."""
    size = spec["size"]
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    short = min(image.size) if spec["resize_mode"] == "shortest" else image.size
    edges = (np.array(image.size) * size / short).astype(int).tolist()
    image = image.convert("RGB").resize(edges, Image.Resampling[spec["interpolation"].upper()])
    left, top = (round((edge - size) / 2) for edge in edges)
    values = np.asarray(image.crop((left, top, left + size, top + size))) / 255
    return ((values - spec["mean"]) / spec["std"]).transpose(2, 0, 1).astype(np.float32)


if __name__ == "__main__":
    folder = Path(__file__).parent
    spec = json.loads((folder / "export.json").read_text("utf-8"))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for path in sys.argv[1:]:
        [[chances]] = session.run(None, {"images": pixels(path, spec["preprocess"])[None]})
        best = np.argsort(-chances)[:3]
        print(path, *(f"{spec['classes'][i]} {chances[i]:.1%}" for i in best), sep="\t")
