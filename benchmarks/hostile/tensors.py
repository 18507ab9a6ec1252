"""Safetensors files whose headers lie, wherever one is read: prompts, models, backbones, cache, snapshots."""

import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from benchmarks.hostile.case import Case, command, load_backbone_once
from cocoop.backbone import load_backbone
from cocoop.estimator import load
from cocoop.features import FeatureCache
from cocoop.model import load_prompt
from cocoop.snapshot import Checkpoint

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
        yield Case(f"model-{name}", _replace("prompt.safetensors", files[name]), _load_model)
    for name, change in _changed().items():
        yield Case(f"prompt-{name}", _model_and(change), _load_prompt)
    for name in ("model.json", "prompt.safetensors", "SHA256SUMS"):
        for number in range(3):
            yield Case(f"model-flipped-{name}-{number}", _model_and(_flip(name, rng.random())), _load_model)
        yield Case(f"model-cut-{name}", _model_and(_cut(name)), _load_model)
        yield Case(
            f"model-without-{name}", _model_and(lambda folder, n=name: (folder / n).unlink()), _load_model
        )
        yield Case(f"model-{name}-a-folder", _model_and(_folder(name)), _load_model)
        make = _model_and(lambda folder, n=name: (folder / n).write_bytes(b"[" * 100_000))
        yield Case(f"model-deep-{name}", make, command("predict", "m", "m", "--classes", "a,b"))


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
        check=lambda found: found is None,
    )


def _snapshot(name: str, data: bytes) -> Case:
    def use(folder: Path) -> object:
        return Checkpoint(folder / "out" / "p.unfinished", KEY).load()

    def make(folder: Path) -> None:
        (folder / "out").mkdir()
        (folder / "out" / "p.unfinished").write_bytes(data)

    return Case(f"snapshot-{name}", make, use, check=lambda found: found is None)


def _load_prompt_file(name: str) -> Callable[[Path], object]:
    return lambda folder: load_prompt(folder / name, load_backbone_once())


def _load_prompt(folder: Path) -> object:
    return load_prompt(folder / "m" / "prompt.safetensors", load_backbone_once())


def _load_model(folder: Path) -> object:
    return load(folder / "m", load_backbone_once())


def _model_and(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return what lays a model folder `m` and then changes it."""

    def make(folder: Path) -> None:
        shutil.copytree(folder / "model", folder / "m")
        change(folder / "m")

    return make


def _replace(name: str, data: bytes) -> Callable[[Path], object]:
    return _model_and(lambda folder: (folder / name).write_bytes(data))


def _flip(name: str, where: float) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[int(where * len(data))] ^= 4
        (folder / name).write_bytes(bytes(data))

    return change


def _cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def _folder(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def _changed() -> dict[str, Callable[[Path], object]]:
    """Prompt files that are whole, and whose card or tensors are not what a fit writes."""

    def card(**values: object) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            path = folder / "prompt.safetensors"
            with safe_open(path, "pt") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            known = json.loads(header["cocoop"])
            known["config"] = known["config"] | values.pop("settings", {})  # type: ignore[operator]
            path.write_bytes(save(tensors, header | {"cocoop": json.dumps(known | values)}))

        return change

    def tensors(change_one: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            path = folder / "prompt.safetensors"
            with safe_open(path, "pt") as file:
                header = file.metadata()
                found = {name: change_one(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            path.write_bytes(save(found, header))

        return change

    return {
        "method-path": card(method="../../evil"),
        "method-python": card(method="os.system"),
        "backbone-other": card(weights="0" * 64),
        "field-foreign": card(evil=1),
        "version-later": card(schema_version=99),
        "seed-huge": card(seed=10**30),
        "seed-negative": card(seed=-1),
        "names-none": card(class_names=[]),
        "names-100000": card(class_names=[f"c{number}" for number in range(100_000)]),
        "vectors-billion": card(settings={"n_ctx": 10**9, "ctx_init": None}),
        "vectors-none": card(settings={"n_ctx": 0, "ctx_init": None}),
        "vectors-negative": card(settings={"n_ctx": -5, "ctx_init": None}),
        "reduction-zero": card(settings={"reduction": 0}),
        "words-long": card(settings={"ctx_init": "a " * 1_000_000}),
        "words-format": card(settings={"ctx_init": "{0.__class__} of a"}),
        "words-special-token": card(settings={"ctx_init": "a <end_of_text> of a"}),
        "tensors-wide": tensors(lambda value: torch.zeros(3, 3)),
        "tensors-integers": tensors(lambda value: value.to(torch.int64)),
        "tensors-booleans": tensors(lambda value: value > 0),
    }
