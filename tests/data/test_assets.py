"""The embedded benchmark and the embedded model are what their documents say."""

import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import cocoop

ASSETS = Path(cocoop.__file__).parent / "assets"
STYLES = ASSETS / "emoji-styles"
MODEL = ASSETS / "tiny-clip"
GROUPS = ("activities", "animals", "food", "objects", "people", "smileys", "symbols", "travel")
PARTS = ("train", "val", "test", "mono")
ALLOWED = {"Apache-2.0", "MIT", "ISC", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"}


@pytest.fixture(scope="module")
def vendors() -> dict[str, dict[str, Any]]:
    return json.loads((STYLES / "vendors.json").read_text(encoding="utf-8"))


def split(group: str) -> dict[str, list[list[Any]]]:
    return json.loads((STYLES / f"{group}.json").read_text(encoding="utf-8"))


def test_every_group_is_there() -> None:
    assert {p.stem for p in STYLES.glob("*.json")} == {*GROUPS, "vendors"}


def test_roles_are_disjoint(vendors: dict[str, dict[str, Any]]) -> None:
    roles: dict[str, set[str]] = {}
    for name, vendor in vendors.items():
        roles.setdefault(vendor["role"], set()).add(name)
    assert roles["pretraining"] == {"noto", "noto-v1", "fxemoji", "streamline-emojis"}
    assert roles["colour"] == {"twemoji", "emojione", "fluent-emoji", "fluent-emoji-flat", "fluent-3d"}
    assert roles["monochrome"] == {"fluent-emoji-high-contrast", "emojione-monotone"}
    assert sum(map(len, roles.values())) == len(vendors)


def test_pretraining_vendors_are_not_shipped_and_test_vendors_not_trained_on(
    vendors: dict[str, dict[str, Any]],
) -> None:
    with zipfile.ZipFile(STYLES / "images.zip") as archive:
        shipped = {name.split("/")[1] for name in archive.namelist()}
    assert shipped == {v for v, entry in vendors.items() if entry["role"] != "pretraining"}
    trained = (MODEL / "ATTRIBUTION.md").read_text(encoding="utf-8")
    rows = {
        line.split("](")[0].removeprefix("| [") for line in trained.splitlines() if line.startswith("| [")
    }
    for name, vendor in vendors.items():
        assert (vendor["title"] in rows) == (vendor["role"] == "pretraining"), name


@pytest.mark.parametrize("group", GROUPS)
def test_classes(group: str) -> None:
    rows = split(group)
    names = sorted({name for part in PARTS for _, _, name in rows[part]})
    assert 60 <= len(names) <= 200
    for part in PARTS:
        assert all(names[label] == name for _, label, name in rows[part])
    for part, each in (("train", 2), ("val", 1)):
        assert set(Counter(label for _, label, _ in rows[part]).values()) == {each}
        assert len(rows[part]) == each * len(names)
    assert {label for _, label, _ in rows["test"]} == set(range(len(names)))


@pytest.mark.parametrize("group", GROUPS)
def test_parts_share_no_drawing(group: str, vendors: dict[str, dict[str, Any]]) -> None:
    rows = split(group)
    paths = [path for part in PARTS for path, _, _ in rows[part]]
    assert len(set(paths)) == len(paths)
    for part in PARTS:
        role = "monochrome" if part == "mono" else "colour"
        for path, _, name in rows[part]:
            folder, vendor, file = path.split("/")
            assert folder == group
            assert file == f"{name.replace(' ', '_')}.webp"
            assert vendors[vendor]["role"] == role


def test_the_archive_holds_exactly_the_drawings_of_the_splits() -> None:
    rows = [split(group) for group in GROUPS]
    listed = [path for row in rows for part in PARTS for path, _, _ in row[part]]
    with zipfile.ZipFile(STYLES / "images.zip") as archive:
        assert sorted(listed) == sorted(archive.namelist())
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_every_drawing_decodes_and_shows_something() -> None:
    with zipfile.ZipFile(STYLES / "images.zip") as archive:
        for name in archive.namelist():
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.size == (64, 64)
                assert image.mode == "RGB"
                pixels = np.asarray(image)
            assert pixels.std() > 2, name
            if name.split("/")[1] in ("fluent-emoji-high-contrast", "emojione-monotone"):
                assert np.ptp(pixels.astype(int), axis=-1).max() <= 24, f"{name} is not monochrome"


def test_every_licence_is_allowed_and_its_text_shipped(vendors: dict[str, dict[str, Any]]) -> None:
    notice = (STYLES / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for vendor in vendors.values():
        assert vendor["licence"] in ALLOWED
        assert len((STYLES / "LICENSES" / f"{vendor['licence']}.txt").read_text(encoding="utf-8")) > 1000
        assert vendor["title"] in notice
        assert vendor["author"] in notice
    assert "Microsoft Corporation" in (STYLES / "LICENSES" / "MIT.txt").read_text(encoding="utf-8")


def test_every_file_that_is_read_has_its_digest() -> None:
    read = {path for kind in ("json", "zip", "safetensors") for path in ASSETS.rglob(f"*.{kind}")}
    listed = [line.split("  ")[1] for line in (ASSETS / "SHA256SUMS").read_text("utf-8").splitlines()]
    assert sorted(listed) == sorted(path.relative_to(ASSETS).as_posix() for path in read)


def test_sizes() -> None:
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) < 55e6
    assert (STYLES / "images.zip").stat().st_size < 8e6
    assert (MODEL / "open_clip_model.safetensors").stat().st_size < 25e6


def test_the_model_loads_in_open_clip() -> None:
    name = f"local-dir:{MODEL}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    assert isinstance(model, open_clip.CLIP)
    assert model.context_length == 32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    tokens = open_clip.get_tokenizer(name)(["a color emoji of a red apple.", "a color emoji of a dog face."])
    assert tokens.shape == (2, 32)
    with zipfile.ZipFile(STYLES / "images.zip") as archive:
        picture = Image.open(io.BytesIO(archive.read("food/twemoji/red_apple.webp")))
    with torch.no_grad():
        image = model.eval().encode_image(preprocess(picture)[None], normalize=True)
        text = model.encode_text(tokens, normalize=True)
    assert 1 <= model.logit_scale.exp().item() <= 100.001
    assert (image @ text.T).argmax().item() == 0
