"""Classifiers as scikit-learn users know them, on images from files and from memory."""

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.validation import check_is_fitted

import cocoop
from cocoop import CoCoOp, CocoopError, CoOp, UsageError, ZeroShot
from cocoop.data.decode import to_image
from cocoop.estimator.inputs import read_classes

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200)}


def painted(count: int = 4) -> tuple[list[Image.Image], list[str]]:
    """Nearly uniform images of three colours, and the names of these."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for name, colour in COLOURS.items():
        for _ in range(count):
            pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (24, 32, 3)), 0, 255)
            images.append(Image.fromarray(pixels.astype(np.uint8)))
            labels.append(name)
    return images, labels


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("painted")
    images, _ = painted()
    for index, image in enumerate(images):
        image.save(folder / f"{index}.png")
    return [folder / f"{index}.png" for index in range(len(images))]


def quick(kind: type = CoCoOp, **params: object) -> cocoop.PromptClassifier:
    return kind("toy", epochs=1, **params)


@pytest.mark.parametrize("kind", [CoCoOp, CoOp])
def test_fit_predict_score(kind: type) -> None:
    images, labels = painted()
    model = kind("tiny-clip", epochs=4, settings={"lr": 0.01, "batch_size": 2})
    assert model.fit(images, labels) is model
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.score(images, labels) == 1.0
    probabilities = model.predict_proba(images)
    assert probabilities.shape == (12, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (model.classes_[probabilities.argmax(1)] == model.predict(images)).all()
    assert model.info_.loss[-1] < model.info_.loss[0]
    assert model.info_.images == 12


def test_other_names() -> None:
    images, labels = painted()
    model = quick().fit(images, labels)
    names = ["a violin", "red", "a teapot", "green"]
    assert set(model.predict(images, names)) <= set(names)
    assert model.predict_proba(images[:2], names).shape == (2, 4)
    assert 0 <= model.score(images, labels, [*names, "blue"]) <= 1


def test_zero_shot_needs_no_fit() -> None:
    images, labels = painted(1)
    model = ZeroShot("toy")
    assert model.predict(images, classes=list(COLOURS)).shape == (3,)
    assert ZeroShot("toy").fit(images, labels).classes_.tolist() == ["blue", "green", "red"]


def test_all_kinds_of_images_are_the_same_image(paths: list[Path]) -> None:
    images, labels = painted()
    array = np.stack([np.asarray(image) for image in images])
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    model = quick().fit(paths, labels)
    expected = model.predict_proba([str(path) for path in paths])
    for same in (images, array, list(array), array / 255, tensor, tensor / 255.0, list(tensor)):
        np.testing.assert_allclose(model.predict_proba(same), expected, rtol=1e-4)
    assert model.predict(paths[0]).shape == (1,)
    assert model.predict(images[0]) == model.predict(str(paths[0]))


def test_the_conventions_of_scikit_learn(paths: list[Path]) -> None:
    _, labels = painted()
    model = quick(seed=3)
    assert is_classifier(model)
    copy = clone(model.fit(paths, labels))
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "classes_")
    assert copy.set_params(seed=4).seed == 4
    assert repr(copy) == "PromptClassifier(method='cocoop', backbone='toy', epochs=1, seed=4)"
    with pytest.raises(UsageError, match="Did you mean 'epochs'"):
        model.set_params(epoch=3)
    for images in ([str(path) for path in paths], painted()[0]):
        assert cross_val_score(copy, images, labels, cv=2, error_score="raise").shape == (2,)
    search = GridSearchCV(quick(CoOp), {"settings": [{"n_ctx": 2, "ctx_init": None}, None]}, cv=2)
    assert "settings" in search.fit(paths, labels).best_params_


@pytest.mark.parametrize("ask", [lambda m: m.predict(painted(1)[0]), lambda m: m.save("m"), check_is_fitted])
def test_an_unfitted_classifier_is_recognised(ask: Callable[[cocoop.PromptClassifier], object]) -> None:
    model = quick()
    with pytest.raises(NotFittedError, match="fit"):
        ask(model)
    check_is_fitted(model.fit(*painted(1)))
    with pytest.raises(NotFittedError, match="fit"):
        ask(clone(model))


def not_fitted() -> UsageError:
    with pytest.raises(UsageError, match="call fit") as error:
        quick().predict(painted(1)[0])
    return error.value


def test_the_error_survives_copies() -> None:
    error = not_fitted()
    for same in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert str(same) == str(error)
        for kind in (NotFittedError, UsageError, ValueError, AttributeError):
            assert isinstance(same, kind)


def test_scikit_learn_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(not_fitted())
    monkeypatch.delitem(sys.modules, "sklearn.exceptions")
    for error in (not_fitted(), pickle.loads(pickled)):
        assert isinstance(error, UsageError)
        assert not isinstance(error, NotFittedError)
    monkeypatch.undo()
    assert isinstance(not_fitted(), NotFittedError)


@pytest.mark.parametrize("kind", [CoCoOp, CoOp, ZeroShot, cocoop.PromptClassifier])
def test_the_embedded_backbone_is_warned_of_where_none_is_named(
    kind: type, monkeypatch: pytest.MonkeyPatch, toy: cocoop.Backbone
) -> None:
    monkeypatch.setattr("cocoop.estimator.estimator.shared_backbone", lambda *given: toy)  # quicker
    images, labels = painted(1)
    model = kind(epochs=None if kind is ZeroShot else 1)
    for unnamed in (model, clone(model)):
        assert unnamed.get_params()["backbone"] is None
        with pytest.warns(UserWarning, match="embedded tiny-photo is used.*ViT-B-16/openai") as seen:
            unnamed.fit(images, labels).predict(images)
        assert len(seen) == 1
    named = clone(model).set_params(backbone="tiny-clip")
    assert clone(named.fit(images, labels)).backbone == "tiny-clip"


def test_zero_shot_without_a_fit_is_warned_of_too(tmp_path: Path) -> None:
    images, _ = painted(1)
    model = ZeroShot()
    with pytest.warns(UserWarning, match="no backbone was named") as seen:
        model.predict(images, classes=list(COLOURS))
    assert len(seen) == 1
    model.save(tmp_path / "m")
    cocoop.load(tmp_path / "m").fit(images, list(COLOURS))  # the folder names it


def test_a_loaded_backbone_is_shared(toy: cocoop.Backbone) -> None:
    assert clone(CoCoOp(toy)).backbone is toy


def test_the_same_seed_gives_the_same_model(paths: list[Path]) -> None:
    _, labels = painted()
    first, second, other = (quick(seed=seed).fit(paths, labels).predict_proba(paths) for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x, y: m.fit(x, y[1:]), "12 images and 11 labels"),
        (lambda m, x, y: m.fit([], []), "0 images"),
        (lambda m, x, y: m.fit(x, np.arange(12)), "name of its class"),
        (lambda m, x, y: m.fit(x, y).predict(x, "red"), "give a list"),
        (lambda m, x, y: m.fit(x, y).predict(x, []), "at least one"),
        (lambda m, x, y: m.fit(x, y).predict(x, ["red", " "]), "empty name"),
        (lambda m, x, y: m.fit(x, y).score(x, y[:2]), "12 images and 2 labels"),
        (lambda m, x, y: to_image(3), "not int"),
        (lambda m, x, y: m.fit(np.zeros((32, 32, 3)), y), "four axes"),
        (lambda m, x, y: m.fit(np.zeros((12, 32, 32, 5)), y), "shape"),
        (lambda m, x, y: m.set_params(preset="cocop-paper").fit(x, y), "Did you mean 'cocoop-paper'"),
        (lambda m, x, y: m.set_params(settings={"epoch": 1}).fit(x, y), "Did you mean 'epochs'"),
        (lambda m, x, y: m.set_params(method="cocop").fit(x, y), "Did you mean 'cocoop'"),
        (
            lambda m, x, y: m.set_params(settings={"reduction": 0}).fit(x, y),
            "^cocoop.reduction=0: reduction must be at least 1, not 0$",
        ),
    ],
)
def test_wrong_calls(call: object, words: str) -> None:
    images, labels = painted()
    with pytest.raises(UsageError, match=words):
        call(quick(), images, labels)  # type: ignore[operator]


def test_vectors_of_classes_do_not_move_to_others() -> None:
    images, labels = painted(1)
    model = quick(CoOp, settings={"class_specific": True}).fit(images, labels)
    assert model.predict(images).shape == (3,)
    with pytest.raises(UsageError, match="each of its own classes"):
        model.predict(images, ["violin"])


@pytest.mark.parametrize(
    "pixels", [np.full((4, 4, 3), 2.0), np.full((4, 4), -1), np.full((4, 4), np.nan), np.zeros((0, 4, 3))]
)
def test_pixels_out_of_range(pixels: np.ndarray) -> None:
    with pytest.raises(CocoopError, match="from 0 to 255"):
        to_image(pixels)


def test_names_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_bytes(b"\xef\xbb\xbfred apple\r\n\r\n violin \nred apple\n")
    assert read_classes(tmp_path / "n.txt") == ("red apple", "violin")
    for content, words in ((b"\n \n", "holds no class names"), (b"\xff\xfe", "n.txt cannot be read")):
        (tmp_path / "n.txt").write_bytes(content)
        with pytest.raises(CocoopError, match=words):
            read_classes(tmp_path / "n.txt")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    for name in ("bad.png", "gone.png"):
        with pytest.raises(CocoopError, match=name):
            ZeroShot("toy").predict([tmp_path / name], classes=["a"])


MANY = [
    f"{size} {name}"
    for size in ("large", "small", "round", "old")
    for name in ("red", "green", "blue", "cat")
]


@pytest.mark.parametrize("testing", ["screened", "linear"])
def test_answers_that_are_not_computed_exactly(testing: str) -> None:
    images, labels = painted()
    model = CoCoOp("tiny-clip", epochs=2, settings={"lr": 0.01}, testing="exact").fit(images, labels)
    exact = model.predict_proba(images, MANY)
    assert {name: len(values) for name, values in model.info_.hidden.items()} == {"mean": 8, "std": 8}
    model.set_params(testing=testing)
    rough = model.predict_proba(images, MANY)
    assert 0 < np.abs(rough - exact).max() < 0.01
    assert (rough.argmax(1) == exact.argmax(1)).all()
    assert (model.predict(images, MANY) == np.array(MANY)[exact.argmax(1)]).all()


def test_many_images_are_screened(tmp_path: Path) -> None:
    images, labels = painted(1)
    model = quick().fit(images, labels)
    assert model.testing_mode(5, MANY) == "exact"
    assert model.testing_mode(10_000, MANY) == "screened"
    assert model.set_params(testing="exact").testing_mode(10_000, MANY) == "exact"
    model.save(tmp_path / "model")
    assert cocoop.load(tmp_path / "model", testing="linear").testing_mode(1, MANY) == "linear"
    with pytest.raises(UsageError, match=r"unknown testing mode 'linar'\. Did you mean 'linear'"):
        cocoop.load(tmp_path / "model", testing="linar")
