"""The pure parts of the scripts that build the embedded data and model."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

TOOLS = Path(__file__).resolve().parent.parent / "tools"
sys.path.insert(0, str(TOOLS))

import augment  # noqa: E402
import captions  # noqa: E402
import colours  # noqa: E402
import emoji  # noqa: E402
import icons  # noqa: E402
from build_emoji_styles import BuildSettings, assign_parts, member  # noqa: E402
from captions import Look  # noqa: E402
from names import clean_name, squash  # noqa: E402
from tiny_clip import (  # noqa: E402
    apart,
    build_model,
    build_student,
    cut_padding,
    encode_short_text,
    export_student,
    multi_positive_loss,
)


@pytest.mark.parametrize(
    ("raw", "words", "styles"),
    [
        ("account-box-outline", "account box", ("outline",)),
        ("archive-24-filled", "archive", ("solid",)),
        ("baseline-dark-mode", "dark mode", ("solid",)),
        ("bag-heart-bold-duotone", "bag heart", ("bold", "two tone")),
        ("traffic-light", "traffic light", ()),
        ("traffic-light-bold", "traffic light", ("bold",)),
        ("home-outline-rounded", "home", ("outline", "rounded")),
        ("line", "line", ()),
        ("cloud-1", "cloud", ()),
    ],
)
def test_clean_name(raw: str, words: str, styles: tuple[str, ...]) -> None:
    cleaned = clean_name(raw)
    assert cleaned is not None
    assert (cleaned.words, cleaned.styles) == (words, styles)


@pytest.mark.parametrize("raw", ["brand-github", "24", "a", "", "one-two-three-four-five-six-seven"])
def test_names_that_say_nothing_are_dropped(raw: str) -> None:
    assert clean_name(raw) is None


def test_squash_compares_spellings() -> None:
    assert squash("Admission-Tickets") == squash("admissiontickets")


def test_codepoints_ignore_the_variation_selector() -> None:
    assert emoji.code_key("0023-FE0F-20e3") == emoji.code_key("23-20e3") == "23-20e3"


@pytest.mark.parametrize(
    "slug", ["woman-artist", "waving-hand-dark-skin-tone", "flag-france", "family-man-boy"]
)
def test_variants_are_no_classes(slug: str) -> None:
    assert emoji.is_variant(slug)


@pytest.mark.parametrize("slug", ["red-apple", "man", "person-biking", "salt", "kissing-face"])
def test_plain_emoji_are_classes(slug: str) -> None:
    assert not emoji.is_variant(slug)


def vocabulary() -> emoji.Vocabulary:
    noto = {
        "categories": {"Food & Drink": ["red-apple"], "Flags": ["flag-france"]},
        "chars": {"1f34e": "red-apple"},
        "aliases": {"apple": {"parent": "red-apple"}},
    }
    return emoji.vocabulary({"noto": noto, "twemoji": {"categories": {}}, "other": {}})


def test_emoji_are_found_by_code_and_by_any_spelling() -> None:
    words = vocabulary()
    for spelling, code in (("red-apple", None), ("redapple", None), ("apple", None), ("unknown", "1f34e")):
        found = words.find(spelling, code)
        assert found is not None
        assert (found.name, found.group) == ("red apple", "food")
    assert words.find("flag-france") is None


def test_captions_say_name_colour_and_style() -> None:
    rng = np.random.default_rng(0)
    icon = Look("red apple", False, "blue", ("outline",))
    assert captions.phrase(icon, "photo", rng) == "a photo of a red apple."
    assert captions.phrase(icon, "bare", rng) == "red apple"
    assert captions.phrase(icon, "style", rng) == "an outline icon of a red apple."
    assert captions.phrase(icon, "both", rng) == "a blue outline icon of a red apple."
    drawing = Look("red apple", True, "orange", ("flat",))
    assert captions.phrase(drawing, "kind", rng) == "a color emoji of a red apple."
    assert captions.phrase(drawing, "colour", rng) == "an orange color emoji of a red apple."
    assert captions.phrase(drawing, "style", rng) == "a flat emoji of a red apple."
    gray = Look("red apple", True, "gray", captions.mono_styles("gray"))
    assert captions.phrase(gray, "colour", rng) == "a gray emoji of a red apple."


@pytest.mark.parametrize("mix", [captions.EMOJI_MIX, captions.ICON_MIX])
def test_caption_chances_sum_to_one(mix: dict[str, float]) -> None:
    assert sum(mix.values()) == pytest.approx(1)


def test_captions_depend_on_the_generator_alone() -> None:
    look = Look("dog", True, "brown", ("blob", "glossy"))
    first, second = (
        [captions.compose(look, rng) for _ in range(20)]
        for rng in (np.random.default_rng(5), np.random.default_rng(5))
    )
    assert first == second
    assert len(set(first)) > 3


@pytest.mark.parametrize(
    ("rgb", "word"),
    [((250, 20, 20), "red"), ((20, 90, 230), "blue"), ((30, 30, 30), "black"), ((90, 50, 20), "brown")],
)
def test_dominant_colour(rgb: tuple[int, int, int], word: str) -> None:
    rgba = np.full((8, 8, 4), 255, dtype=np.uint8)
    rgba[..., :3] = rgb
    assert colours.dominant_word(rgba) == word


def test_parts_are_deterministic_and_cover_all_vendors() -> None:
    vendors, settings = list(emoji.COLOUR), BuildSettings()
    parts = assign_parts(vendors, (0, 3, 7), settings)
    assert parts == assign_parts(vendors, (0, 3, 7), settings)
    assert [len(parts[p]) for p in ("train", "val", "test")] == [2, 1, 2]
    assert sorted(v for found in parts.values() for v in found) == sorted(vendors)
    assert len({tuple(assign_parts(vendors, (0, 3, k), settings)["train"]) for k in range(30)}) > 5


def test_member_paths() -> None:
    assert member("food", "twemoji", "red apple") == "food/twemoji/red_apple.webp"


def test_distinct_names_give_plain_clip_loss() -> None:
    rng = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(6, 4, generator=rng), dim=-1)
    texts = F.normalize(torch.randn(6, 4, generator=rng), dim=-1)
    scale = torch.tensor(10.0)
    logits, right = scale * images @ texts.T, torch.arange(6)
    plain = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    torch.testing.assert_close(multi_positive_loss(images, texts, right * 3, scale), plain)


def test_captions_of_one_name_are_all_right() -> None:
    same = F.normalize(torch.ones(3, 4), dim=-1)
    loss = multi_positive_loss(same, same, torch.zeros(3, dtype=torch.long), torch.tensor(5.0))
    assert loss.item() == pytest.approx(np.log(3))


def test_cut_text_is_encoded_like_whole_text() -> None:
    model = build_model(seed=1).eval()
    tokens = torch.zeros(2, 32, dtype=torch.long)
    tokens[0, :4] = torch.tensor([49406, 320, 1125, 49407])
    tokens[1, :6] = torch.tensor([49406, 320, 1125, 539, 320, 49407])
    cut = cut_padding(tokens)
    assert cut.shape == (2, 6)
    with torch.no_grad():
        torch.testing.assert_close(encode_short_text(model, cut), model.encode_text(tokens, normalize=True))


def test_features_are_apart_by_their_angle() -> None:
    aims = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert apart(aims, aims * 7).item() == pytest.approx(0, abs=1e-6)
    assert apart(torch.tensor([[-4.0, 3.0], [0.0, -1.0]]), aims).item() == pytest.approx(1.5)


def test_a_student_has_the_teachers_text_tower_and_learns_the_rest(tmp_path: Path) -> None:
    teacher = build_model(seed=1)
    student = build_student(teacher, seed=2)
    learned = {name for name, value in student.named_parameters() if value.requires_grad}
    of_images = {name for name, _ in student.named_parameters() if name.startswith("visual.")}
    assert learned == {*of_images, "logit_scale"}
    theirs, own = teacher.state_dict(), student.state_dict()
    assert own.keys() - of_images == {name for name in theirs if not name.startswith("visual.")}
    assert all(torch.equal(own[name], theirs[name]) for name in own.keys() - of_images)
    export_student(own, tmp_path)
    stored = load_file(tmp_path / "open_clip_model.safetensors")
    assert stored.keys() == learned
    torch.testing.assert_close(stored["visual.proj"], own["visual.proj"].half())


def test_renderings_stay_in_range_and_repeat() -> None:
    settings = augment.AugmentSettings()

    def render() -> torch.Tensor:
        rng = torch.Generator().manual_seed(3)
        rgba = torch.rand(4, 4, 56, 56, generator=rng)
        rgba[:, :3] *= rgba[:, 3:].clone()
        warped = augment.recolour(augment.warp(rgba, settings, rng), settings, rng)
        return augment.compose_colour(warped, augment.backgrounds(4, settings, rng))

    first = render()
    assert first.shape == (4, 3, 48, 48)
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-5
    torch.testing.assert_close(first, render())


def test_drawings_are_centred_and_mirrored() -> None:
    body = '<rect width="4" height="2" fill="#f00"/>'
    icon_set = {
        "icons": {"bar": {"body": body, "width": 8, "height": 4}},
        "aliases": {"rab": {"parent": "bar", "hFlip": True}},
    }
    left = icons.rasterise(icons.svg_document(icon_set, "bar"), 16)
    right = icons.rasterise(icons.svg_document(icon_set, "rab"), 16)
    assert left.shape == (16, 16, 4)
    assert tuple(left[5, 2]) == (255, 0, 0, 255)
    assert left[0, 2, 3] == 0
    np.testing.assert_array_equal(left[:, ::-1], right)
    assert tuple(icons.on_white(left)[0, 0]) == (255, 255, 255)


def test_crops_stay_inside_the_drawing() -> None:
    settings = augment.AugmentSettings(crops=1.0)
    theta = augment.crop_theta(200, settings, torch.Generator().manual_seed(0))
    reach = theta[:, :, :2].abs().sum(-1) + theta[:, :, 2].abs()
    assert reach.max() <= 1 + 1e-5
    area = theta[:, 0, 0].abs() * theta[:, 1, 1]
    assert settings.crop_area[0] * 0.9 <= area.min() < area.max() <= 1
    assert 0 < (theta[:, 0, 0] < 0).float().mean() < 0.6


def test_things_with_an_emoji_are_not_called_photos_when_told_so() -> None:
    rng = np.random.default_rng(0)
    for look in (Look("dog", True, "brown", ("flat",), False), Look("dog", False, "red", ("solid",), False)):
        assert not any("photo" in captions.compose(look, rng) for _ in range(200))
