"""What `cocoop demo` compares: methods by name or all that a protocol can test, by quick presets."""

from collections.abc import Sequence
from dataclasses import dataclass

from cocoop.backbones.clip import load_backbone
from cocoop.backbones.names import EMBEDDED
from cocoop.errors import UsageError
from cocoop.experiments.protocols import PAPER_METHODS, PROTOCOLS
from cocoop.methods import facts_of, ordered, presets_of

EVERY = "all"
QUICK = "-quick"  # ends the name of a preset with fewer steps than its source takes


@dataclass(frozen=True)
class Chosen:
    """What a demo runs.

    Attributes:
        methods: registered names.
        presets: of methods whose default takes too long for a demo.
        left_out: in sentences, what was asked for and cannot be.
    """

    methods: tuple[str, ...]
    presets: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def choose(methods: Sequence[str] | None, protocol: str, full: bool, backbone: str = EMBEDDED) -> Chosen:
    """Choose methods and presets.

    Args:
        methods: registered names, or "all"; None for those of the paper.
        protocol: registered name.
        full: whether presets are the methods' own, for however long they take.
        backbone: name for `load_backbone`; some methods learn inside a vision transformer alone.

    Raises:
        UsageError: there is no such method or protocol.
    """
    new_names = PROTOCOLS.get(protocol).new_names
    names = tuple(methods or PAPER_METHODS)
    left_out: tuple[str, ...] = ()
    if names == (EVERY,):
        known = [name for name in ordered() if not facts_of(name).ablation]
        names = tuple(name for name in known if not (new_names and facts_of(name).bound))
        if others := [name for name in known if name not in names]:
            left_out = (f"{protocol} tests on names that were not trained on; without: {', '.join(others)}",)
        if reason := _closed(backbone):
            inside = [name for name in names if facts_of(name).cut != "feature"]
            names = tuple(name for name in names if name not in inside)
            left_out += (f"{reason}; without: {', '.join(inside)}",)
    presets = [name for each in names for name in presets_of(each) if name.endswith(QUICK)]
    return Chosen(names, () if full else tuple(presets), left_out)


def _closed(backbone: str) -> str:
    """Return why nothing can be learned inside the image tower of a backbone; empty where it can."""
    try:
        load_backbone(backbone, "cpu").vision  # noqa: B018
    except UsageError as error:
        return str(error)
    return ""
