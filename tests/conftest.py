"""Small towers for every test, and a feature cache of the test run's own."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

if "COCOOP_TEST_GPU" not in os.environ:  # `make test-gpu` sets it; all else compares bits, which a CPU keeps
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"  # "auto" asks no network, and finds no weights of the person who tests
os.environ["HF_HUB_CACHE"] = os.devnull + "/none"
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; their threads would wait
    os.environ["OMP_NUM_THREADS"] = "1"

import open_clip
import pytest
import torch

from cocoop import Backbone, load_backbone
from cocoop.backbones.families.open_clip import parts
from cocoop.utils.seeding import seeded

VISION = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
VISION_VIT = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}

# every kind of tower that the token tree must be exact for
TOWERS = {
    "clip-quickgelu": (open_clip.CLIP, VISION, TEXT, True),
    "clip-gelu-deep": (open_clip.CLIP, VISION_VIT | {"layers": 3}, TEXT | {"layers": 4, "heads": 4}, False),
    "clip-one-block": (open_clip.CLIP, VISION, TEXT | {"layers": 1}, True),
    "custom-text": (open_clip.CustomTextCLIP, VISION_VIT, TEXT, True),
    "layer-scale": (open_clip.CustomTextCLIP, VISION, TEXT | {"ls_init_value": 0.3}, False),
    "eos-pool": (open_clip.CLIP, VISION, TEXT | {"pool_type": "eos", "eos_id": 49407}, True),
    "projection-bias": (open_clip.CustomTextCLIP, VISION, TEXT | {"proj_bias": True}, True),
}


def make_tower(name: str, dtype: torch.dtype = torch.float64) -> Backbone:
    kind, vision, text, quick_gelu = TOWERS[name]
    with seeded(7):
        model = kind(16, vision, text, quick_gelu=quick_gelu)
        for parameter in model.parameters():  # the usual initialisation leaves attention nearly uniform
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return Backbone(name, parts(model.to(dtype)))


@pytest.fixture(scope="session")
def tower() -> Callable[[str], Backbone]:
    made: dict[str, Backbone] = {}
    return lambda name: made.setdefault(name, make_tower(name))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    """A tiny model of a family, in fp64."""
    from tests.families import saved

    made: dict[str, Backbone] = {}

    def load(name: str) -> Backbone:
        if name not in made:
            backbone = load_backbone(saved(name, tmp_path_factory.mktemp("family") / "m"), "cpu", "fp32")
            backbone.model.double()
            made[name] = backbone
        return made[name]

    return load


@pytest.fixture(scope="session")
def toy() -> Backbone:
    return load_backbone("toy")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts this process and those it starts, also in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("COCOOP_CACHE", str(folder))
    monkeypatch.delenv("COCOOP_DEBUG", raising=False)
    return folder
