"""Checkpoints and weights as pickles that name what they should not, or are more than they seem."""

import io
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from audits.hostile.case import CANARY, Case, command, load_backbone_once
from cocoop.backbones.clip import load_backbone
from cocoop.errors import CocoopError
from cocoop.estimator.import_released import import_released

FILE = "model.pth.tar-10"
CODE = f"open({CANARY!r}, 'w')"
SHELL = f"touch {CANARY}"
# opcodes up to the call; R calls what GLOBAL named
CALLS = {
    "system": f"cposix\nsystem\n(V{SHELL}\ntR.",
    "subprocess": f"csubprocess\ncheck_output\n((lVtouch\naV{CANARY}\natR.",
    "eval": f"cbuiltins\neval\n(V{CODE}\ntR.",
    "exec": f"cbuiltins\nexec\n(V{CODE}\ntR.",
    "old-builtin": f"c__builtin__\neval\n(V{CODE}\ntR.",
    "getattr": "cbuiltins\ngetattr\n(cbuiltins\n__import__\nV__call__\ntR.",
    "import": "cbuiltins\n__import__\n(Vos\ntR.",
    "open": f"cbuiltins\nopen\n(V{CANARY}\nVw\ntR.",
    "runpy": "crunpy\nrun_path\n(Vx.py\ntR.",
    "timeit": f"ctimeit\ntimeit\n(V{CODE}\ntR.",
    "jit": "ctorch.jit\nload\n(Vx\ntR.",
    "torch-load": "ctorch\nload\n(Vx\ntR.",
    "hub": "ctorch.hub\nload\n(Vevil/repository\nVx\ntR.",
    "extension": "ctorch.utils.cpp_extension\nload_inline\n(Vx\ntR.",
    "class-of-ours": "ccocoop.training.released\n_Inert.__init__.__globals__\n(tR.",
    "dotted": "ctorch.serialization\nos.system\n(tR.",
    "instance": f"(iposix\nsystem\nV{SHELL}\n.",
    "object": f"(cposix\nsystem\nV{SHELL}\no.",
    "weakref": "cweakref\nproxy\n(tR.",
    "escape-in-name": "c\x1b[31m\nowned\n(tR.",
    "persistent-id": "V../../evil\nQ.",
    "extension-code": "\x82\x01.",
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    for name, codes in CALLS.items():
        data = codes.encode("latin-1")
        yield _official(f"call-{name}", _archive(b"\x80\x02" + data))
        yield _official(f"call-{name}-legacy", content_of(b"\x80\x02" + data))
    for name, data in _pickles().items():
        yield _official(f"pickle-{name}", _archive(data))
        yield _weights(f"weights-{name}", _archive(data))
    for name, change in _states().items():
        yield _official(f"state-{name}", lambda path, change=change: torch.save(change(_state()), path))
    for name, change in _backbones().items():
        yield _weights(f"backbone-{name}", lambda path, change=change: torch.save(change(), path))
    for name, make in _containers().items():
        yield _official(f"container-{name}", make)
        yield _weights(f"weights-container-{name}", make)
    whole = _saved(_state())
    for tenth in range(1, 10):
        yield _official(f"cut-at-{tenth}0", content_of(whole[: len(whole) * tenth // 10]))
    for number in range(12):
        flipped = bytearray(whole)
        for _ in range(5):
            flipped[rng.randrange(min(3000, len(whole)))] ^= 1 << rng.randrange(8)
        yield _official(f"flipped-{number}", content_of(bytes(flipped)))
    use = command("import-official", FILE, "--out", "out", "--backbone", "toy")
    yield Case("command-system", lambda folder: _archive(CALLS["system"].encode())(folder / FILE), use, FILE)
    make = content_of(b"\x80\x02" + CALLS["eval"].encode())
    yield Case(
        "command-run",
        lambda folder: make(folder / "w.pt"),
        command("run", "base-to-new", "--backbone", "w.pt"),
    )


def content_of(data: bytes) -> Callable[[Path], object]:
    """Return what writes these bytes to a path."""
    return lambda path: path.write_bytes(data)


def _official(name: str, make: Callable[[Path], object]) -> Case:
    def use(folder: Path) -> object:
        return import_released(folder / FILE, folder / "out", "toy", Console(quiet=True))

    return Case(name, lambda folder: make(folder / FILE), use)


def _weights(name: str, make: Callable[[Path], object]) -> Case:
    """As weights of a backbone, alone and for an architecture."""

    def use(folder: Path) -> object:
        wrong = []
        for name in (str(folder / "w.pt"), f"RN50@{folder / 'w.pt'}"):
            try:
                load_backbone(name, "cpu")
            except CocoopError as error:
                wrong.append(error)
        if wrong:
            raise wrong[-1]
        return None

    return Case(name, lambda folder: make(folder / "w.pt"), use, "w.pt")


def _archive(data: bytes) -> Callable[[Path], object]:
    """Return what writes a pickle as PyTorch lays one out."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/byteorder", "little")
            archive.writestr("archive/version", "3\n")

    return make


def _saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _state() -> dict[str, Any]:
    clip = load_backbone_once()
    return {"state_dict": {"ctx": torch.zeros(4, clip.width)}, "epoch": 10}


def _pickles() -> dict[str, bytes]:
    number = (6_000_000_000).to_bytes(5, "little")
    laughs = b"]" + b"q\0" + b"".join(b"(" + b"h\0" * 10 + b"l" + b"q\0" for _ in range(30)) + b"."
    return {
        "bytearray-of-6-gb": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + number + b"\x85R.",
        "tensor-of-a-number": b"\x80\x02ctorch\nFloatTensor\n\x8a\x05" + number + b"\x85R.",
        "tuples-as-key": b"\x80\x02})" + b"\x85" * 400_000 + b"Ns.",
        "tuples": b"\x80\x02)" + b"\x85" * 400_000 + b".",
        "lists": b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".",
        "dicts": b"\x80\x02" + b"}K\0" * 200_000 + b"N" + b"s" * 200_000 + b".",
        "laughs": b"\x80\x02" + laughs,
        "itself": b"\x80\x02}q\0X\x0a\0\0\0state_dicth\0s.",
        "string-of-4-gb-claimed": b"\x80\x02X\xff\xff\xff\xffabc.",
        "long-of-2-gb-claimed": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
        "nothing": b"",
        "no-stop": b"\x80\x02}",
        "stack-empty": b"\x80\x02.",
        "memo-missing": b"\x80\x02h\x05.",
        "protocol-5": pickle.dumps({"state_dict": {"ctx": [1] * 9}}, 5),
        "text-protocol": pickle.dumps({"state_dict": {"ctx": 1}}, 0),
        "counter": b"\x80\x02ccollections\nCounter\n)R.",
        "noise": struct.pack("<200B", *(number * 7 % 256 for number in range(200))),
    }


def _states() -> dict[str, Callable[[dict[str, Any]], Any]]:
    width = load_backbone_once().width

    def ctx(value: object) -> Callable[[dict[str, Any]], Any]:
        return lambda saved: {"state_dict": {"ctx": value}}

    return {
        "stretched": ctx(torch.zeros(1, width).expand(1_000_000_000, width)),
        "stretched-once": ctx(torch.zeros(1, 1).expand(3, width)),
        "many-vectors": ctx(torch.zeros(20_000, width)),
        "no-vectors": ctx(torch.zeros(0, width)),
        "no-width": ctx(torch.zeros(4, 0)),
        "no-axes": ctx(torch.tensor(0.0)),
        "five-axes": ctx(torch.zeros(1, 1, 1, 4, width)),
        "integers": ctx(torch.zeros(4, width, dtype=torch.int32)),
        "complex": ctx(torch.zeros(4, width, dtype=torch.complex64)),
        "eight-bit": ctx(torch.zeros(4, width).to(torch.float8_e4m3fn)),
        "not-a-number": ctx(torch.full((4, width), float("nan"))),
        "infinite": ctx(torch.full((4, width), float("inf"))),
        "sparse": ctx(torch.zeros(4, width).to_sparse()),
        "meta": ctx(torch.zeros(4, width, device="meta")),
        "text": ctx("a photo of a"),
        "list": ctx([[0.0] * width] * 4),
        "nothing": ctx(None),
        "keys-of-numbers": lambda saved: {"state_dict": {1: torch.zeros(1), "ctx": torch.zeros(4, width)}},
        "keys-of-tuples": lambda saved: {"state_dict": {("a",): 1, "ctx": torch.zeros(4, width)}},
        "keys-with-escapes": lambda saved: {"state_dict": {"\x1b[31m": 1, "ctx": torch.zeros(4, width)}},
        "epoch-of-text": lambda saved: saved | {"epoch": "\x1b[31m"},
        "epoch-huge": lambda saved: saved | {"epoch": 10**4000},
        "epoch-true": lambda saved: saved | {"epoch": True},
        "list-at-top": lambda saved: [saved],
        "tensor-at-top": lambda saved: torch.zeros(3),
        "empty": lambda saved: {},
    }


def _backbones() -> dict[str, Callable[[], object]]:
    """Weights that are none, or more than their file."""

    def sizes(**changes: torch.Tensor) -> Callable[[], object]:
        base = dict(load_backbone_once().model.state_dict())
        stamps = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
        return lambda: base | stamps | {name.replace("__", "."): value for name, value in changes.items()}

    return {
        "empty": lambda: {},
        "list": lambda: [1, 2],
        "number": lambda: 5,
        "nested-text": lambda: {"state_dict": "text"},
        "no-names": lambda: {1: torch.zeros(1), 2: torch.zeros(1)},
        "stretched": sizes(token_embedding__weight=torch.zeros(1, 1).expand(500_000, 100_000)),
        "outer-product": sizes(
            token_embedding__weight=torch.zeros(99_968, 1), positional_embedding=torch.zeros(1, 99_968)
        ),
        "no-rows": sizes(token_embedding__weight=torch.zeros(100_000_000, 0)),
        "no-heads": sizes(positional_embedding=torch.zeros(32, 3)),
        "one-axis": sizes(positional_embedding=torch.zeros(32)),
        "text-among-tensors": lambda: {"positional_embedding": "text", "visual.proj": None},
        "not-a-number": sizes(positional_embedding=torch.full((32, 32), float("nan"))),
    }


def _containers() -> dict[str, Callable[[Path], object]]:
    def compressed(path: Path) -> None:
        """A gigabyte of nothing, in a megabyte."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
            archive.writestr("archive/version", "3\n")
            with archive.open("archive/data/0", "w", force_zip64=True) as member:
                for _ in range(50):
                    member.write(bytes(20_000_000))

    def members(*names: str) -> Callable[[Path], object]:
        def make(path: Path) -> None:
            with zipfile.ZipFile(path, "w") as archive:
                for name in names:
                    archive.writestr(name, b"\x80\x02}.")

        return make

    def tar(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            for name in ("pickle", "storages", "tensors", "../evil"):
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())

    def script(path: Path) -> None:
        torch.jit.save(torch.jit.trace(lambda x: x + 1, torch.zeros(1)), str(path))

    return {
        "compressed": compressed,
        "traversal": members("../../evil", "archive/data.pkl", "archive/version"),
        "no-pickle": members("archive/version"),
        "two-roots": members("a/data.pkl", "b/data.pkl"),
        "script": members("archive/data.pkl", "archive/constants.pkl", "archive/code/__torch__.py"),
        "tar": tar,
        "empty": content_of(b""),
        "html": content_of(b"<html>"),
        "image": content_of(b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "cut-directory": content_of(b"PK\x05\x06" + b"\xff" * 18),
    } | {"real-script": script}
