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
    edges, resize = (
        [n, n] if isinstance(n, int) else n for n in (spec["size"], spec.get("resize") or spec["size"])
    )
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits a pixel, of which files may use 8 or 12
        values = np.asarray(image)
        bits = next((bits for bits in (8, 12) if values.max(initial=0) < 1 << bits), 16)
        image = Image.fromarray((values >> bits - 8).astype(np.uint8))
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    width, height = image.size
    covers = max((resize[1], width), (resize[0], height), key=lambda pair: pair[0] / pair[1])
    over, under = covers if spec["resize_mode"] == "shortest" else ((resize[1], resize[0]), (width, height))
    width, height = (np.array(image.size) * over / under).astype(int).tolist()
    image = image.convert("RGB").resize((width, height), Image.Resampling[spec["interpolation"].upper()])
    left, top = round((width - edges[1]) / 2), round((height - edges[0]) / 2)
    values = np.asarray(image.crop((left, top, left + edges[1], top + edges[0]))) / 255
    return ((values - spec["mean"]) / spec["std"]).transpose(2, 0, 1).astype(np.float32)


def main(paths: list[str]) -> int:
    """Print the likeliest names of every image, or all that it has; return 1 where none can be read."""
    folder, read = Path(__file__).parent, 0
    spec = json.loads((folder / "export.json").read_text("utf-8"))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for path in paths:
        try:
            image = pixels(path, spec["preprocess"])
        except Exception as error:  # whatever a file that is no image provokes
            print(f"skipped: cannot read the image {path}: {error}", file=sys.stderr)
            continue
        read += 1
        [chances], *score = session.run(None, {"images": image[None]})
        if limits := spec.get("thresholds"):  # an image may have several classes, or none
            has = [i for i in np.argsort(-chances) if chances[i] >= limits[i]]
            best = [f"{spec['classes'][i]} {chances[i]:.2f}" for i in has]
            print(path, *(best or ["none of these"]), sep="\t")
            continue
        best = [f"{spec['classes'][i]} {chances[i]:.1%}" for i in np.argsort(-chances)[:3]]
        unsure = ["unsure"] if score and score[0][0] < spec["unsure"]["below"] else []
        print(path, *unsure, *best, sep="\t")
    return 0 if read or not paths else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
