"""What the package carries is checked by the digests beside it."""

from pathlib import Path

import pytest

from cocoop import CocoopError
from cocoop.utils import assets


def test_a_damaged_embedded_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    assets.asset.cache_clear()
    try:
        with pytest.raises(CocoopError, match=r"food.json is missing or damaged; install cocoop again"):
            assets.asset("emoji-styles/food.json")
    finally:
        assets.asset.cache_clear()
