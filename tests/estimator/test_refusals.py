"""Hostile settings, names, models and images where a person's own classifier meets them."""

import io
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cocoop import Backbone, CoCoOp, CocoopError, CoOp, UsageError, ZeroShot, load
from cocoop.estimator.card import ModelInfo
from cocoop.estimator.evaluate import _picture
from cocoop.estimator.predict import Prediction
from cocoop.estimator.predict_output import as_csv, as_json, as_table
from cocoop.utils.files import checked_json, read_checked_json
from tests.cli.test_cli import call
from tests.refusals import ACTIVE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"n_ctx": 10**9, "ctx_init": None}, "n_ctx must be from 1"),
        ({"reduction": 0}, "reduction must be at least 1"),
    ],
)
def test_impossible_settings(toy: Backbone, words: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CoCoOp(toy, settings=words).fit(np.zeros((2, 8, 8, 3)), ["cat", "dog"])
    with pytest.raises(UsageError, match="a seed is a number"):
        CoCoOp(toy, seed=10**30).fit(np.zeros((2, 8, 8, 3)), ["cat", "dog"])


def test_odd_names_and_paths_in_predictions() -> None:
    odd = [Prediction(f"{ACTIVE}\n.png", ((f"{ACTIVE}", 0.7), ("=1+1", 0.3)), True)]
    pieces = (as_table(iter(odd), [Path("a")]), as_json(iter(odd)), as_csv(iter(odd), 2))
    table, listed, cells = ("".join(each) for each in pieces)
    for text in (table, listed, cells):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert table.count("\n") == 1
    assert json.loads(listed)[0]["path"] == odd[0].path
    assert "'=1+1" in cells


def test_the_picture_of_odd_names() -> None:
    names = ["红苹果", "$\\frac{1$", "👩‍👩‍👧‍👦", "a" * 5_000, "[x]"]
    with Image.open(io.BytesIO(_picture(torch.eye(5, dtype=torch.int64), names))) as picture:
        assert max(picture.size) < 2_000


def test_the_hint_of_a_foreign_model_is_one_command(tmp_path: Path, toy: Backbone) -> None:
    model = CoCoOp(toy, epochs=1).fit(np.zeros((2, 8, 8, 3)), ["cat", "dog"])
    model.info_.prompt.backbone = 'x\'); import os #"; touch canary; "'
    model.save(tmp_path / "m")
    with pytest.raises(CocoopError, match="With a network") as error:
        load(tmp_path / "m")
    *_, command, flag, code = shlex.split(str(error.value).rpartition(": ")[2], posix=True)
    assert (command, flag) == ("python", "-c")
    compile(code, "hint", "exec")


def test_a_damaged_image_warns_nobody(
    tmp_path: Path, toy: Backbone, capfd: pytest.CaptureFixture[str]
) -> None:
    """What Pillow has to say of the metadata of a photograph is kept from the terminal."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\xff\xff\xff\xff\x08\0\0\0"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    ZeroShot("toy").fit(np.zeros((2, 8, 8, 3)), ["cat", "dog"]).save(tmp_path / "m")
    assert call("predict", str(tmp_path / "m"), str(tmp_path / "a.jpg"), "--format", "csv") == 0
    out, err = capfd.readouterr()
    assert "a.jpg" in out
    assert "Warning" not in err


def test_a_model_can_be_saved_where_a_save_was_killed(tmp_path: Path, toy: Backbone) -> None:
    models = [CoOp(toy, seed=seed, epochs=1).fit(np.zeros((2, 8, 8, 3)), ["cat", "dog"]) for seed in (0, 1)]
    folder = tmp_path / "m"
    models[0].save(folder)
    (folder / "model.json").unlink()  # it is written last
    (folder / ".model.json.x.tmp").write_text("half")
    models[1].save(folder)
    assert len(list(folder.glob("prompt-*"))) == 1
    assert load(folder).info_.prompt.seed == 1


def test_a_model_file_cannot_choose_another_backbone(tmp_path: Path) -> None:
    ZeroShot("toy").fit(np.zeros((2, 8, 8, 3)), ["cat", "dog"]).save(tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    info = read_checked_json(ModelInfo, path.read_bytes())
    info.params.update(backbone="somewhere/else", system="rm")
    path.write_text(checked_json(info))
    assert load(tmp_path / "m").backbone == "toy"
