"""The short form of audits/kills.py."""

import random
from pathlib import Path

from audits.kills import trial
from cocoop.experiments.store import Store
from tests.run_folder import contents

SHORT = ("--methods", "zeroshot,cocoop", "--shots", "1", "--set", "cocoop.epochs=15")


def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    hits, differing = trial(tmp_path, 2, random.Random(0), SHORT)
    assert len(hits) == 2
    assert differing == []
    expected = contents(tmp_path / "undisturbed")
    assert len(expected) == 4 + 4 + 1  # records, predictions, the prompt
    record = next(iter(Store(tmp_path / "killed-1").records()))
    assert not any(word in b"".join(expected.values()).decode("latin1") for word in (record.created,))
