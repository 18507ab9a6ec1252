"""The pure parts of the scripts that build the embedded model for photographs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

TOOLS = Path(__file__).resolve().parent.parent / "tools" / "tiny_photo"
sys.path.insert(0, str(TOOLS))

from photo_model import build_model, encode_texts, fill_image_tower, shrink_texts  # noqa: E402
from photo_tower import ARCHITECTURE, classes_and_projection, mean_feature, tower  # noqa: E402
from pretrain_tiny_photo import Trainer, TrainSettings, kin_loss  # noqa: E402
from sentences import CONTEXT, NEUTRAL, STYLES, Sentences, build  # noqa: E402
from targets import PENALTY, Meanings, Ridge, Texts, of_words  # noqa: E402
from wordnet import WordNet  # noqa: E402

LICENCE = "  1 a line of the licence\n"
NOUNS = LICENCE + "\n".join(
    [
        "00000001 03 n 01 entity 0 000 | that which is",
        "00000002 03 n 01 physical_entity 0 001 @ 00000001 n 0000 | an entity that has physical existence",
        '00000003 05 n 02 dog 0 domestic_dog 0 001 @ 00000002 n 0000 | an animal that barks; "it barked"',
        "00000004 05 n 01 cat 0 001 @ 00000002 n 0000 | a furry animal that purrs",
        "00000005 05 n 01 puppy 0 001 @ 00000003 n 0000 | a very young dog",
        "00000006 09 n 01 dog 0 001 @ 00000001 n 0000 | a dull unattractive idea",
        "00000007 05 n 01 Rover 0 001 @i 00000003 n 0000 | a dog of that name",
    ]
)
INDEX = LICENCE + "\n".join(
    [
        "entity n 1 1 @ 1 1 00000001",
        "physical_entity n 1 1 @ 1 1 00000002",
        "dog n 2 1 @ 2 2 00000006 00000003",
        "domestic_dog n 1 1 @ 1 0 00000003",
        "cat n 1 1 @ 1 1 00000004",
        "puppy n 1 1 @ 1 1 00000005",
        "genus_canis n 1 1 @ 1 0 00000003",
        "rover n 1 1 @ 1 0 00000007",
    ]
)
CLASSES = ("00000003", "00000004")


def letters(texts: list[str]) -> torch.Tensor:
    """Unit vectors by what letters a text has, in place of MiniLM."""
    counts = torch.tensor(
        [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
    )
    return F.normalize(counts.float() + 1e-3, dim=1)


@pytest.fixture
def net(tmp_path: Path) -> WordNet:
    (tmp_path / "data.noun").write_text(NOUNS)
    (tmp_path / "index.noun").write_text(INDEX)
    return WordNet(tmp_path)


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.eye(2, 4)


def test_nouns_are_read(net: WordNet) -> None:
    dog = net.nouns["00000003"]
    assert (dog.words, dog.above) == (("dog", "domestic dog"), ("00000002",))
    assert dog.gloss == 'an animal that barks; "it barked"'
    assert net.meanings["dog"] == ("00000006", "00000003")
    assert net.kinds("00000005") == {"00000005", "00000003", "00000002", "00000001"}
    assert net.kinds("00000007") > {"00000003"}  # an instance is a kind too
    assert net.physical("00000005")
    assert not net.physical("00000006")


def test_a_meaning_is_found_by_its_words_and_definition(net: WordNet) -> None:
    assert net.find("dog, domestic dog", "an animal that barks") == "00000003"
    assert net.find("dog", "an unattractive idea") == "00000006"
    assert net.find("puppy, dog", "a very young dog") == "00000005"


def test_classes_score_as_their_classifier_does() -> None:
    weight = torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
    features = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    rows, projection = classes_and_projection(weight, dim=7)
    centred = weight - weight.mean(0)
    lengths = (centred @ projection).norm(dim=1)
    torch.testing.assert_close(features @ projection @ rows.T * lengths, features @ centred.T)
    fewer, _ = classes_and_projection(weight, dim=3)
    torch.testing.assert_close(fewer.norm(dim=1), torch.ones(12))


def test_the_mean_feature_is_that_of_normal_activations() -> None:
    norm = nn.BatchNorm2d(3)
    norm.weight.data, norm.bias.data = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 7.0])
    drawn = torch.randn(400_000, 3, generator=torch.Generator().manual_seed(0))
    expected = F.relu6(drawn * norm.weight + norm.bias).mean(0)
    torch.testing.assert_close(mean_feature(norm), expected.detach(), rtol=0, atol=5e-3)


STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))  # blocks and stride of each


def padded(x: torch.Tensor, weight: torch.Tensor, stride: int, groups: int = 1) -> torch.Tensor:
    """A convolution as TensorFlow pads it: of what is missing, the larger half stands behind."""
    size = weight.shape[-1]
    missing = max(0, (-(-x.shape[-1] // stride) - 1) * stride + size - x.shape[-1])
    before, behind = missing // 2, missing - missing // 2
    return F.conv2d(F.pad(x, (before, behind, before, behind)), weight, stride=stride, groups=groups)


def forward(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 from the tables of its paper, by the names of the package."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        kept = [state[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *kept, eps=1e-3)

    x = F.relu6(norm(padded(x, state["_conv_stem.weight"], 2), "_bn0"))
    strides = [stride if number == 0 else 1 for blocks, stride in STAGES for number in range(blocks)]
    for number, stride in enumerate(strides):
        name, before = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in state:
            x = F.relu6(norm(padded(x, state[f"{name}._expand_conv.weight"], 1), f"{name}._bn0"))
        x = padded(x, state[f"{name}._depthwise_conv.weight"], stride, groups=x.shape[1])
        x = norm(
            padded(F.relu6(norm(x, f"{name}._bn1")), state[f"{name}._project_conv.weight"], 1), f"{name}._bn2"
        )
        x = x + before if x.shape == before.shape else x
    x = F.relu6(norm(padded(x, state["_conv_head.weight"], 1), "_bn1")).mean((2, 3))
    return x @ state["_fc.weight"].T + state["_fc.bias"]


def names_of_the_package() -> list[str]:
    kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["_conv_stem.weight", *(f"_bn0.{kind}" for kind in kinds)]
    for number in range(sum(blocks for blocks, _ in STAGES)):
        parts = [("_expand_conv", "_bn0")] if number else []
        for conv, norm in (*parts, ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            names += [
                f"_blocks.{number}.{conv}.weight",
                *(f"_blocks.{number}.{norm}.{kind}" for kind in kinds),
            ]
    return [*names, "_conv_head.weight", *(f"_bn1.{kind}" for kind in kinds), "_fc.weight", "_fc.bias"]


def test_weights_of_the_package_fill_the_tower(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [
        value.shape for value in timm.create_model(ARCHITECTURE, pretrained=False).state_dict().values()
    ]
    state = {
        name: (torch.rand(shape, generator=generator) + 0.5)
        if "bn" in name
        else torch.randn(shape, generator=generator) / max(1, shape[1:].numel()) ** 0.5
        for name, shape in zip(names_of_the_package(), shapes, strict=True)
    }
    torch.save(state, tmp_path / "w.pth")
    pixels = torch.randn(2, 3, 70, 70, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(
            tower(tmp_path / "w.pth")(pixels), forward(state, pixels), rtol=0, atol=1e-4
        )
    torch.save(dict(list(state.items())[1:]), tmp_path / "w.pth")
    with pytest.raises(SystemExit, match="does not have the layers"):
        tower(tmp_path / "w.pth")


def test_ridge_regression_is_the_solution_of_its_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    points, rows = torch.randn(6, 3, generator=generator), torch.randn(6, 4, generator=generator)
    kernel = torch.exp(-torch.cdist(points, points).square())
    fitted = Ridge(kernel, rows)(kernel)
    torch.testing.assert_close(
        fitted + PENALTY * torch.linalg.solve(kernel, fitted), rows, rtol=1e-3, atol=1e-3
    )


def test_targets_of_kin_lie_near(net: WordNet, rows: torch.Tensor) -> None:
    meanings = Meanings(net, letters, CLASSES, rows)
    places = F.normalize(meanings.places, dim=1)
    dog, cat, puppy = (places[meanings.index[offset]] for offset in (*CLASSES, "00000005"))
    assert dog @ rows[0] > 0.95
    assert cat @ rows[1] > 0.95
    assert puppy @ rows[0] > puppy @ rows[1]  # a puppy is a kind of dog
    torch.testing.assert_close(
        meanings.of_word("Dog"), meanings.places[meanings.index["00000003"]]
    )  # no idea
    torch.testing.assert_close(meanings.of_word("unheard of"), torch.zeros(4))


def test_sentences(net: WordNet, rows: torch.Tensor) -> None:
    meanings = Meanings(net, letters, CLASSES, rows)
    texts = Texts(letters, [("dog, domestic dog", "dog"), ("cat", "cat")], rows)
    names = [("dog", "domestic dog"), ("cat",)]
    data = build(net, meanings, texts, names, rows, np.random.default_rng(0), styled=50)
    again = build(net, meanings, texts, names, rows, np.random.default_rng(0), styled=50)
    assert all(torch.equal(getattr(data, name), getattr(again, name)) for name in vars(data))
    assert data.tokens.shape[1] == CONTEXT
    torch.testing.assert_close(data.aims.float().norm(dim=1), torch.ones(len(data.aims)), atol=2e-3, rtol=0)
    torch.testing.assert_close(data.chance.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert ((data.sure > 0) & (data.sure <= 1)).all()
    torch.testing.assert_close(data.aims[: 3 * len(NEUTRAL)].float(), rows[[0, 0, 1]].repeat(len(NEUTRAL), 1))
    assert all(template.count("{}") == 1 for template in NEUTRAL + STYLES)
    words = of_words(meanings, texts, ["dog", "cat"])
    assert (words @ rows.T).argmax(1).tolist() == [0, 1]


def test_kin_loss_is_least_at_the_targets() -> None:
    aims = F.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    moved = F.normalize(aims + 0.1 * torch.randn(8, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    torch.testing.assert_close(kin_loss(aims, aims), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert kin_loss(moved, aims) > 1e-4


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(40, CONTEXT, dtype=torch.int32)
    tokens[:, :3] = torch.tensor([49406, 0, 49407])
    tokens[:, 1] = torch.arange(40)
    aims = F.normalize(torch.randn(40, 256, generator=generator), dim=1).half()
    data = Sentences(tokens, aims, torch.ones(40), torch.full((40,), 1 / 40, dtype=torch.float64))
    vectors = torch.randn(49408, 256, generator=generator)
    settings = TrainSettings(steps=4, batch=4)
    whole, first, second = (Trainer(settings, data, vectors) for _ in range(3))
    expected = [whole.train_step() for _ in range(4)]
    taken = [first.train_step() for _ in range(2)]
    first.save(tmp_path)
    second.resume(tmp_path)
    taken += [second.train_step() for _ in range(2)]
    np.testing.assert_allclose(taken, expected, rtol=1e-4)
    assert all(
        torch.equal(value, vectors[row])
        for row, value in enumerate(second.model.token_embedding.weight[50:60], 50)
    )
    with pytest.raises(SystemExit, match="was begun with"):
        Trainer(TrainSettings(steps=5, batch=4), data, vectors).resume(tmp_path)


def test_the_image_tower_is_centred() -> None:
    settings = TrainSettings(steps=1, batch=1)
    nothing = torch.zeros(1, CONTEXT, dtype=torch.int32)
    data = Sentences(nothing, torch.zeros(1, 256), torch.ones(1), torch.ones(1))
    model = Trainer(settings, data, torch.zeros(49408, 256)).model.eval()
    trunk = timm.create_model(ARCHITECTURE, pretrained=False).eval()
    generator = torch.Generator().manual_seed(0)
    projection, centre = torch.randn(1280, 256, generator=generator), torch.randn(1280, generator=generator)
    fill_image_tower(model, trunk.state_dict(), projection, centre)
    pixels = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.no_grad():
        pooled = trunk.forward_head(trunk.forward_features(pixels), pre_logits=True)
        expected = (pooled - centre) @ projection
        torch.testing.assert_close(model.encode_image(pixels), expected, rtol=1e-3, atol=1e-3)
        tokens = torch.tensor([[49406, 320, 49407] + [0] * 29, [49406, 320, 1125, 49407] + [0] * 28])
        before = model.encode_text(tokens, normalize=True)
        torch.testing.assert_close(encode_texts(model, tokens), before)


def test_a_shorter_text_tower_has_the_same_features() -> None:
    model = build_model(0).eval()
    tokens = torch.tensor([[49406, 320, 49407] + [0] * 29, [49406, 320, 1125, 49407] + [0] * 28])
    with torch.no_grad():
        for value in (model.token_embedding.weight, model.positional_embedding):
            value.mul_(400)  # so that what is added to a variance before its root does not count
        before = model.encode_text(tokens, normalize=True)
        shrink_texts(model, 1 / 3)
        torch.testing.assert_close(model.encode_text(tokens, normalize=True), before)
