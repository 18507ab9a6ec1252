"""What a demo of all methods runs, and what it leaves out, in words."""

import pytest

from cocoop.experiments.demo import choose
from cocoop.methods import facts_of, presets_of


@pytest.mark.parametrize("backbone", ["tiny-clip", "toy"])
def test_methods_inside_image_towers_need_a_vision_transformer(backbone: str) -> None:
    chosen = choose(["all"], "few-shot", full=False, backbone=backbone)
    inside = [name for name in chosen.methods if facts_of(name).cut != "feature"]
    if backbone == "toy":
        assert {"maple", "prolip"} <= set(inside)
        assert not chosen.left_out
    else:
        assert not inside
        (said,) = chosen.left_out
        assert said.startswith("nothing can be learned inside the image tower of tiny-clip")
        assert "maple" in said


def test_quick_presets_are_taken_where_there_are_some() -> None:
    chosen = choose(["coop", "maple"], "base-to-new", full=False)
    assert chosen.methods == ("coop", "maple")
    assert chosen.presets == ("coop-quick", "maple-quick")
    assert all(preset in presets_of(preset.removesuffix("-quick")) for preset in chosen.presets)
    assert choose(["coop"], "base-to-new", full=True).presets == ()
