"""The tower that methods are held to their formulas on."""

import pytest

from cocoop import Backbone
from tests.conftest import make_tower
from tests.methods.banks import SCALE


@pytest.fixture(scope="module")
def deep() -> Backbone:
    clip = make_tower("clip-gelu-deep")
    clip.logit_scale = SCALE
    return clip
