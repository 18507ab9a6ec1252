"""Text towers without a token tree: the features and gradients of encoding every prompt on its own."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cocoop import Backbone, UsageError
from cocoop.text import TextEncoder
from cocoop.text.padded import PaddedEncoder, bytes_of_one
from cocoop.text.prompt import Prompt
from tests.families import NAMES, PADDED
from tests.text.test_encoder import features_and_gradient

PROMPTS = [
    Prompt("a photo of a {}.", 4),
    Prompt("x x {}.", 2, "middle", class_specific=True, deeper=(1,), shared_blocks=1),
    Prompt("x x {}.", 2, "front", deeper=(1,)),
    Prompt("x red x {}.", 2, places=(0, 2)),
]


@pytest.fixture(autouse=True)
def softmax_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of transformers' attention rounds to fp32 whatever it is given; here it computes in fp64."""
    softmax = nn.functional.softmax
    monkeypatch.setattr(nn.functional, "softmax", lambda x, dim=-1, dtype=None: softmax(x, dim=dim))


class OneByOne:
    """Every prompt of every image alone, padded as the backbone was trained, with vectors put in by hand."""

    def __init__(self, backbone: Backbone, prompt: Prompt, names: list[str]) -> None:
        self.backbone, self.prompt = backbone, prompt
        self.slots = prompt.slots(backbone.tokenize, names)

    def __call__(self, contexts: torch.Tensor) -> torch.Tensor:
        rows = [[self._one(context, label) for label in range(len(self.slots))] for context in contexts]
        return nn.functional.normalize(torch.stack([torch.cat(row) for row in rows]), dim=-1)

    def _one(self, context: torch.Tensor, label: int) -> torch.Tensor:
        text, vocabulary = self.backbone.text, self.backbone.tokenize.vocabulary
        slots = self.slots[label]
        padding = [vocabulary.padding] * (self.backbone.context_length - len(slots))
        tokens = [self.backbone.tokenize.words("x")[0] if slot.ctx >= 0 else slot.token for slot in slots]
        at = len(padding) if vocabulary.left else 0
        whole = torch.tensor([[*padding, *tokens] if vocabulary.left else [*tokens, *padding]])
        first, *deeper = context.split(self.prompt.n_ctx, dim=1)
        first = first[label if len(first) > 1 and not self.prompt.shared_blocks else 0]
        table = text.embedding(whole)[0].unbind(0)
        rows = [
            first[slots[place - at].ctx]
            if 0 <= place - at < len(slots) and slots[place - at].ctx >= 0
            else row
            for place, row in enumerate(table)
        ]
        handles = []
        for block, vectors in zip(self.prompt.deeper, deeper, strict=True):
            own = vectors[label if len(vectors) > 1 and block >= self.prompt.shared_blocks else 0]

            def put(module: nn.Module, args: tuple, kwargs: dict, own: torch.Tensor = own) -> tuple:
                states = args[0] if args else kwargs["hidden_states"]
                states = states.clone()
                for place, slot in enumerate(slots):
                    if slot.ctx >= 0:
                        states[0, at + place] = own[slot.ctx]
                return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

            handles.append(text.blocks[block].register_forward_pre_hook(put, with_kwargs=True))
        own_forward = text.embedding.forward
        text.embedding.forward = lambda tokens: torch.stack(rows)[None]
        try:
            return text.encode(whole)
        finally:
            text.embedding.forward = own_forward
            for handle in handles:
                handle.remove()


@pytest.mark.parametrize(
    ("name", "number"),
    [*((name, number) for name in sorted(PADDED) for number in (0, 1)), ("AlignModel", 2), ("AlignModel", 3)],
)
def test_equal_to_prompts_one_by_one(model: Callable[[str], Backbone], name: str, number: int) -> None:
    backbone, prompt = model(name), PROMPTS[number]
    names = NAMES[1:4]
    classes = len(names) if prompt.class_specific else 1
    contexts = torch.randn(2, classes, prompt.n_ctx * (1 + len(prompt.deeper)), backbone.width).double()
    theirs = features_and_gradient(OneByOne(backbone, prompt, names), contexts)
    whole = TextEncoder(backbone, [prompt], names)
    (encoder,) = whole._encoders
    assert isinstance(encoder, PaddedEncoder)
    least = encoder.bytes_of_longest(True)
    for each in (whole, TextEncoder(backbone, [prompt], names, memory_budget=2 * least)):
        for mine, reference in zip(features_and_gradient(each, contexts), theirs, strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-11)


def test_small_budgets_cut_the_work(model: Callable[[str], Backbone]) -> None:
    backbone = model("AlignModel")
    contexts = torch.randn(3, 1, 4, backbone.width).double().requires_grad_()
    encoder = TextEncoder(backbone, [PROMPTS[0]], NAMES)._encoders[0]
    assert isinstance(encoder, PaddedEncoder)
    assert not encoder.chunking(3, True).recompute
    least = encoder.bytes_of_longest(True)
    for budget, cut in ((2 * least, True), (100 * least, False)):
        small = TextEncoder(backbone, [PROMPTS[0]], NAMES, memory_budget=budget)._encoders[0]
        assert isinstance(small, PaddedEncoder)
        assert small.chunking(3, True).recompute is cut
    with pytest.raises(UsageError, match=r"too small: one class needs \d+"):
        TextEncoder(backbone, [PROMPTS[0]], NAMES, memory_budget=100)(contexts)


def test_what_a_backward_pass_keeps_is_measured(model: Callable[[str], Backbone]) -> None:
    text = model("SiglipModel").text

    def run(rows: int) -> Callable[[], torch.Tensor]:
        vectors = torch.randn(rows, 8).double().requires_grad_()
        return lambda: (vectors.exp() * vectors).tanh()

    kept, at_work = (bytes_of_one(text, run(1000), grad) for grad in (True, False))
    assert kept - at_work == 2 * 3 * 8000 * 8  # both factors of the product, and the tanh
    assert bytes_of_one(text, run(2000), True) == pytest.approx(2 * kept, rel=0.01)


def test_prompts_are_padded_to_the_longest_alone_where_the_padding_is_masked(
    model: Callable[[str], Backbone],
) -> None:
    lengths: dict[str, set[int]] = {}
    for name in ("AlignModel", "SiglipModel"):
        backbone = model(name)
        seen = lengths.setdefault(name, set())
        handle = backbone.text.embedding.register_forward_hook(
            lambda module, args, out, seen=seen: seen.add(out.shape[1])
        )
        TextEncoder(backbone, [PROMPTS[0]], ["dog", "a"])(torch.randn(1, 1, 4, backbone.width).double())
        handle.remove()
    assert lengths == {"AlignModel": {8}, "SiglipModel": {16}}


def test_a_batch_has_prompts_of_about_one_length() -> None:
    from cocoop.text.padded import alike
    from cocoop.text.prompt import Slot

    prompts = [(Slot(1),) * length for length in (4, 5, 5, 6, 7, 8, 20)]
    assert [[len(each) for each in group] for group in alike(prompts)] == [[4, 5, 5], [6, 7], [8], [20]]


def test_some_classes_of_each_image(model: Callable[[str], Backbone]) -> None:
    backbone = model("AlignModel")
    encoder = TextEncoder(backbone, [PROMPTS[0]], NAMES)
    contexts, classes = torch.randn(3, 1, 4, backbone.width).double(), torch.tensor([[0, 3], [5, 1], [2, 2]])
    whole = encoder(contexts)
    few = torch.stack([row[labels] for row, labels in zip(whole, classes, strict=True)])
    torch.testing.assert_close(encoder.some(contexts, classes), few, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(encoder.among([4, 1])(contexts), whole[:, [4, 1]], rtol=1e-9, atol=1e-11)
    assert encoder.images_at_once(3) == 3


def test_equal_names_are_encoded_once(model: Callable[[str], Backbone]) -> None:
    backbone = model("AlignModel")
    contexts = torch.randn(2, 1, 4, backbone.width).double()
    features = TextEncoder(backbone, [PROMPTS[0]], ["dog", "car", "dog"])(contexts)
    assert torch.equal(features[:, 0], features[:, 2])
    assert not torch.allclose(features[:, 0], features[:, 1])


def test_threads_share_a_tower_and_not_their_vectors(model: Callable[[str], Backbone]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    backbone = model("AlignModel")
    encoder = TextEncoder(backbone, [PROMPTS[0]], NAMES)
    each = [torch.randn(1, 1, 4, backbone.width).double() for _ in range(8)]
    alone = [encoder(contexts) for contexts in each]
    with ThreadPoolExecutor(4) as pool:
        for mine, reference in zip(pool.map(encoder, each * 4), alone * 4, strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-11)


def test_names_that_a_tokenizer_does_not_know(model: Callable[[str], Backbone]) -> None:
    backbone = model("ChineseCLIPModel")
    for name, message in {
        "\u0416\u0416": "knows nothing of the class name '\u0416\u0416'.*multilingual backbone",
        "[SEP]": "a special token of",
        "dog " * 30: "more than the 24 of",
    }.items():
        with pytest.raises(UsageError, match=message):
            TextEncoder(backbone, [PROMPTS[0]], ["dog", name])
    with pytest.raises(UsageError, match=r"empty name.*makes nothing of '!!!'"):
        TextEncoder(model("open_clip SigLIP"), [PROMPTS[0]], ["dog", "!!!"])
