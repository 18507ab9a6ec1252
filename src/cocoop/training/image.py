"""From images to what a method compares with texts, where it learns inside the image tower."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cocoop.backbones.clip import Backbone
from cocoop.backbones.features import Encode, ImageEncoder
from cocoop.backbones.vision import VisionTower
from cocoop.data.dataset import Item
from cocoop.data.storage import Root
from cocoop.methods import Method
from cocoop.methods._hooks import WithImage, cut_of, views_of
from cocoop.text.memory import available_memory, resident_memory
from cocoop.text.pieces import compact

SHARE = 4  # of the budget's parts, one is for the image tower: texts need the rest


def above(
    method: WithImage, tower: VisionTower, state: Float[Tensor, "b *n w"], budget: int | None = None
) -> Float[Tensor, "b kd"]:
    """Return a method's features of what images are at its cut.

    Where the activations of all images do not fit, those of as many as do are computed at a time, and again
    in the backward pass; the gradients are the same.

    Args:
        method: that learns inside the tower.
        tower: the frozen image tower.
        state: of the images at the method's cut.
        budget: bytes; None for half of what the machine has free.
    """
    run = partial(method.image, tower=tower)
    if not torch.is_grad_enabled() or method.cut == "projection":
        return run(state)
    room = (budget or available_memory(state.device) // 2) // SHARE
    size = max(1, room // tower.bytes_of_one(method.cut))
    if size >= len(state):
        return run(state)
    piece = compact(run, resident_memory() + room)
    return torch.cat([checkpoint(piece, part, use_reentrant=False) for part in state.split(size)])


class LearnedTower(nn.Module):
    """An image tower with what a method has learned inside it, as a module from pixels to features.

    Args:
        backbone: the frozen CLIP.
        method: that learns inside.
    """

    def __init__(self, backbone: Backbone, method: WithImage) -> None:
        super().__init__()
        self.frozen, self.learned = backbone.image, method
        self._tower = backbone.vision

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b kd"]:
        """Return the features of images."""
        return self.learned.image(self._tower.below(pixels, self.learned.cut), self._tower)


def image_tower(backbone: Backbone, method: Method) -> nn.Module:
    """Return the image tower as a module, with what a method has learned inside it."""
    return LearnedTower(backbone, method) if isinstance(method, WithImage) else backbone.image


def encoder_of(backbone: Backbone, method: Method) -> Encode:
    """Return what makes features of pixels, on the CPU in fp32, with all that a method has learned."""
    if not isinstance(method, WithImage):
        return backbone.encode_image

    tower = LearnedTower(backbone, method)

    def encode(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b kd"]:
        with torch.no_grad():
            features: Tensor = tower(pixels.to(backbone.device, backbone.dtype))
        return features.float().cpu()

    return encode


def looks(
    images: ImageEncoder, method: Method, root: Root, items: Sequence[Item], seed: int
) -> Float[Tensor, "n v kd"]:
    """Encode all views by which a trained method looks at test images, with all that it has learned.

    What images are at the cut is kept where that is as small as their features.
    """
    views, cut = views_of(method), cut_of(method)
    if not isinstance(method, WithImage):
        return images.looks(root, items, views, seed)
    if cut != "projection":
        return replace(images, encode=encoder_of(images.backbone, method)).looks(root, items, views, seed)
    states = replace(images, cut=cut).looks(root, items, views, seed)
    with torch.no_grad():
        tower = images.backbone.vision
        return (
            method.image(states.flatten(0, 1).to(images.backbone.device), tower)
            .float()
            .cpu()
            .unflatten(0, states.shape[:2])
        )
