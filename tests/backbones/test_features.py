"""Views, and the cache that must never give a wrong feature."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cocoop import Backbone, open_dataset
from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.features import ImageEncoder, view_seeds
from cocoop.data.decode import open_image
from cocoop.data.transforms import Preprocess

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FOOD = open_dataset("emoji/food")
ITEMS = FOOD.items("train")[:6]
IMAGES = [open_image(FOOD.root, item.path) for item in ITEMS]


def test_views_drawn_in_a_batch_have_the_pixels_of_views_drawn_one_by_one() -> None:
    seeds = view_seeds(1, 3, len(ITEMS))
    together = PREPROCESS.batch(IMAGES, seeds)
    for place in reversed(range(len(ITEMS))):
        alone = PREPROCESS.train(IMAGES[place], seeds[place])
        assert torch.equal(together[place], alone)


def test_views_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    PREPROCESS.batch(IMAGES, view_seeds(1, 0, len(ITEMS)))
    assert torch.equal(torch.rand(1), expected)


def test_views_differ_by_seed_epoch_and_place() -> None:
    seeds = [view_seeds(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)]
    assert len({seed for some in seeds for seed in some}) == 400
    assert view_seeds(0, 1, 100)[:10] == view_seeds(0, 1, 10)


def test_the_test_transform_keeps_the_aspect_ratio() -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.paste((0, 0, 0), (16, 0, 48, 32))  # the centre crop is black
    assert (PREPROCESS.test(image) == -1).all()
    assert PREPROCESS.test(image).shape == (3, 32, 32)


def test_features_are_normalised(toy: Backbone) -> None:
    features = ImageEncoder(toy).test(FOOD.root, ITEMS)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(len(ITEMS)))


def test_a_cached_feature_is_the_computed_one(toy: Backbone, tmp_path: Path) -> None:
    cached, plain = ImageEncoder(toy, FeatureCache(tmp_path)), ImageEncoder(toy)
    for _ in range(2):
        assert torch.equal(cached.test(FOOD.root, ITEMS), plain.test(FOOD.root, ITEMS))
        assert torch.equal(cached.train(FOOD.root, ITEMS, 2, 1), plain.train(FOOD.root, ITEMS, 2, 1))
    assert len(FeatureCache(tmp_path).entries()) == 2


def test_other_content_under_the_same_path_is_another_entry(toy: Backbone, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    encoder = ImageEncoder(toy, FeatureCache(tmp_path / "cache"))
    item = ITEMS[0]._replace(path="one.png")
    Image.new("RGB", (40, 40), "red").save(root / "one.png")
    red = encoder.test(root, [item])
    Image.new("RGB", (40, 40), "blue").save(root / "one.png")
    assert not torch.equal(encoder.test(root, [item]), red)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_damaged_entries_are_computed_anew(toy: Backbone, tmp_path: Path, damage: str) -> None:
    cache = FeatureCache(tmp_path)
    encoder = ImageEncoder(toy, cache)
    right = encoder.test(FOOD.root, ITEMS)
    (path,) = cache.entries()
    whole = path.read_bytes()
    flipped = whole[:-5] + bytes([whole[-5] ^ 64]) + whole[-4:]
    path.write_bytes({"truncated": whole[:-7], "flipped": flipped, "empty": b"", "other": b"{}" * 99}[damage])
    assert torch.equal(encoder.test(FOOD.root, ITEMS), right)
    assert path.read_bytes() == whole


def test_pruning_drops_the_longest_unused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    for key in ("aa", "bb", "cc"):
        cache.put(key, torch.ones(100))
    for when, key in enumerate(("bb", "cc", "aa")):
        path = cache.path(key)
        import os

        os.utime(path, (when, when))
    one = cache.size() // 3
    assert cache.prune(2 * one) == one
    assert cache.get("bb") is None
    assert cache.get("aa") is not None
    assert cache.prune(0) == 2 * one
