"""Random renderings of cached drawings, a whole batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges of the random rendering."""

    size: int = 48
    rotate: float = 12.0  # degrees either way
    zoom: tuple[float, float] = (0.84, 1.28)
    stretch: float = 0.1
    shift: float = 0.07
    light: float = 0.3
    plain_background: float = 0.7
    crops: float = 0.0  # share of drawings shown as a random crop, as few-shot training does
    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_flip: float = 0.3


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng) * (high - low) + low


def warp(images: Tensor, settings: AugmentSettings, rng: torch.Generator) -> Tensor:
    """Rotate, zoom, stretch and shift; premultiplied alpha keeps the edges clean."""
    n = len(images)
    angle = uniform((n,), -settings.rotate, settings.rotate, rng) * (math.pi / 180)
    zoom = uniform((n,), *settings.zoom, rng)
    stretch = 1 + uniform((n,), -settings.stretch, settings.stretch, rng)
    shift = uniform((n, 2, 1), -settings.shift, settings.shift, rng)
    cos, sin = torch.cos(angle), torch.sin(angle)
    across = torch.stack([cos * zoom * stretch, -sin * zoom], -1)
    down = torch.stack([sin * zoom * stretch, cos * zoom], -1)
    matrix = torch.stack([across, down], 1)
    theta = torch.cat([matrix, shift], -1)
    if settings.crops:
        cropped = torch.rand((n, 1, 1), generator=rng) < settings.crops
        theta = torch.where(cropped, crop_theta(n, settings, rng), theta)
    grid = F.affine_grid(theta, [n, 1, settings.size, settings.size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def crop_theta(n: int, settings: AugmentSettings, rng: torch.Generator) -> Tensor:
    """Random resized crops, some of them mirrored, as affine maps from output to input."""
    area = uniform((n,), *settings.crop_area, rng)
    low, high = (math.log(bound) for bound in settings.crop_ratio)
    ratio = torch.exp(uniform((n,), low, high, rng))
    half = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], -1).clamp(max=1)
    middle = uniform((n, 2), -1, 1, rng) * (1 - half)
    mirror = torch.where(torch.rand((n,), generator=rng) < settings.crop_flip, -1.0, 1.0)
    zero = torch.zeros(n)
    across = torch.stack([half[:, 0] * mirror, zero, middle[:, 0]], -1)
    down = torch.stack([zero, half[:, 1], middle[:, 1]], -1)
    return torch.stack([across, down], 1)


def edges(gray: Tensor) -> Tensor:
    """How much a gray picture changes at each pixel, 0..1."""
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return (across.abs() + down.abs()).mul(1.8).clamp(0, 1)


def to_ink(premultiplied: Tensor, modes: Tensor, rng: torch.Generator) -> Tensor:
    """Ink coverage of colour drawings in one ink; mode 0: dark parts, 1: outlines, 2: outlines left white."""
    rgb, alpha = premultiplied[:, :3], premultiplied[:, 3:]
    gray = (rgb * LUMA).sum(1, keepdim=True) + (1 - alpha)
    line = edges(gray)
    cut = uniform((len(rgb), 1, 1, 1), 0.45, 0.85, rng)
    dark = alpha * ((cut - gray) * 8 + 0.5).clamp(0, 1)
    dark = torch.maximum(dark, edges(alpha) * 0.9)
    mode = modes.view(-1, 1, 1, 1)
    return torch.where(mode == 0, dark, torch.where(mode == 1, line, (alpha - line).clamp(0, 1)))


def recolour(premultiplied: Tensor, settings: AugmentSettings, rng: torch.Generator) -> Tensor:
    """Jitter brightness, contrast, saturation and white balance, and shade across the drawing."""
    n = len(premultiplied)
    rgb, alpha = premultiplied[:, :3], premultiplied[:, 3:]
    gray = (rgb * LUMA).sum(1, keepdim=True)
    rgb = gray + (rgb - gray) * uniform((n, 1, 1, 1), 0.6, 1.35, rng)
    rgb = rgb * uniform((n, 3, 1, 1), 0.9, 1.1, rng) * uniform((n, 1, 1, 1), 1 - settings.light, 1.15, rng)
    middle = alpha * 0.5
    rgb = middle + (rgb - middle) * uniform((n, 1, 1, 1), 0.75, 1.25, rng)
    ramp = torch.linspace(-1, 1, rgb.shape[-1])
    slope = uniform((n, 2, 1, 1), -0.15, 0.15, rng)
    rgb = rgb * (1 + slope[:, :1] * ramp.view(1, 1, 1, -1) + slope[:, 1:] * ramp.view(1, 1, -1, 1))
    return torch.cat([torch.minimum(rgb.clamp(min=0), alpha), alpha], 1)


def backgrounds(n: int, settings: AugmentSettings, rng: torch.Generator) -> Tensor:
    """White paper, or now and then a light colour."""
    light = uniform((n, 3, 1, 1), 0.75, 1.0, rng)
    plain = torch.rand((n, 1, 1, 1), generator=rng) < settings.plain_background
    return torch.where(plain, torch.ones(()), light)


def compose_ink(ink: Tensor, tint: Tensor, paper: Tensor) -> Tensor:
    """RGB of one-ink drawings on paper."""
    return tint.view(-1, 3, 1, 1) * ink + paper * (1 - ink)


def compose_colour(premultiplied: Tensor, paper: Tensor) -> Tensor:
    """RGB of colour drawings on paper."""
    return premultiplied[:, :3] + paper * (1 - premultiplied[:, 3:])
