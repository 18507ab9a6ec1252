"""Two models of one architecture, and the weights between them (WiSE-FT, Wortsman et al. 2022, section 3)."""

import re

import torch

from cocoop.backbones.family import Parts, find
from cocoop.backbones.state import difference
from cocoop.errors import CocoopError, UsageError

_MIXED = re.compile(r"(?P<first>.+)\+(?P<share>[-+.\deE]+)\*(?P<second>[^*]+)")


def load_parts(name: str) -> Parts:
    """Load a model, or one between two: "A+0.5*B" has the weights 0.5 A + 0.5 B.

    Raises:
        UsageError: no such model, or a share outside 0 to 1.
        CocoopError: the weights cannot be had, or the two are not of one architecture.
    """
    if not (mixed := _MIXED.fullmatch(name)):
        return find(name).load()
    first, second = mixed["first"], mixed["second"]
    try:
        share = float(mixed["share"])
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{name}: the share of {second} is from 0 to 1, not {mixed['share']}")
    sources = [find(each) for each in (first, second)]  # both are looked at before weights are fetched
    one, other = (source.load() for source in sources)
    problem = difference(one.model.state_dict(), other.model.state_dict())
    if not problem and one.preprocess != other.preprocess:
        problem = "they expect other pixels"
    if problem or type(one.model) is not type(other.model):
        raise CocoopError(f"{first} and {second} cannot be interpolated: {problem or 'two kinds of model'}")
    with torch.no_grad():
        theirs = other.model.state_dict()
        for key, value in one.model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[key].to(value), share)
    return one
