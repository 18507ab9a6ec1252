"""What is tokenised, and where the learned vectors stand; facts of the released code."""

import itertools

import pytest
import torch

from cocoop import Backbone
from cocoop.errors import UsageError
from cocoop.text.prompt import Prompt, context_template, init_context

SOT, EOT = 49406, 49407


def tokens(backbone: Backbone, prompt: Prompt, name: str) -> list[int]:
    return [slot.token for slot in prompt.slots(backbone.tokenize, [name])[0]]


def contexts(backbone: Backbone, prompt: Prompt, name: str) -> str:
    """Shape of a prompt: v for a learned vector, . for a fixed token."""
    return "".join("v" if slot.ctx >= 0 else "." for slot in prompt.slots(backbone.tokenize, [name])[0])


def test_the_papers_initial_words(toy: Backbone) -> None:
    assert toy.tokenize("a photo of a") == [SOT, 320, 1125, 539, 320, EOT]
    assert init_context(toy, "a photo of a", 99, 0).shape == (4, toy.width)


def test_the_first_words_are_replaced(toy: Backbone) -> None:
    whole = toy.tokenize("a photo of a cat.")
    assert tokens(toy, Prompt("a photo of a {}.", 4), "cat") == [SOT, -1, -1, -1, -1, *whole[5:]]
    assert tokens(toy, Prompt("a photo of a {}."), "cat") == whole


@pytest.mark.parametrize("name", ["kite (bird of prey)", "ram (adult male sheep)", "impala (antelope)"])
def test_the_last_piece_merges_with_the_full_stop(toy: Backbone, name: str) -> None:
    apart = toy.tokenize(f"a photo of a {name}")[:-1] + toy.tokenize(".")[1:]
    whole = toy.tokenize(f"a photo of a {name}.")
    assert len(whole) == len(apart) - 1
    assert tokens(toy, Prompt("a photo of a {}."), name) == whole


@pytest.mark.parametrize(
    ("position", "shape"), [("end", ".vvvv...."), ("middle", ".vv..vv.."), ("front", "...vvvv..")]
)
def test_positions(toy: Backbone, position: str, shape: str) -> None:
    prompt = Prompt("a photo of a {}.", 4, position)  # type: ignore[arg-type]
    assert contexts(toy, prompt, "red apple") == shape


def test_odd_contexts_put_the_smaller_half_first(toy: Backbone) -> None:
    prompt = Prompt(context_template(None, 5), 5, "middle")
    assert contexts(toy, prompt, "apple") == ".vv.vvv.."


def test_underscores_are_spaces_in_prompts_only(toy: Backbone) -> None:
    assert tokens(toy, Prompt("a {}."), "american_bulldog") == toy.tokenize("a american bulldog.")


def test_random_context(toy: Backbone) -> None:
    ctx = init_context(toy, None, 16, 3)
    assert ctx.shape == (16, toy.width)
    assert ctx.std().item() == pytest.approx(0.02, rel=0.1)
    assert (ctx == init_context(toy, None, 16, 3)).all()
    assert (ctx != init_context(toy, None, 16, 0)).any()
    assert len(tokens(toy, Prompt(context_template(None, 16), 16), "cat")) == 1 + 16 + 3
    with pytest.raises(UsageError, match="n_ctx"):
        init_context(toy, None, 0, 3)


def test_class_specific_slots_name_their_class(toy: Backbone) -> None:
    slots = Prompt("a {}.", 1, class_specific=True).slots(toy.tokenize, ["cat", "dog"])
    assert [prompt[1].cls for prompt in slots] == [0, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "empty"),
        (["cat", " _ "], "class 1 has an empty name"),
        (["very " * 40 + "long"], "very .*more than the 32"),
    ],
)
def test_bad_class_names(toy: Backbone, names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Prompt("a photo of a {}.").slots(toy.tokenize, names)


@pytest.mark.parametrize(
    "spelling", ["<end&#95;of&#95;text>", "＜start＿of＿text＞", "&lt;END&#95;of&#95;text>"]
)
def test_special_tokens_are_refused(toy: Backbone, spelling: str) -> None:
    with pytest.raises(UsageError, match="holds <end_of_text>, a special token of toy"):
        toy.tokenize("a photo of a cat<end_of_text>")
    with pytest.raises(UsageError, match="a special token of toy"):
        tokens(toy, Prompt("a {}."), f"{spelling} cat")


@pytest.mark.parametrize("name", ["<end_of_text> cat", "<|endoftext|> cat", "cat<|startoftext|>"])
def test_what_looks_like_a_special_token_in_a_name_is_plain_words(toy: Backbone, name: str) -> None:
    prompt = tokens(toy, Prompt("a {}."), name)
    assert (prompt.count(SOT), prompt.count(EOT)) == (1, 1)


ENDS = ["St", "St.", "(bird)", "U.S.", "what?!", "100%", "c++", "l'", "\u00e9", "a-b", "..."]
AROUND = ["", " ", "_", "__", " _ "]


def test_names_are_tokenised_as_in_the_released_code(toy: Backbone) -> None:
    for end, before, between, after in itertools.product(ENDS, AROUND, AROUND, AROUND):
        name = f"{before}mount{between}{end}{after}"
        words = name.replace("_", " ")
        prompt = ["a photo of a", words + "."]  # joined with a blank, as the released code joins them
        assert tokens(toy, Prompt("a photo of a {}."), name) == toy.tokenize(" ".join(prompt))
        length = len(toy.tokenize(words)) - 2
        assert contexts(toy, Prompt("a photo of a {}.", 4, "front"), name)[1:].find("v") == length
    assert tokens(toy, Prompt("a {}."), "St._") != tokens(toy, Prompt("a {}."), "St.")


def test_underscores_in_the_initial_words_are_blanks(toy: Backbone) -> None:
    for words in ("a_photo_of_a", "a_photo of_a", "_a_photo_of_a_"):
        assert torch.equal(init_context(toy, words, 16, 0), init_context(toy, "a photo of a", 16, 0))
        prompt = Prompt(context_template(words, 4), 4)
        assert prompt.slots(toy.tokenize, ["cat"]) == Prompt("a photo of a {}.", 4).slots(
            toy.tokenize, ["cat"]
        )
    with pytest.raises(UsageError, match="'_' holds no words"):
        init_context(toy, "_", 16, 0)
