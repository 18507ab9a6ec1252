"""Safetensors files whose headers lie, wherever one is read: prompts, models, backbones, cache, snapshots."""

import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from audits.hostile.case import Case, command, load_backbone_once, with_digest
from audits.hostile.images import encoded
from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import load_backbone
from cocoop.estimator import load
from cocoop.training.checkpoint import Checkpoint
from cocoop.training.prompt_file import load_prompt
from cocoop.utils.files import data_digest

KEY = "0" * 64
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
# header, or what stands where one should, and the bytes behind it
HEADERS: dict[str, tuple[object, bytes]] = {
    "not-json": (b"{{{", b""),
    "list": ([], b""),
    "text": ("x", b""),
    "null": (None, b""),
    "empty": ({}, b""),
    "deep": (b"[" * 100_000, b""),
    "deep-metadata": (b'{"__metadata__":' * 20_000, b""),
    "overlap": ({"ctx": F32, "b": F32}, bytes(8)),
    "gap": ({"ctx": F32 | {"data_offsets": [8, 16]}}, bytes(16)),
    "backwards": ({"ctx": F32 | {"data_offsets": [8, 0]}}, bytes(8)),
    "beyond-the-end": ({"ctx": F32 | {"data_offsets": [0, 8_000]}}, bytes(8)),
    "offsets-of-64-bit": ({"ctx": F32 | {"data_offsets": [0, 2**64 - 1]}}, bytes(8)),
    "negative-shape": ({"ctx": F32 | {"shape": [-2]}}, bytes(8)),
    "shape-that-wraps": ({"ctx": F32 | {"shape": [2**32, 2**32, 4]}}, bytes(8)),
    "shape-of-text": ({"ctx": F32 | {"shape": "2"}}, bytes(8)),
    "shape-of-floats": ({"ctx": F32 | {"shape": [2.0]}}, bytes(8)),
    "axes-1000": ({"ctx": F32 | {"shape": [1] * 1000 + [2]}}, bytes(8)),
    "no-rows-wide": ({"ctx": F32 | {"shape": [0, 10**18], "data_offsets": [0, 0]}}, b""),
    "dtype-unknown": ({"ctx": F32 | {"dtype": "F31"}}, bytes(8)),
    "dtype-integer": ({"ctx": F32 | {"dtype": "I32"}}, bytes(8)),
    "dtype-boolean": ({"ctx": F32 | {"dtype": "BOOL", "shape": [8]}}, bytes(range(8))),
    "dtype-missing": ({"ctx": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "dtype-eight-bit": ({"ctx": F32 | {"dtype": "F8_E4M3", "shape": [8]}}, bytes(8)),
    "keys-twice": (
        b'{"ctx":' + json.dumps(F32).encode() + b',"ctx":' + json.dumps(F32).encode() + b"}",
        bytes(8),
    ),
    "metadata-of-numbers": ({"__metadata__": {"cocoop": 5}, "ctx": F32}, bytes(8)),
    "metadata-list": ({"__metadata__": [], "ctx": F32}, bytes(8)),
    "metadata-10-mb": ({"__metadata__": {"cocoop": "a" * 10_000_000}, "ctx": F32}, bytes(8)),
    "name-with-escape": ({"\x1b[31m": F32}, bytes(8)),
    "name-path": ({"../../x": F32}, bytes(8)),
    "name-of-python": ({"__class__": F32}, bytes(8)),
    "bytes-behind": ({"ctx": F32}, bytes(800)),
    "100000-tensors": ({f"t{n}": F32 | {"shape": [0], "data_offsets": [0, 0]} for n in range(100_000)}, b""),
    "not-a-number": ({"ctx": F32}, struct.pack("<2f", float("nan"), float("inf"))),
    "features-not-a-number": ({"features": F32}, struct.pack("<2f", float("nan"), float("inf"))),
}
FACTS: dict[str, dict[str, Any]] = {
    "backbone-hub": {"prompt": {"backbone": "hf-hub:evil/repository"}},
    "backbone-file": {"prompt": {"backbone": "RN50@/etc/passwd"}},
    "backbone-escape": {"prompt": {"backbone": "\x1b]0;owned\x07"}},
    "backbone-shell": {"prompt": {"backbone": 'x\'")"; touch canary; #'}},
    "backbone-null": {"prompt": {"backbone": "a\0b"}},
    "method-unknown": {"prompt": {"method": "../../evil"}},
    "template-format": {"prompt": {"template": "{0.__class__.__init__.__globals__} {}"}},
    "template-wide": {"prompt": {"template": "{:>9999999999}"}},
    "names-escape": {"prompt": {"class_names": ["\x1b[31mred", "blue"]}},
    "names-one": {"prompt": {"class_names": ["red"]}},
    "vectors-billion": {"prompt": {"config": {"ctx_init": None, "n_ctx": 10**9, "reduction": 16}}},
    "params-foreign": {"params": {"evil": 1}},
    "params-backbone": {"params": {"backbone": "hf-hub:evil/repository"}},
    "params-method": {"params": {"method": "evil"}},
    "params-settings": {"params": {"settings": {"n_ctx": "many"}}},
    "learned-elsewhere": {"learned": "../../../secret"},
    "loss-not-a-number": {"loss": [float("nan")]},
    "field-foreign": {"evil": 1},
}
LENGTHS = {"zero": 0, "one": 1, "beyond": 10_000, "gigabytes": 2**33, "most": 2**64 - 1}


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    files = {name: _file(header, data) for name, (header, data) in HEADERS.items()}
    for name, length in LENGTHS.items():
        files[f"header-length-{name}"] = struct.pack("<Q", length) + b'{"ctx":{}}'
    files |= {"nothing": b"", "three-bytes": b"abc", "pickle": b"\x80\x04cposix\nsystem\n(Vtouch canary\ntR."}
    places = {"prompt": _prompt, "weights": _weights, "cache": _cache, "snapshot": _snapshot}
    for number, (name, data) in enumerate(files.items()):
        for place in (list(places)[number % 4], list(places)[(number + 1) % 4]):
            yield places[place](name, data)
    for name in ("overlap", "deep", "not-a-number", "pickle", "nothing"):
        make = _model_and(lambda folder, data=files[name]: _prompt_of(folder).write_bytes(data))
        yield Case(f"model-{name}", make, _load_model)
    for name, change in _changed().items():
        yield Case(f"prompt-{name}", _model_and(change), _load_prompt)
    predict = command("predict", "m", "a.png")
    parts: dict[str, Callable[[Path], Path]] = {
        "facts": lambda folder: folder / "model.json",
        "prompt": _prompt_of,
    }
    for name, part in parts.items():
        for number in range(4):
            yield Case(f"model-{name}-flipped-{number}", _model_and(_flip(part, rng.random())), _load_model)
        for what, change in _spoiled(part).items():
            yield Case(f"model-{name}-{what}", _model_and(change), predict)
    for name, values in FACTS.items():
        yield Case(f"model-facts-{name}", _model_and(_facts(values)), predict)


def _file(header: object, data: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def _prompt(name: str, data: bytes) -> Case:
    def make(folder: Path) -> object:
        return (folder / "prompt.safetensors").write_bytes(data)

    return Case(f"prompt-{name}", make, _load_prompt_file("prompt.safetensors"), "prompt.safetensors")


def _weights(name: str, data: bytes) -> Case:
    def use(folder: Path) -> object:
        return load_backbone(f"RN50@{folder / 'w.safetensors'}", "cpu")

    return Case(
        f"weights-{name}", lambda folder: (folder / "w.safetensors").write_bytes(data), use, "w.safetensors"
    )


def _cache(name: str, data: bytes) -> Case:
    """An entry that does not vouch for its values is none, whatever it holds."""

    def make(folder: Path) -> None:
        path = FeatureCache(folder / "out").path(KEY)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)

    return Case(
        f"cache-{name}",
        make,
        lambda folder: FeatureCache(folder / "out").get(KEY),
        check=lambda value: value is None,
    )


def _snapshot(name: str, data: bytes) -> Case:
    def use(folder: Path) -> object:
        return Checkpoint(folder / "out" / "p.unfinished", KEY).load()

    def make(folder: Path) -> None:
        (folder / "out").mkdir()
        (folder / "out" / "p.unfinished").write_bytes(data)

    return Case(f"snapshot-{name}", make, use, check=lambda value: value is None)


def _load_prompt_file(name: str) -> Callable[[Path], object]:
    return lambda folder: load_prompt(folder / name, load_backbone_once())


def _load_prompt(folder: Path) -> object:
    return load_prompt(_prompt_of(folder / "m"), load_backbone_once())


def _load_model(folder: Path) -> object:
    return load(folder / "m", load_backbone_once())


def _model_and(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return what lays a model folder `m` and then changes it."""

    def make(folder: Path) -> None:
        shutil.copytree(folder / "model", folder / "m")
        (folder / "a.png").write_bytes(encoded("png"))
        change(folder / "m")

    return make


def _prompt_of(folder: Path) -> Path:
    return next(folder.glob("prompt*.safetensors"))


def _flip(part: Callable[[Path], Path], where: float) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = bytearray(part(folder).read_bytes())
        data[int(where * len(data))] ^= 4
        part(folder).write_bytes(bytes(data))

    return change


def _spoiled(part: Callable[[Path], Path]) -> dict[str, Callable[[Path], object]]:
    def folder_instead(folder: Path) -> None:
        path = part(folder)
        path.unlink()
        path.mkdir()

    return {
        "cut": lambda folder: part(folder).write_bytes(part(folder).read_bytes()[:-40]),
        "missing": lambda folder: part(folder).unlink(),
        "empty": lambda folder: part(folder).write_bytes(b""),
        "deep": lambda folder: part(folder).write_bytes(b"[" * 100_000),
        "a-folder": folder_instead,
    }


def _facts(values: dict[str, Any]) -> Callable[[Path], object]:
    """Return what changes `model.json` and seals it again."""

    def change(folder: Path) -> None:
        known = json.loads((folder / "model.json").read_text())
        for name, value in values.items():
            known = known | {name: known[name] | value if isinstance(value, dict) else value}
        (folder / "model.json").write_text(with_digest(known))

    return change


def _changed() -> dict[str, Callable[[Path], object]]:
    """Prompt files that are whole, and whose card or tensors are not what a fit writes."""

    def changed(
        card: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        tensor: Callable[[torch.Tensor], torch.Tensor] = lambda value: value,
    ) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            path = _prompt_of(folder)
            with safe_open(path, "pt") as file:
                header = json.loads(file.metadata()["cocoop"])
                tensors = {name: tensor(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            header["card"] |= card or {}
            header["card"]["config"] |= settings or {}
            header["tensors"] = data_digest(save(tensors))
            path.write_bytes(save(tensors, {"cocoop": with_digest(header)}))

        return change

    return {
        "method-path": changed({"method": "../../evil"}),
        "method-python": changed({"method": "os.system"}),
        "backbone-other": changed({"weights": "0" * 64}),
        "field-foreign": changed({"evil": 1}),
        "version-later": changed({"schema_version": 99}),
        "seed-huge": changed({"seed": 10**30}),
        "seed-negative": changed({"seed": -1}),
        "names-none": changed({"class_names": []}),
        "names-100000": changed({"class_names": [f"c{number}" for number in range(100_000)]}),
        "vectors-billion": changed(settings={"n_ctx": 10**9, "ctx_init": None}),
        "vectors-none": changed(settings={"n_ctx": 0, "ctx_init": None}),
        "vectors-negative": changed(settings={"n_ctx": -5, "ctx_init": None}),
        "reduction-zero": changed(settings={"reduction": 0}),
        "words-long": changed(settings={"ctx_init": "a " * 1_000_000}),
        "words-format": changed(settings={"ctx_init": "{0.__class__} of a"}),
        "words-special-token": changed(settings={"ctx_init": "a <end_of_text> of a"}),
        "tensors-wide": changed(tensor=lambda value: torch.zeros(3, 3)),
        "tensors-integers": changed(tensor=lambda value: value.to(torch.int64)),
        "tensors-booleans": changed(tensor=lambda value: value > 0),
    }
