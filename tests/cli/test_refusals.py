"""What hostile inputs have found: each is refused, or comes to the right result, at little cost."""

import io
import json
import os
import shlex
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cocoop import Backbone, CoCoOp, CocoopError, UsageError, ZeroShot, load
from cocoop.backbones.checkpoint import load_file
from cocoop.data.images import open_image, read_bytes
from cocoop.data.own.rows import Row, to_splits
from cocoop.data.own.source import open_source
from cocoop.data.photos import to_image
from cocoop.data.splits import leaves
from cocoop.estimator.evaluate import _picture
from cocoop.estimator.predict import Prediction, as_csv, as_json, as_table
from cocoop.text.prompt import Prompt
from cocoop.training.released import read_checkpoint
from cocoop.utils.files import write_json
from tests.cli.test_cli import call

EVIL = "a\x1b[31m\u202e"


def png(size: tuple[int, int] = (8, 6), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, kind)
    return file.getvalue()


# images


def test_other_kinds_are_refused_for_benchmarks_too(tmp_path: Path) -> None:
    for kind in ("ICO", "PCX", "TGA", "SGI", "EPS"):
        (tmp_path / "a.png").write_bytes(png(kind=kind))
        with pytest.raises(CocoopError, match="not of a kind that is read"):
            open_image(tmp_path, "a.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA"])
def test_ordinary_benchmark_images_have_the_pixels_they_had(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).convert(mode)
    image.save(tmp_path / "a.img", "JPEG" if mode == "CMYK" else "PNG")
    with Image.open(tmp_path / "a.img") as whole:
        np.testing.assert_array_equal(open_image(tmp_path, "a.img"), whole.convert("RGB"))


def test_huge_benchmark_images_are_refused(tmp_path: Path) -> None:
    for size in ((9_460, 9_460), (13_500, 13_500)):  # Pillow warns of the first, and refuses the second
        (tmp_path / "a.png").write_bytes(png(size, mode="1"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(CocoopError, match="more than 89,478,485 pixels"):
                open_image(tmp_path, "a.png")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    with (tmp_path / "c.png").open("wb") as file:
        file.truncate(1 << 40)
    for name, message in {
        "a.png": "no regular file",
        "b.png": "no regular file",
        "c.png": "bytes, more",
    }.items():
        for read in (
            lambda name=name: to_image(tmp_path / name),
            lambda name=name: open_image(tmp_path, name),
        ):
            with pytest.raises(CocoopError, match=message):
                read()


def test_a_replaced_archive_is_read_anew(tmp_path: Path) -> None:
    for text in ("one", "another"):
        with zipfile.ZipFile(tmp_path / "i.zip", "w") as archive:
            archive.writestr("a.png", text)
        assert read_bytes(tmp_path / "i.zip", "a.png") == text.encode()


# names


@pytest.mark.parametrize("name", [EVIL, "a\0b", "\ud800", "\udce9t\udce9", "\x9b"])
def test_control_characters_are_no_class_names(toy: Backbone, name: str) -> None:
    with pytest.raises(UsageError, match="holds characters that are no text"):
        Prompt("a {}.").slots(toy.tokenize, ["cat", name])
    with pytest.raises(CocoopError, match="without control characters"):
        to_splits([Row("a", name), Row("b", "cat")], "data")


def test_names_that_say_nothing_are_empty(toy: Backbone) -> None:
    for name in ("\ufeff", "\u00ad"):
        if toy.tokenize(name)[1:-1]:
            continue
        with pytest.raises(UsageError, match="empty name"):
            Prompt("a {}.").slots(toy.tokenize, [name])


def test_the_tokenizer_is_spared_what_no_prompt_holds(toy: Backbone) -> None:
    with pytest.raises(UsageError, match=r"\(1,000,000 characters\) is longer than toy reads"):
        toy.tokenize("a" * 1_000_000)
    with pytest.raises(UsageError, match="not valid Unicode"):
        toy.tokenize("\ud800")


@pytest.mark.parametrize("template", ["", "a photo", "{} {}", "{0.__class__}", "{:>999999999}"])
def test_a_template_is_no_format_string(toy: Backbone, template: str) -> None:
    with pytest.raises(UsageError, match=r"needs \{\} once"):
        ZeroShot(toy, template=template).predict(np.zeros((1, 8, 8, 3)), classes=["cat"])
    filled = Prompt("{0.__class__} {}").fill("{} {x}")
    assert filled == "{0.__class__} {} {x}"


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
    odd = [Prediction(f"{EVIL}\n.png", ((f"{EVIL}", 0.7), ("=1+1", 0.3)), True)]
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


# tables, folders, split files


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "a/../../b",
        "..\\a",
        "C:a",
        "C:\\a",
        "/a",
        "\\\\s\\a",
        "a\0b",
        ".. /a",
        "a/..",
        "...",
        "a/ ..\\b",
    ],
)
def test_paths_that_leave_on_some_system(path: str) -> None:
    assert leaves(path)


@pytest.mark.parametrize("path", ["a.jpg", "a/b..c/d.jpg", "a..b", "..a", "a/.b", "é/ü.png", "a b/c (1).png"])
def test_paths_that_stay(path: str) -> None:
    assert not leaves(path)


def test_links_and_depth(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        for place in range(9):
            (tmp_path / name / f"f{place}").mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(png())
    for one in range(9):
        for other in range(9):  # more ways through these links than could be walked
            (tmp_path / "red" / f"f{one}" / f"to{other}").symlink_to(tmp_path / "red" / f"f{other}")
    assert len(open_source(str(tmp_path)).splits["train"]) == 2
    (tmp_path / "red" / "self.png").symlink_to("self.png")
    with pytest.raises(CocoopError, match="leads back to itself"):
        open_source(str(tmp_path))
    (tmp_path / "red" / "self.png").unlink()
    (tmp_path / "blue" / Path(*["d"] * 150)).mkdir(parents=True)
    with pytest.raises(CocoopError, match="more than 100 deep"):
        open_source(str(tmp_path))


# checkpoints


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
    for read in (read_checkpoint, load_file):
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
    state = dict(toy.model.state_dict()) | {
        name: torch.tensor(1) for name in ("input_resolution", "context_length")
    }
    state |= {"vocab_size": torch.tensor(1), "token_embedding.weight": torch.zeros(99_968, 1)}
    state |= {"positional_embedding": torch.zeros(1, 99_968)}  # of both together: 40 GB
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CocoopError, match="has the shape"):
        load_file(tmp_path / "w.pt")


# what the commands print


def test_a_damaged_image_warns_nobody(
    tmp_path: Path, toy: Backbone, capfd: pytest.CaptureFixture[str]
) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\xff\xff\xff\xff\x08\0\0\0"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    ZeroShot("toy").fit([tmp_path / "a.jpg"] * 2, ["cat", "dog"]).save(tmp_path / "m") if False else None
    write_json(tmp_path / "unused.json", {})
    assert call("predict", str(tmp_path / "gone"), str(tmp_path / "a.jpg")) == 1
    assert "Warning" not in capfd.readouterr().err
