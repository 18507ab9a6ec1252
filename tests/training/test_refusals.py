"""Hostile checkpoints and tensor files: refused by name, run nothing, and cost no more than their size."""

import io
import json
import struct
import zipfile
from functools import partial
from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cocoop import Backbone, CocoopError, load_prompt
from cocoop.backbones.checkpoint import load_file
from cocoop.backbones.features import FeatureCache
from cocoop.backbones.names import _TOY_CONFIG
from cocoop.training.checkpoint import Checkpoint
from cocoop.training.released import read_checkpoint
from tests.refusals import FUZZ, refusal

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS: dict[str, object] = {
    "not-json": b"{{{",
    "list": [],
    "deep": b"[" * 100_000,
    "overlap": {"ctx": F32, "b": F32},
    "backwards": {"ctx": F32 | {"data_offsets": [8, 0]}},
    "beyond-the-end": {"ctx": F32 | {"data_offsets": [0, 8_000]}},
    "shape-that-wraps": {"ctx": F32 | {"shape": [2**32, 2**32, 4]}},
    "negative-shape": {"ctx": F32 | {"shape": [-2]}},
    "unknown-type": {"ctx": F32 | {"dtype": "F31"}},
    "integers": {"ctx": F32 | {"dtype": "I32"}},
    "metadata-of-numbers": {"__metadata__": {"cocoop": 5}, "ctx": F32},
    "name-with-escape": {"\x1b[31m": F32},
}


@pytest.mark.parametrize("name", HEADERS)
def test_tensor_files_whose_header_lies(tmp_path: Path, toy: Backbone, name: str) -> None:
    """A prompt or weights are refused, a cached feature or an unfinished fit counts as absent."""
    header = HEADERS[name]
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = struct.pack("<Q", len(raw)) + raw + bytes(8)
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    assert "a.safetensors" in (refusal(lambda: load_prompt(path, toy)) or "")
    assert "a.safetensors" in (refusal(lambda: load_file(path, "RN50")) or "")
    cache, key = FeatureCache(tmp_path / "cache"), "0" * 64
    cache.path(key).parent.mkdir(parents=True)
    cache.path(key).write_bytes(data)
    assert cache.get(key) is None
    assert Checkpoint(path, key).load() is None


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (b"}(" + b")" + b"\x85" * 60_000 + b"Nu.", "more tuples than a checkpoint needs"),
        (
            b"cbuiltins\nbytearray\n\x8a\x05" + (10**10).to_bytes(5, "little") + b"\x85R.",
            "names builtins bytearray",
        ),
        (
            b"ctorch\nFloatTensor\n\x8a\x05" + (10**10).to_bytes(5, "little") + b"\x85R.",
            "names torch FloatTensor",
        ),
    ],
)
def test_pickles_that_fill_the_stack_or_the_memory(tmp_path: Path, codes: bytes, message: str) -> None:
    path = tmp_path / "model.pth.tar-1"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + codes)
    for read in (read_checkpoint, partial(load_file, architecture="RN50")):
        with pytest.raises(CocoopError, match=message):
            read(path)


def test_checkpoints_that_are_more_than_they_seem(tmp_path: Path) -> None:
    path = tmp_path / "model.pth.tar-1"
    torch.save({"state_dict": {"ctx": torch.zeros(1, 32).expand(10**9, 32)}}, path)
    with pytest.raises(CocoopError, match="larger than the file"):
        read_checkpoint(path)
    torch.save({"state_dict": {"ctx": torch.zeros(4, 32)}}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "z", "w", zipfile.ZIP_DEFLATED) as packed:
        for member in whole.infolist():
            packed.writestr(member.filename, whole.read(member))
    with pytest.raises(CocoopError, match="it is compressed"):
        read_checkpoint(tmp_path / "z")


def test_weights_that_would_be_larger_than_their_file(tmp_path: Path, toy: Backbone) -> None:
    state = dict(toy.model.state_dict()) | {"token_embedding.weight": torch.zeros(1).expand(10**6, 10**6)}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CocoopError, match="larger than the file"):
        load_file(tmp_path / "w.pt", "RN50")


@FUZZ
@given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_any_damage_to_a_checkpoint_is_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[tuple[float, int]], legacy: bool
) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Small", dict(_TOY_CONFIG))
    file = io.BytesIO()
    torch.save({"state_dict": {"ctx": torch.zeros(4, 32)}}, file, _use_new_zipfile_serialization=not legacy)
    data = bytearray(file.getvalue())
    for place, value in changes:
        data[int(place * len(data))] = value
    (tmp_path / "model.pth.tar-1").write_bytes(bytes(data))
    for read in (read_checkpoint, partial(load_file, architecture="Small")):
        message = refusal(lambda read=read: read(tmp_path / "model.pth.tar-1"))
        assert message is None or "model.pth.tar-1" in message
