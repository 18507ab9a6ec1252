"""Random images, features and banks, for methods of every kind."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.methods import build
from cocoop.methods._hooks import Bank, cut_of, step_views_of
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier, evaluating

NAMES = ["red apple", "green tea", "dog", "dog house"]
TEMPLATE = "a type of pet, a photo of a {}."
LABELS = torch.tensor([0, 3, 1, 2, 3])
SCALE = 100.0  # as in the released weights


def built(name: str, clip: Backbone, seed: int = 0, **settings: Any) -> Any:
    """A method over the names above, untrained, in fp64."""
    cfg = resolve(name, None, settings).config
    method: Any = build(name, cfg, clip, template=TEMPLATE, n_classes=len(NAMES), seed=seed)
    return method.double()


def states(method: Any, clip: Backbone, count: int = 5) -> Tensor:
    """What a step has of images: unit features, but where the method learns inside the image tower."""
    generator = torch.Generator().manual_seed(1)
    if (cut := cut_of(method)) == "feature":
        return F.normalize(torch.randn(count, clip.embed_dim, generator=generator).to(clip.dtype), dim=1)
    views = step_views_of(method)
    pixels = torch.randn(count * views, 3, *clip.preprocess.edges, generator=generator)
    seen = clip.encode_image(pixels, cut)
    return seen if views == 1 else seen.unflatten(0, (count, views))


def features(classifier: Classifier, state: Tensor) -> Tensor:
    """What a trained method makes of images at its cut, to predict from."""
    with torch.no_grad(), evaluating(classifier.method):
        return classifier.see(state)


def bank(clip: Backbone, method: Any, names: list[str], *, views: int = 2, validation: int = 5) -> Bank:
    """Of two images of the first class and one of every other."""
    generator = torch.Generator().manual_seed(5)
    classifier, classes = Classifier(clip, method, names), len(names)
    labels = torch.cat([torch.arange(classes), torch.zeros(1, dtype=torch.long)])
    drawn = torch.randn(views * len(labels) + validation, clip.embed_dim, generator=generator).double() * 3
    fimg, fval = drawn.split([views * len(labels), validation])
    return Bank(
        fimg=fimg.view(views, len(labels), -1),
        labels=labels,
        fval=fval,
        val_labels=torch.randint(classes, (validation,), generator=generator),
        logit_scale=clip.logit_scale,
        text=classifier.text,
        sentences=classifier.sentences,
        seed=3,
    )
