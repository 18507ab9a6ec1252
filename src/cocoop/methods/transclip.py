"""TransCLIP: all test images are answered at once, as Gaussians of classes (Zanella et al., NeurIPS 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text, Unlabelled
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt

SHARPNESS = 50.0  # what the likelihood, the neighbours and the shots are weighed by
NEIGHBOURS = 3
ROUNDS = 10  # of assignments, means and variances in turns
STEPS = 5  # of assignments in each
CONFIDENT = 8  # images of every class that its mean begins with
AT_ONCE = 2048  # images whose neighbours are looked for at a time

PAPER = Paper(
    title="Boosting Vision-Language Models with Transduction",
    authors="Zanella et al.",
    venue="NeurIPS 2024",
    date="2024-06",
    link="https://arxiv.org/abs/2406.01837",
    code="https://github.com/MaxZanella/transduction-for-vlms",
)


@dataclass(frozen=True)
class Shots:
    """Labelled images beside the test images.

    Attributes:
        zimg: L2-normalised features.
        assigned: 1 for the class of each.
        weight: γ, that of all of them.
        misplaced: whether they change places with the test images in the neighbourhood, as released.
    """

    zimg: Float[Tensor, "s d"]
    assigned: Float[Tensor, "s c"]
    weight: float = 0.0
    misplaced: bool = False


@dataclass(frozen=True)
class State:
    """Where a solution stands.

    Attributes:
        assigned: log probabilities of the test images.
        mean: of every class, of length 1.
        variance: of every channel, the same for all classes.
    """

    assigned: Float[Tensor, "n c"]
    mean: Float[Tensor, "c d"]
    variance: Float[Tensor, " d"]


def started(zimg: Float[Tensor, "n d"], prior: Float[Tensor, "n c"], shots: Shots) -> State:
    """Return where the search begins: at CLIP's probabilities, and means of shots or of the surest images."""
    if len(shots.zimg):
        mean = shots.assigned.T @ shots.zimg
    else:
        weights, places = prior.exp().topk(min(CONFIDENT, len(zimg)), dim=0)  # (k, c)
        mean = torch.einsum("kc,kcd->cd", _shares(weights), zimg[places])
    variance = zimg.new_full(zimg.shape[1:], 1 / zimg.shape[1])
    return State(prior, F.normalize(mean, dim=-1), variance)


def solved(
    state: State,
    zimg: Float[Tensor, "n d"],
    prior: Float[Tensor, "n c"],
    near: Tensor,
    shots: Shots,
    power: float,
) -> State:
    """Improve assignments, means and variances in turns.

    Args:
        state: where to begin.
        zimg: L2-normalised features of the test images.
        prior: CLIP's log probabilities.
        near: sparse (s + n, n), by `neighbourhood`.
        shots: labelled images, perhaps none.
        power: λ, of CLIP's probabilities.
    """
    for turn in range(ROUNDS + 1):
        likely = _likelihood(zimg, state)
        assigned = state.assigned
        for _ in range(STEPS):
            pull = _pull(near, assigned.exp(), shots)
            score = (likely + SHARPNESS / (2 * NEIGHBOURS) * pull) / SHARPNESS
            assigned = (power * prior + score).log_softmax(1)
        state = State(assigned, state.mean, state.variance)
        if turn < ROUNDS:
            state = _fitted(zimg, assigned, shots)
    return state


def neighbourhood(zimg: Float[Tensor, "n d"], shots: Float[Tensor, "s d"]) -> Tensor:
    """Return the affinity of shots and test images, in this order, to their nearest test images; sparse.

    The very nearest is left out, as released: for a test image that is itself.
    """
    count = min(NEIGHBOURS, len(zimg) - 1)
    values, columns = [], []
    for part in torch.cat([shots, zimg]).split(AT_ONCE):
        value, column = (part @ zimg.T).topk(count + 1)
        values.append(value[:, 1:])
        columns.append(column[:, 1:])
    near, column = torch.cat(values), torch.cat(columns)
    row = torch.arange(len(near), device=near.device)[:, None].expand_as(column)
    places, size = torch.stack([row.flatten(), column.flatten()]), (len(near), len(zimg))
    return torch.sparse_coo_tensor(places, near.flatten(), size, check_invariants=True)


def _pull(near: Tensor, assigned: Float[Tensor, "n c"], shots: Shots) -> Float[Tensor, "n c"]:
    """Return what the neighbours of every test image are assigned to, and those it is a neighbour of."""
    parts = [assigned, shots.assigned] if shots.misplaced else [shots.assigned, assigned]
    theirs, own = torch.sparse.mm(near.T, torch.cat(parts)), torch.sparse.mm(near, assigned)
    return theirs + (own[: len(assigned)] if shots.misplaced else own[len(shots.zimg) :])


def _likelihood(zimg: Float[Tensor, "n d"], state: State) -> Float[Tensor, "n c"]:
    """Return the Gaussians' log likelihood, without what is the same for all classes."""
    centre = zimg.mean(0)  # distances are the same around it, and more exact
    zimg, mean = zimg - centre, state.mean - centre
    precise = mean / state.variance
    squares = zimg.square() @ (1 / state.variance)
    return zimg @ precise.T - (squares[:, None] + (mean * precise).sum(1)) / 2


def _fitted(zimg: Float[Tensor, "n d"], assigned: Float[Tensor, "n c"], shots: Shots) -> State:
    """Return the means, then the variances around them, by the assignments of all images."""
    weights, features = assigned.exp() / len(zimg), zimg
    if len(shots.zimg):
        labelled = shots.assigned * (shots.weight * SHARPNESS / len(shots.zimg))
        weights, features = torch.cat([weights, labelled]), torch.cat([zimg, shots.zimg])
    mean = F.normalize(_shares(weights).T @ features, dim=-1)
    centre = zimg.mean(0)
    around, off, total = features - centre, mean - centre, weights.sum(0)
    spread = weights.sum(1) @ around.square() - 2 * (off * (weights.T @ around)).sum(0)
    variance = (spread + total @ off.square()) / total.sum()
    return State(assigned, mean, variance.clamp(min=torch.finfo(variance.dtype).eps))


def _shares(weights: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Return the weights of every class as shares of their sum."""
    return weights / weights.sum(0).clamp(min=torch.finfo(weights.dtype).tiny)


@dataclass(frozen=True)
class Config:
    """Settings of TransCLIP.

    Attributes:
        power: λ, of CLIP's probabilities in an assignment.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
    """

    power: float = 1.0
    templates: tuple[str, ...] = (DATASET,)

    def __post_init__(self) -> None:
        Templates(self.templates)
        if self.power < 0:
            raise UsageError(f"power must be at least 0, not {self.power}")


@METHODS.register("transclip")
class Model(nn.Module):
    """Assignments that agree with CLIP, with the classes' Gaussians and with an image's neighbours."""

    facts = Facts(
        name="TransCLIP",
        summary="answers all test images at once, by CLIP, by Gaussians of the classes and by neighbours",
        paper=PAPER,
        images=False,
        training="none",
        adapts_to="whole set",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "transclip-released": Preset(Config(), None, "the released code without shots"),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.power, self.width = cfg.power, backbone.width
        self.prompts = tuple(Prompt(text) for text in Templates(cfg.templates).texts(template))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def assign(self, images: Unlabelled) -> tuple[Float[Tensor, "n c"], dict[str, Any]]:
        """Return the log probabilities of the assignments; nothing is selected."""
        zimg = images.zimg[:, 0]
        prior = log_prior(images, self(zimg))
        none = Shots(zimg[:0], prior[:0])
        state = started(zimg, prior, none)
        return solved(state, zimg, prior, neighbourhood(zimg, none.zimg), none, self.power).assigned, {}


def log_prior(images: Unlabelled, contexts: Float[Tensor, "1 1 0 w"]) -> Float[Tensor, "n c"]:
    """Return CLIP's log probabilities of the test images."""
    ztxt = F.normalize(images.encode(contexts), dim=-1)[0]
    return (images.logit_scale * images.zimg[:, 0] @ ztxt.T).log_softmax(1)
