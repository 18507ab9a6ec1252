"""Records that somebody else wrote: refused by the name of their file, whatever they say."""

import json
from pathlib import Path

import pytest

from cocoop.experiments.store import Store
from cocoop.utils.files import DIGEST, digest
from tests.refusals import refusal
from tests.report.test_report import record, store_of

TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "null": "null",
    "list": "[]",
    "object": "{}",
    "half": '{"schema_version": 3, "cell": {',
    "deep": "[" * 1_000_000,
    "nulls": bytes(100_000),
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "million-digits": '{"correct": ' + "9" * 1_000_000 + "}",
    "pickle": b"\x80\x04cposix\nsystem\n(Vtouch canary\ntR.",
}
# a field by its place, and a value that no run writes; the digest fits, as anybody can compute it
VALUES: dict[str, object] = {
    "correct": -1,
    "total": 0,
    "metrics": None,
    "schema_version": 99,
    "unknown": 1,
    "cell.protocol": "../../elsewhere",
    "cell.testing.subset": "some",
    "cell.testing.dataset": "../../..",
    "cell.training.seed": "1; touch canary",
    "cell.training.shots": 16.5,
    "cell.training.unknown": 1,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store_of(tmp_path, [record("coop", "new", 50.0)])
    return next((tmp_path / "records").rglob("*.json"))


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_record_is_refused(path: Path, name: str) -> None:
    text = TEXTS[name]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refusal(lambda: list(Store(path.parents[3]).records())) or ""
    assert str(path) in message
    assert "delete it and run again" in message


@pytest.mark.parametrize("place", VALUES)
def test_a_forged_record_is_refused(path: Path, place: str) -> None:
    body = json.loads(path.read_text())
    del body[DIGEST]
    *above, last = place.split(".")
    part = body
    for name in above:
        part = part[name]
    part[last] = VALUES[place]
    path.write_text(json.dumps(body | {DIGEST: digest(json.dumps(body, sort_keys=True))}))
    assert str(path) in (refusal(lambda: list(Store(path.parents[3]).records())) or "")
