"""A person's own images: every kind of file has a defined answer."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocoop import Backbone, CocoopError
from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.features import ImageEncoder
from cocoop.data.dataset import Item
from cocoop.data.decode import FORMATS, KINDS, decode_photo, is_image_name, open_image, to_image

HALVES = Image.new("RGB", (8, 6), "blue")
HALVES.paste((255, 255, 255), (0, 0, 4, 6))  # the left half is white


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise by 90 degrees
    data = encoded(HALVES, "PNG", exif=exif)
    photo = decode_photo(data)
    assert photo.size == (6, 8)
    assert photo.getpixel((3, 1)) == (255, 255, 255)  # left became top
    (tmp_path / "p.png").write_bytes(data)
    assert to_image(tmp_path / "p.png").size == (6, 8)
    assert open_image(tmp_path, "p.png", decode_photo).size == (6, 8)
    assert open_image(tmp_path, "p.png").size == (8, 6)  # benchmarks stay as they were measured


def test_turned_and_stored_pixels_do_not_share_a_cache_entry(toy: Backbone, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "p.png").write_bytes(encoded(HALVES, "PNG", exif=exif))
    cache = FeatureCache(tmp_path / "cache")
    for decode in (None, decode_photo):
        ImageEncoder(toy, cache, decode).test(tmp_path, [Item("p.png", 0, "a")])
    assert len(cache.entries()) == 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparent_pixels_are_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 2, 4))
    if mode == "P":
        data = encoded(image.convert("P"), "PNG", transparency=image.convert("P").getpixel((3, 3)))
    else:
        data = encoded(image.convert(mode), "TIFF" if mode == "PA" else "PNG")
    photo = decode_photo(data)
    assert photo.mode == "RGB"
    assert photo.getpixel((3, 3)) == (255, 255, 255)
    assert photo.getpixel((0, 0)) != (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    pixels = np.array([[0, 255], [32_768, 65_535]], np.uint16)
    photo = decode_photo(encoded(Image.fromarray(pixels), kind))
    assert np.asarray(photo)[..., 0].tolist() == [[0, 0], [128, 255]]


def test_cmyk_and_grey_become_rgb() -> None:
    red = decode_photo(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert red.mode == "RGB"
    assert red.getpixel((4, 4))[0] > 200 > 60 > red.getpixel((4, 4))[1]
    assert decode_photo(encoded(Image.new("L", (8, 8), 77))).getpixel((0, 0)) == (77, 77, 77)
    assert decode_photo(encoded(Image.new("1", (8, 8), 1))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert decode_photo(data).getpixel((4, 4)) == (255, 0, 0)


def test_content_counts_not_the_extension(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(HALVES, "PNG"))
    assert to_image(tmp_path / "photo.jpg").size == HALVES.size


def test_huge_images_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (40_000, 3_000)))
    assert len(data) < 20_000
    for limit in (None, 1_000):  # Pillow warns above its limit, and refuses above twice that
        if limit:
            monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match="more than 89,478,485 pixels; make it smaller"):
            decode_photo(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_images_are_refused_where_warnings_are_not_errors() -> None:
    with pytest.raises(ValueError, match="more than 89,478,485 pixels"):
        decode_photo(encoded(Image.new("1", (40_000, 3_000))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        encoded(HALVES)[:-30],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encoded(Image.new("F", (3, 3)), "TIFF"),
    ],
    ids=["empty", "text", "truncated", "eps", "svg", "float"],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(CocoopError, match=r"cannot read the image .*bad\.png"):
        to_image(tmp_path / "bad.png")
    with pytest.raises(CocoopError, match=r"cannot read the image .*bad\.png"):
        open_image(tmp_path, "bad.png", decode_photo)


def test_every_kind_is_read_and_has_its_suffixes(tmp_path: Path) -> None:
    for kind in FORMATS:
        for suffix in KINDS[kind]:
            assert Image.registered_extensions()[suffix] == kind
            assert is_image_name(f"a{suffix.upper()}")
        assert (
            open_image(tmp_path, write(tmp_path / f"a{KINDS[kind][0]}", encoded(HALVES, kind))).mode == "RGB"
        )
    assert not is_image_name("a.eps")
    assert not is_image_name("png")


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return path.name
