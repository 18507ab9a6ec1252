"""Views, and the cache that must never give a wrong feature."""

import os
import time
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from PIL import Image, ImageOps

from cocoop import Backbone, CocoopError, Item, open_dataset
from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.features import ImageEncoder, encode_images
from cocoop.data.decode import open_image
from cocoop.data.decoded import Decoded
from cocoop.data.transforms import Preprocess
from cocoop.data.views import ImageViews, View, training_view, view_seeds

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FOOD = open_dataset("emoji/food")
ITEMS = FOOD.items("train")[:6]
IMAGES = [open_image(FOOD.root, item.path) for item in ITEMS]


def test_views_drawn_in_a_batch_have_the_pixels_of_views_drawn_one_by_one() -> None:
    seeds = view_seeds(1, 3, len(ITEMS))
    together = PREPROCESS.batch(IMAGES, View(tuple(seeds)))
    for place in reversed(range(len(ITEMS))):
        alone = PREPROCESS.train(IMAGES[place], seeds[place])
        assert torch.equal(together[place], alone)


def test_views_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    PREPROCESS.batch(IMAGES, training_view(1, 0, len(ITEMS)))
    assert torch.equal(torch.rand(1), expected)


def test_views_differ_by_seed_epoch_and_place() -> None:
    seeds = [view_seeds(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)]
    assert len({seed for epoch in seeds for seed in epoch}) == 400
    assert view_seeds(0, 1, 100)[:10] == view_seeds(0, 1, 10)


def test_the_test_transform_keeps_the_aspect_ratio() -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.paste((0, 0, 0), (16, 0, 48, 32))  # the centre crop is black
    assert (PREPROCESS.test(image) == -1).all()
    assert PREPROCESS.test(image).shape == (3, 32, 32)


def test_features_are_as_the_tower_gives_them(toy: Backbone, tmp_path: Path) -> None:
    images = [open_image(FOOD.root, item.path) for item in ITEMS]
    pixels = torch.stack([toy.preprocess.test(image) for image in images])
    with torch.no_grad():
        expected = toy.model.encode_image(pixels)
    for cache in (None, FeatureCache(tmp_path)):
        encoder = ImageEncoder(toy, cache)
        torch.testing.assert_close(encoder.test(FOOD.root, ITEMS), expected)
        torch.testing.assert_close(encoder.test(FOOD.root, ITEMS), expected)


def test_a_mirrored_view_is_the_test_view_of_the_mirror_image(toy: Backbone) -> None:
    mirrored = [ImageOps.mirror(image) for image in IMAGES]
    views = [PREPROCESS.batch(IMAGES, training_view(1, epoch, len(IMAGES), "mirror")) for epoch in (0, 1)]
    torch.testing.assert_close(views[0], PREPROCESS.batch(IMAGES))
    torch.testing.assert_close(views[1], PREPROCESS.batch(mirrored), atol=0.05, rtol=0)
    assert not torch.equal(views[0], views[1])


def test_a_cached_feature_is_the_computed_one(toy: Backbone, tmp_path: Path) -> None:
    cached, plain = ImageEncoder(toy, FeatureCache(tmp_path)), ImageEncoder(toy)
    for _ in range(2):
        assert torch.equal(cached.test(FOOD.root, ITEMS), plain.test(FOOD.root, ITEMS))
        assert torch.equal(cached.train(FOOD.root, ITEMS, 2, 1), plain.train(FOOD.root, ITEMS, 2, 1))
    assert len(FeatureCache(tmp_path).entries()) == 3  # of two views, and of the files' contents


@pytest.fixture
def pictures(tmp_path: Path) -> list[Item]:
    """Two images in tmp_path/images, and as members of tmp_path/images.zip, written an hour ago."""
    (tmp_path / "images").mkdir()
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, colour in (("a.png", "red"), ("b.png", "blue")):
            paint(tmp_path / "images" / name, colour)
            archive.write(tmp_path / "images" / name, name)
    age(tmp_path / "images.zip")
    return [Item("a.png", 0, "a"), Item("b.png", 1, "b")]


def paint(path: Path, colour: str) -> None:
    Image.new("RGB", (40, 40), colour).save(path, compress_level=0)
    age(path)


def age(path: Path, seconds: float = 3600) -> None:
    """Set the time of a file's last change."""
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The image files and the members of archives that are opened from here on."""
    opened: list[str] = []
    path_open, member_open, decode = Path.open, ZipFile.open, Image.open

    def watch(name: object) -> None:
        if str(name).endswith(".png"):
            opened.append(Path(str(name)).name)

    monkeypatch.setattr(
        Path, "open", lambda path, *args, **kw: (watch(path), path_open(path, *args, **kw))[1]
    )
    monkeypatch.setattr(
        ZipFile,
        "open",
        lambda archive, name, *args, **kw: (
            watch(getattr(name, "filename", name)),
            member_open(archive, name, *args, **kw),
        )[1],
    )
    monkeypatch.setattr(Image, "open", lambda *args, **kw: (watch("decoded.png"), decode(*args, **kw))[1])
    return opened


@pytest.mark.parametrize("root", ["images", "images.zip"])
def test_a_second_evaluation_opens_no_image(
    toy: Backbone, tmp_path: Path, pictures: list[Item], reads: list[str], root: str
) -> None:
    first = ImageEncoder(toy, FeatureCache(tmp_path / "cache")).test(tmp_path / root, pictures)
    assert reads == ["a.png", "b.png", "a.png", "decoded.png", "b.png", "decoded.png"]
    reads.clear()
    assert torch.equal(
        ImageEncoder(toy, FeatureCache(tmp_path / "cache")).test(tmp_path / root, pictures), first
    )
    assert reads == []
    ImageEncoder(toy, FeatureCache(tmp_path / "cache")).train(tmp_path / root, pictures, 0, 1)
    assert reads == ["a.png", "decoded.png", "b.png", "decoded.png"], "contents are known, the view is not"


def test_a_file_touched_but_equal_is_read_and_not_encoded(
    toy: Backbone, tmp_path: Path, pictures: list[Item], reads: list[str]
) -> None:
    encoder = ImageEncoder(toy, FeatureCache(tmp_path / "cache"))
    first = encoder.test(tmp_path / "images", pictures)
    age(tmp_path / "images" / "b.png", 1800)
    reads.clear()
    assert torch.equal(encoder.test(tmp_path / "images", pictures), first)
    assert reads == ["a.png", "b.png"], "read for their digests, not decoded"
    (tmp_path / "images").rename(tmp_path / "moved")
    reads.clear()
    assert torch.equal(encoder.test(tmp_path / "moved", pictures), first)
    assert reads == ["a.png", "b.png"]


@pytest.mark.parametrize("seconds", [1800, -60], ids=["long ago", "just now"])
def test_a_file_changed_in_place_is_encoded_anew(
    toy: Backbone, tmp_path: Path, pictures: list[Item], seconds: float
) -> None:
    path, root = tmp_path / "images" / "a.png", tmp_path / "images"
    encoder = ImageEncoder(toy, FeatureCache(tmp_path / "cache"))
    age(path, seconds)
    before, when, red = encoder.test(root, pictures), path.stat(), path.read_bytes()
    paint(path, "green")
    assert len(path.read_bytes()) == len(red), "of another size it would be easy"
    if seconds > 0:
        age(path, seconds / 2)
    else:  # a change within one tick of the file system's clock leaves the time as it was
        os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert not torch.equal(encoder.test(root, pictures), before)
    path.write_bytes(red)
    assert torch.equal(encoder.test(root, pictures), before)
    path.unlink()
    with pytest.raises(CocoopError, match=r"a\.png: missing"):
        encoder.test(root, pictures)


def test_an_archive_changed_in_place_is_encoded_anew(
    toy: Backbone, tmp_path: Path, pictures: list[Item]
) -> None:
    root, encoder = tmp_path / "images.zip", ImageEncoder(toy, FeatureCache(tmp_path / "cache"))
    before = encoder.test(root, pictures)
    with ZipFile(root, "w") as archive:
        archive.write(tmp_path / "images" / "a.png", "b.png")
        archive.write(tmp_path / "images" / "b.png", "a.png")
    age(root, 1800)
    assert torch.equal(encoder.test(root, pictures), before.flip(0))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_damaged_entries_are_computed_anew(toy: Backbone, tmp_path: Path, damage: str) -> None:
    cache = FeatureCache(tmp_path)
    encoder = ImageEncoder(toy, cache)
    right = encoder.test(FOOD.root, ITEMS)
    assert len(cache.entries()) == 2
    for path in cache.entries():
        whole = path.read_bytes()
        flipped = whole[:-5] + bytes([whole[-5] ^ 64]) + whole[-4:]
        damaged = {"truncated": whole[:-7], "flipped": flipped, "empty": b"", "other": b"{}" * 99}
        path.write_bytes(damaged[damage])
        assert torch.equal(encoder.test(FOOD.root, ITEMS), right)
        assert path.read_bytes() == whole


def test_pruning_drops_the_longest_unused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    for key in ("aa", "bb", "cc"):
        cache.put(key, torch.ones(100))
    for when, key in enumerate(("bb", "cc", "aa")):
        path = cache.path(key)
        os.utime(path, (when, when))
    one = cache.size() // 3
    assert cache.prune(2 * one) == one
    assert cache.get("bb") is None
    assert cache.get("aa") is not None
    assert cache.prune(0) == 2 * one


def test_looks_are_views_that_are_read_once_and_kept(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dataset("emoji/activities")
    items, views = data.items("test")[:5], ImageViews(4, augmix=True)
    encoder = ImageEncoder(toy, FeatureCache(tmp_path), data.decode)
    opened: list[object] = []

    def noted(*args: object, **kwargs: object) -> Image.Image:
        opened.append(args[-1])
        return open_image(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("cocoop.backbones.features.open_image", noted)
    monkeypatch.setattr("cocoop.backbones.features.BATCH", 9)  # two images
    looks = encoder.looks(data.root, items, views, seed=3)
    assert looks.shape == (5, 4, toy.embed_dim)
    assert len(opened) == 5
    assert torch.equal(encoder.looks(data.root, items, views, seed=3), looks)
    assert len(opened) == 5
    pictures = [open_image(data.root, item.path, decode=data.decode) for item in items]
    for view, ours in zip(views.of(3, 5), looks.unbind(1), strict=True):
        torch.testing.assert_close(encode_images(toy, pictures, view), ours, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(encoder.looks(data.root, items, views, seed=4)[:, 1:], looks[:, 1:])
    assert not torch.allclose(encoder.looks(data.root, items, ImageViews(4), seed=3)[:, 1:], looks[:, 1:])
    assert encoder.looks(data.root, [], views, seed=3).shape == (0, 4, toy.embed_dim)


def test_the_epochs_of_a_fit_decode_an_image_once(
    toy: Backbone, tmp_path: Path, pictures: list[Item], reads: list[str]
) -> None:
    encoder = ImageEncoder(toy, FeatureCache(tmp_path / "cache"))
    views = [encoder.train(tmp_path / "images", pictures, epoch, 1) for epoch in range(3)]
    assert reads.count("decoded.png") == 2
    small = ImageEncoder(toy, FeatureCache(tmp_path / "other"), decoded=Decoded(budget=40 * 40 * 3))
    again = [small.train(tmp_path / "images", pictures, epoch, 1) for epoch in range(3)]
    assert reads.count("decoded.png") == 2 + 1 + 3, "one of the two images has room"
    assert all(map(torch.equal, views, again))


def test_an_image_that_changed_is_decoded_anew(toy: Backbone, tmp_path: Path, pictures: list[Item]) -> None:
    encoder, root = ImageEncoder(toy, FeatureCache(tmp_path / "cache")), tmp_path / "images"
    before = encoder.train(root, pictures, 0, 1)
    paint(root / "a.png", "green")
    after = encoder.train(root, pictures, 0, 1)
    assert torch.equal(after, ImageEncoder(toy).train(root, pictures, 0, 1))
    assert not torch.equal(after[0], before[0])
    assert len(encoder.decoded._images) == 2, "the old image is forgotten"
