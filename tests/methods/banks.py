"""Random raw features in fp64, for methods that are computed from some."""

from typing import Any

import torch

from cocoop import Backbone
from cocoop.methods._hooks import Bank
from cocoop.training.classifier import Classifier


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
