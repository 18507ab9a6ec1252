"""Inputs made to do harm: a part of the corpus of audits/hostile, and the parsers fuzzed."""

import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from audits import hostile
from cocoop import Backbone, CocoopError, UsageError
from cocoop.backbones.checkpoint import load_file
from cocoop.backbones.names import _TOY_CONFIG
from cocoop.data.decode import decode_photo, open_image
from cocoop.data.own.rows import read_names
from cocoop.data.own.table import read_table
from cocoop.data.splits import leaves, read_split
from cocoop.estimator.inputs import read_classes
from cocoop.methods._settings import parse_overrides
from cocoop.text.prompt import Prompt
from cocoop.training.released import read_checkpoint

EVERY = 6  # of the corpus, beside which the whole takes minutes
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EVIL = "a\x1b[31m\u202e"


def png(size: tuple[int, int] = (8, 6), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, kind)
    return file.getvalue()


def refusal(read: Callable[[], object], kind: type[Exception] = CocoopError) -> str | None:
    """Return the message of an error of one kind, None where there is none; any other error is raised."""
    try:
        read()
    except kind as error:
        return str(error)
    return None


def test_hostile_inputs_do_no_harm() -> None:
    outcome = hostile.run(0, every=EVERY)
    assert outcome.failures == ()
    assert outcome.tried == outcome.handled == outcome.refused + outcome.accepted > 150
    assert set(outcome.kinds) == set(hostile.KINDS)
    assert all(part.tried for part in outcome.kinds.values())


def test_the_trial_sees_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that crashes, hangs about, writes elsewhere or prints a traceback is counted as a failure."""
    from audits.hostile.case import Case
    from audits.hostile.worker import _judge

    def wrong(use: object) -> str:
        folder = tmp_path / "watched" / "case"
        shutil.rmtree(tmp_path / "watched", ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "input").write_text("x")
        return _judge(Case("x", lambda place: None, use), tmp_path / "watched", folder, "x").wrong

    assert wrong(lambda folder: None) == ""
    assert "ZeroDivisionError" in wrong(lambda folder: 1 / 0)
    assert "wrote" in wrong(lambda folder: (folder.parent / "elsewhere").write_text("x"))
    assert "wrote" in wrong(lambda folder: (folder / "input").write_text("changed"))
    assert "control codes" in wrong(lambda folder: print("\x1b[31m"))
    assert "Traceback" in wrong(lambda folder: print("Traceback", file=sys.stderr))
    monkeypatch.setattr("audits.hostile.worker.MEGABYTES", 100)
    assert "MB" in wrong(lambda folder: np.ones(20_000_000).sum())
    monkeypatch.setattr("audits.hostile.worker.SECONDS", 0.01)
    assert "took" in wrong(lambda folder: sum(range(3_000_000)))


@FUZZ
@given(st.binary(max_size=200) | st.text('[]{}",:0123456789.eE-+\\ntrfals', max_size=80).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"a":' * 50_000)
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """Every reader of a text file gives a result, or an error of ours."""
    readers = {"s.json": read_split, "n.json": read_names, "n.csv": read_names, "c.txt": read_classes}
    readers |= {"t.csv": read_table, "t.tsv": read_table, "t.jsonl": read_table, "t.parquet": read_table}
    for name, read in readers.items():
        (tmp_path / name).write_bytes(data)
        said = refusal(lambda read=read, name=name: read(tmp_path / name))
        assert said is None or (name in said and len(said) < 2_000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
ROWS = st.lists(
    st.tuples(st.text(max_size=8) | VALUES, st.integers(-2, 4) | VALUES, st.text(max_size=3) | VALUES)
)


@FUZZ
@given(st.fixed_dictionaries({"train": ROWS, "val": ROWS, "test": ROWS}) | VALUES)
def test_any_json_is_a_split_file_or_none(tmp_path: Path, value: object) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    try:
        splits = read_split(path)
    except CocoopError:
        return
    labels = {item.label for items in splits.values() for item in items}
    assert labels == set(range(len(labels)))
    assert not any(leaves(item.path) for items in splits.values() for item in items)


@FUZZ
@given(
    st.lists(st.fixed_dictionaries({"path": VALUES, "label": VALUES}, optional={"split": VALUES}), max_size=5)
)
def test_any_values_are_a_table_or_none(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        found = read_table(tmp_path / "t.jsonl")
    except CocoopError:
        return
    assert all((tmp_path / row.path).resolve().is_relative_to(tmp_path.resolve()) for row in found)


@FUZZ
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
    st.floats(0.05, 1),
)
def test_any_damage_to_an_image_is_read_or_refused(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]], share: float
) -> None:
    data = bytearray(png((40, 30), kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    data = data[: max(1, int(share * len(data)))]
    (tmp_path / "a.img").write_bytes(bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, which the command hushes
        assert refusal(lambda: decode_photo(bytes(data)), ValueError) != ""
        assert refusal(lambda: open_image(tmp_path, "a.img")) != ""


@FUZZ
@given(st.text(st.characters(codec=None), max_size=60))
@example("&lt;end_of_text&gt;")
@example("a\u0301" * 90)
def test_any_name_is_tokenised_or_refused(toy: Backbone, name: str) -> None:
    prompt = Prompt("a photo of a {}.", 4)
    if refusal(lambda: prompt.slots(toy.tokenize, [name]), UsageError):
        return
    tokens = [slot.token for slot in prompt.slots(toy.tokenize, [name])[0]]
    assert len(tokens) <= toy.context_length
    assert tokens.count(49406) == tokens.count(49407) == 1


@FUZZ
@given(st.text(max_size=40))
@example("coop.n_ctx=" + "[" * 100_000)
def test_any_setting_is_parsed_or_refused(word: str) -> None:
    assert refusal(lambda: parse_overrides([word]), UsageError) != ""


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
        said = refusal(lambda read=read: read(tmp_path / "model.pth.tar-1"))
        assert said is None or "model.pth.tar-1" in said
