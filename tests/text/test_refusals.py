"""Hostile class names and templates: refused with the reason, or tokenised."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cocoop import Backbone, UsageError
from cocoop.text.prompt import Prompt
from tests.refusals import ACTIVE, FUZZ, refusal


@pytest.mark.parametrize("name", [ACTIVE, "a\0b", "\ud800", "\udce9t\udce9", "\x9b"])
def test_control_characters_are_no_class_names(toy: Backbone, name: str) -> None:
    with pytest.raises(UsageError, match="holds characters that are no text"):
        Prompt("a {}.").slots(toy.tokenize, ["cat", name])


def test_names_that_say_nothing_are_empty(toy: Backbone) -> None:
    for name in ("\ufeff", "\u00ad"):
        if toy.tokenize(name)[1:-1]:
            continue
        with pytest.raises(UsageError, match="empty name"):
            Prompt("a {}.").slots(toy.tokenize, [name])


def test_the_tokenizer_is_spared_what_no_prompt_holds(toy: Backbone) -> None:
    with pytest.raises(UsageError, match=r"\(1,000,000 characters\) is longer than toy reads"):
        toy.tokenize("a" * 1_000_000)
    with pytest.raises(UsageError, match="not valid Unicode"):
        toy.tokenize("\ud800")


@pytest.mark.parametrize("template", ["", "a photo", "{} {}", "{0.__class__}", "{:>999999999}"])
def test_a_template_is_no_format_string(template: str) -> None:
    with pytest.raises(UsageError, match=r"needs \{\} once"):
        Prompt(template)
    assert Prompt("{0.__class__} {}").fill("{} {x}") == "{0.__class__} {} {x}"


@pytest.mark.parametrize("deeper", [(0,), (2, 1), (1, 1)])
def test_blocks_of_deeper_vectors_are_in_order(deeper: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="in order, from 1 on"):
        Prompt("a {}.", 1, deeper=deeper)


def test_only_class_specific_vectors_have_blocks_that_classes_share() -> None:
    with pytest.raises(UsageError, match="shared_blocks is for class-specific vectors"):
        Prompt("a {}.", 1, deeper=(2,), shared_blocks=2)


@FUZZ
@given(st.text(st.characters(codec=None), max_size=60))
@example("&lt;end_of_text&gt;")
@example("a\u0301" * 90)
def test_any_name_is_tokenised_or_refused(toy: Backbone, name: str) -> None:
    prompt = Prompt("a photo of a {}.", 4)
    if refusal(lambda: prompt.slots(toy.tokenize, [name]), UsageError):
        return
    tokens = [slot.token for slot in prompt.slots(toy.tokenize, [name])[0]]
    assert len(tokens) <= toy.context_length
    assert tokens.count(49406) == tokens.count(49407) == 1
