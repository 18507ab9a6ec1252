"""Every method as a classifier of one's own: fitted, saved, loaded, asked for other names, exported."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import cocoop
from cocoop import Backbone, PromptClassifier, UsageError
from cocoop.deploy.onnx.graph import to_onnx
from cocoop.methods import METHODS, ordered
from tests.described import described
from tests.estimator.test_estimator import painted

IMAGES, LABELS = painted(3)
NAMES = sorted(set(LABELS))
EVERY = ordered()
WITH_LOGITS = [name for name in EVERY if hasattr(METHODS.get(name), "logits")]


def fitted(name: str, clip: Backbone) -> PromptClassifier:
    kind = METHODS.get(name)
    preset = next((each for each in kind.presets if each.endswith("-quick")), next(iter(kind.presets)))
    recipe = kind.presets[preset].recipe
    short = {("steps" if recipe.steps else "epochs"): 2} if recipe and recipe.learns else {}
    config = described(kind.presets[preset].config, [*NAMES, "violin"])
    sentences = {"sentences": config.sentences} if hasattr(config, "sentences") else {}
    return PromptClassifier(name, clip, preset=preset, settings=sentences | short).fit(IMAGES, LABELS)


@pytest.mark.parametrize("name", EVERY)
def test_it_is_a_classifier(name: str, toy: Backbone, tmp_path: Path) -> None:
    model = fitted(name, toy)
    probabilities = model.predict_proba(IMAGES)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    model.save(tmp_path / "m")
    again = cocoop.load(tmp_path / "m", toy)
    np.testing.assert_array_equal(again.predict_proba(IMAGES), probabilities)
    np.testing.assert_allclose(
        again.predict_proba(IMAGES, NAMES[::-1])[:, ::-1], probabilities, rtol=1e-3, atol=1e-5
    )
    if METHODS.get(name).facts.bound:
        assert again.predict_proba(IMAGES, NAMES[:2]).shape == (len(IMAGES), 2)
        with pytest.raises(UsageError, match="others have none: 'violin'"):
            again.predict(IMAGES, [*NAMES, "violin"])
    else:
        assert again.predict_proba(IMAGES, [*NAMES, "violin"]).shape == (len(IMAGES), 4)


@pytest.mark.parametrize("name", WITH_LOGITS)
def test_logits_of_its_own_are_exported(name: str, toy: Backbone) -> None:
    model = fitted(name, toy)
    views = torch.stack([toy.preprocess.test(image) for image in IMAGES[:2]]).numpy()
    session = onnxruntime.InferenceSession(to_onnx(toy, model.classifier()))
    [ours] = session.run(None, {"images": views})
    np.testing.assert_allclose(ours, model.predict_proba(IMAGES[:2]), atol=1e-5)


def test_an_ablation_is_not_exported(toy: Backbone) -> None:
    name = next(name for name in EVERY if METHODS.get(name).facts.ablation)
    model = fitted(name, toy)
    with pytest.raises(UsageError, match="export that instead"):
        to_onnx(toy, model.classifier())


def test_validation_images_are_encoded_for_methods_that_select_alone(toy: Backbone) -> None:
    features = PromptClassifier("zeroshot", toy).features(IMAGES)
    asked: list[str] = []

    def validation(label: str) -> tuple[torch.Tensor, list[str]]:
        asked.append(label)
        return features[:1], [label]

    for name, times in (("coop", 0), ("tip-adapter", 1)):
        model = PromptClassifier(name, toy, epochs=1 if name == "coop" else None)
        model.fit_features(lambda epoch: features, LABELS, validation=lambda: validation(NAMES[0]))
        assert len(asked) == times
    with pytest.raises(UsageError, match="classes without training images: 'violin'"):
        model.fit_features(lambda epoch: features, LABELS, validation=lambda: validation("violin"))
