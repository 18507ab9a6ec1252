"""TDA: two caches of the test images seen so far correct CLIP's logits (Karmanov et al., CVPR 2024)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.data.views import ImageViews
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._confidence import entropy_of_mean, picked, surest
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text, Unlabelled
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt

CONFIDENT = 0.1  # share of the views, those of lowest entropy, that stand for an image


@dataclass(frozen=True)
class Config:
    """Settings of TDA.

    Attributes:
        alpha: weight of the positive cache.
        beta: its sharpness.
        shots: images of a class in the positive cache, those of lowest entropy.
        negative_alpha: weight of the negative cache.
        negative_beta: its sharpness.
        negative_shots: images of a class in the negative cache.
        unsure: lowest and highest entropy, in nats over log2 of the number of classes as released, of an
            image in the negative cache.
        unlikely: lowest and highest probability of a class that the negative cache speaks against.
        looks: views of a test image; of several, a tenth stands for the image.
        augmix: whether AugMix is applied to the random ones.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
    """

    alpha: float = 2.0
    beta: float = 5.0
    shots: int = 3
    negative_alpha: float = 0.117
    negative_beta: float = 1.0
    negative_shots: int = 2
    unsure: tuple[float, float] = (0.2, 0.5)
    unlikely: tuple[float, float] = (0.03, 1.0)
    looks: int = 1
    augmix: bool = True
    templates: tuple[str, ...] = (DATASET,)

    def __post_init__(self) -> None:
        ImageViews(self.looks)
        Templates(self.templates)
        if min(self.shots, self.negative_shots) < 0:
            raise UsageError("shots and negative_shots must be at least 0")


SEVEN = ("select7",)
EIGHTY = ("imagenet80",)
BY_DATASET: Mapping[str, Mapping[str, object]] = {
    "caltech101": {"alpha": 5.0, "beta": 5.0},
    "dtd": {"alpha": 2.0, "beta": 3.0},
    "eurosat": {"alpha": 4.0, "beta": 8.0},
    "fgvc_aircraft": {"alpha": 2.0, "beta": 2.0},
    "food101": {"alpha": 1.0, "beta": 1.0},
    "oxford_flowers": {"alpha": 1.0, "beta": 5.0},
    "oxford_pets": {"alpha": 2.0, "beta": 7.0},
    "stanford_cars": {"alpha": 1.0, "beta": 7.0},
    "sun397": {"alpha": 2.0, "beta": 3.0},
    "ucf101": {"alpha": 3.0, "beta": 8.0},
    "imagenet": {"alpha": 2.0, "beta": 5.0, "templates": SEVEN},
    "imagenet_a": {"alpha": 2.0, "beta": 5.0, "templates": SEVEN, "looks": 64},
    "imagenetv2": {"alpha": 1.0, "beta": 8.0, "templates": SEVEN, "looks": 64},
    "imagenet_r": {"alpha": 1.0, "beta": 8.0, "templates": EIGHTY, "looks": 64},
    "imagenet_sketch": {"alpha": 2.363, "beta": 7.45, "templates": EIGHTY, "looks": 64},
}


class Cache:
    """The images of every predicted class of which CLIP was surest, and what each says of all classes.

    Args:
        classes: how many there are.
        size: images of a class, at most.
        like: a feature, for width, dtype and device.
    """

    def __init__(self, classes: int, size: int, like: Float[Tensor, " d"]) -> None:
        self.keys = like.new_zeros(classes, size, len(like))
        self.says = like.new_zeros(classes, size, classes)
        self.loss = like.new_full((classes, size), math.inf)  # no image yet

    def add(
        self, label: int, key: Float[Tensor, " d"], loss: Float[Tensor, ""], says: Float[Tensor, " c"]
    ) -> None:
        """Take an image up, in place of the least sure of its class where that is less sure."""
        losses = self.loss[label]
        if not len(losses) or not loss < losses[-1]:
            return
        losses[-1], self.keys[label, -1], self.says[label, -1] = loss, key, says
        order = losses.argsort(stable=True)
        for kept in (losses, self.keys[label], self.says[label]):
            kept.copy_(kept[order])

    def evidence(self, zimg: Float[Tensor, " d"], beta: float) -> Float[Tensor, " c"]:
        """Return what the images say, by exp(-beta (1 - cosine))."""
        near = (beta * (self.keys.flatten(0, 1) @ zimg - 1)).exp() * self.loss.flatten().isfinite()
        return near @ self.says.flatten(0, 1)


@METHODS.register("tda")
class Model(nn.Module):
    """A positive cache says what an image is, a negative one what it is not."""

    facts = Facts(
        name="TDA",
        summary="corrects CLIP's answers by caches of the test images that came before",
        paper=Paper(
            title="Efficient Test-Time Adaptation of Vision-Language Models",
            authors="Karmanov et al.",
            venue="CVPR 2024",
            date="2024-03",
            link="https://arxiv.org/abs/2403.18293",
            code="https://github.com/kdiAAA/TDA",
        ),
        images=False,
        training="none",
        draws=True,
        adapts_to="stream",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "tda-released": Preset(
            Config(), None, "the released configurations; elsewhere that of ImageNet", BY_DATASET
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg, self.width = cfg, backbone.width
        self.image_views = ImageViews(cfg.looks, cfg.augmix)
        self.prompts = tuple(Prompt(text) for text in Templates(cfg.templates).texts(template))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def observe(self, images: Unlabelled) -> Float[Tensor, "n c"]:
        """Return the logits of a stream: an image enters the caches before it is answered, as released."""
        cfg, ztxt = self.cfg, F.normalize(images.encode(self(images.zimg[:, 0])), dim=-1)[0]
        logits = images.logit_scale * images.zimg @ ztxt.T  # (n, v, c)
        views = surest(logits, CONFIDENT)
        zimg, logits = (picked(each, views) for each in (images.zimg, logits))
        losses, chances = entropy_of_mean(logits), logits.softmax(-1).mean(1)
        zimg, logits = zimg.mean(1), logits.mean(1)
        labels = logits.argmax(1).tolist()
        classes = len(ztxt)
        share = losses / math.log2(max(2, classes))
        unsure = ((cfg.unsure[0] < share) & (share < cfg.unsure[1])).tolist()
        against = ((cfg.unlikely[0] < chances) & (chances < cfg.unlikely[1])).to(zimg)
        positive = Cache(classes, cfg.shots, zimg[0])
        negative = Cache(classes, cfg.negative_shots, zimg[0])
        itself = torch.eye(classes).to(zimg)
        answers = []
        for place, label in enumerate(labels):
            key, loss = zimg[place], losses[place]
            positive.add(label, key, loss, itself[label])
            if unsure[place]:
                negative.add(label, key, loss, against[place])
            found = cfg.alpha * positive.evidence(key, cfg.beta)
            answers.append(found - cfg.negative_alpha * negative.evidence(key, cfg.negative_beta))
        return logits + torch.stack(answers)
