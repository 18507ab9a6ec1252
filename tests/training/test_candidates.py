"""Steps over a sample of the classes: the correction by hand and in expectation, the draw, the refusals."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import cocoop
from cocoop import Backbone, Classifier, UsageError
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.methods import METHODS
from cocoop.methods._recipe import Recipe
from cocoop.methods.coop import Config as CoOpConfig
from cocoop.report.tables.notes import notes
from cocoop.text import tree
from cocoop.text.reference import ReferenceEncoder
from cocoop.training import candidates as module
from cocoop.training import loop
from cocoop.training.candidates import candidates, needs_all_classes, sample
from cocoop.training.checkpoint import Snapshot
from cocoop.training.distributed import Group
from cocoop.training.loop import Epoch, fit
from cocoop.training.samples import Samples
from cocoop.training.step import descend, losses
from tests.described import described
from tests.methods.banks import states

NAMES = ["red apple", "green tea", "dog", "violin", "red bus", "teapot", "moon"]
OPEN = [
    "atprompt",
    "atprompt-cocoop",
    "clip-lora",
    "cocoop",
    "cocoop-other-image",
    "coop",
    "deep-language",
    "ivlp",
    "maple",
    "mma",
    "tpt-cocoop",
    "tpt-coop",
    "vpt",
]
LABELS = torch.tensor([4, 1, 4, 6])


def built(name: str, backbone: Backbone, config: Any = None) -> Classifier:
    cls = METHODS.get(name)
    config = config or described(next(iter(cls.presets.values())).config, NAMES)
    method = cls(config, backbone, template="a {}.", n_classes=len(NAMES), seed=0)
    return Classifier(backbone, method.to(backbone.text_tower.token_embedding.weight.dtype), NAMES)


@pytest.fixture
def double(tower: Callable[[str], Backbone]) -> Backbone:
    return tower("clip-gelu-deep")


def images(backbone: Backbone, count: int = len(LABELS)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    fimg = torch.randn(count, backbone.embed_dim, generator=generator, dtype=torch.float64)
    return fimg.to(backbone.text_tower.token_embedding.weight.dtype)


def gradients(method: Any) -> dict[str, torch.Tensor]:
    found = {name: value.grad.clone() for name, value in method.named_parameters()}
    method.zero_grad(set_to_none=True)
    return found


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("correction", ["local", "unbiased"])
@pytest.mark.parametrize("name", ["coop", "cocoop", "deep-language"])
def test_a_step_is_the_formula_over_its_classes(name: str, correction: str, double: Backbone) -> None:
    """Through the padded, image-by-image computation of all classes, of which the drawn columns are taken."""
    classifier = built(name, double)
    recipe = Recipe(classes_per_step=5, class_correction=correction)  # type: ignore[arg-type]
    some = candidates(classifier, LABELS, recipe, seed=3, step=2)
    method: Any = classifier.method
    ours = descend(some, images(double), some.labels, share=1.0)["cross-entropy"]
    mine = gradients(method)
    kept = [NAMES.index(each) for each in some.classifier.class_names]
    assert len(set(kept)) == 5
    assert set(LABELS.tolist()) <= set(kept)
    zimg = F.normalize(images(double), dim=-1)
    text = ReferenceEncoder(double, method.prompts[0], NAMES)(method(zimg)).expand(4, -1, -1)
    logits = double.logit_scale * torch.einsum("bd,bcd->bc", zimg, text)
    own, loss = set(LABELS.tolist()), torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, LABELS.tolist(), strict=True):
        below = row[label].exp()
        for other in kept:
            if other == label:
                continue
            if correction == "local":
                weight = (7 - 1) / (5 - 1)
            else:
                weight = 1.0 if other in own else (7 - 3) / (5 - 3)
            below = below + weight * row[other].exp()
        loss = loss - (row[label].exp() / below).log() / 4
    torch.testing.assert_close(ours, loss.detach(), rtol=1e-9, atol=0)
    loss.backward()
    same(mine, gradients(method))


@pytest.mark.parametrize("correction", ["local", "unbiased"])
@pytest.mark.parametrize("name", OPEN)
def test_a_sample_of_all_classes_is_exact(name: str, correction: str, double: Backbone) -> None:
    classifier = built(name, double)
    method: Any = classifier.method
    method.eval()  # without dropout
    fimg = states(method, double, len(LABELS))
    torch.stack(list(losses(classifier, fimg, LABELS).values())).sum().backward()
    exact = gradients(method)
    for size in (0, 7, 100):
        recipe = Recipe(classes_per_step=size, class_correction=correction)  # type: ignore[arg-type]
        some = candidates(classifier, LABELS, recipe, 0, 0)
        assert some.classifier is classifier
        assert some.shift is None
    order = torch.tensor([4, 1, 6, 0, 2, 5, 3])  # as a sample of all would come
    some = module.Candidates(classifier.among(order), order.argsort()[LABELS], module.Shift(math.log(1), 3))
    descend(some, fimg, some.labels, 1.0)
    same(gradients(method), exact)


def partitions(
    classifier: Classifier,
    fimg: torch.Tensor,
    labels: torch.Tensor,
    size: int,
    correction: str,
    monkeypatch: pytest.MonkeyPatch,
) -> torch.Tensor:
    """The sums of exponentials of every image's shifted logits, for all samples that can be drawn."""
    own = labels.unique().tolist()
    others = [place for place in range(len(NAMES)) if place not in own]
    sums = []
    for drawn in itertools.combinations(others, size - len(own)):
        monkeypatch.setattr(module, "sample", lambda *_, drawn=drawn: torch.tensor(drawn))
        recipe = Recipe(classes_per_step=size, class_correction=correction)  # type: ignore[arg-type]
        some = candidates(classifier, labels, recipe, 0, 0)
        assert some.shift
        with torch.no_grad():
            logits = some.classifier(fimg)
        sums.append(some.shift(logits, some.labels).exp().sum(1))
    return torch.stack(sums)


@pytest.mark.parametrize(("correction", "labels", "right"), [
    ("unbiased", [4, 1, 4], True), ("unbiased", [5], True), ("local", [5], True), ("local", [4, 1, 4], False),
])  # fmt: skip
def test_the_expected_sum_of_exponentials(
    correction: str, labels: list[int], right: bool, double: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all samples: without bias but for "local" among several classes, and its log never is."""
    classifier = built("coop", double)
    known = torch.tensor(labels)
    fimg = images(double, len(known))
    with torch.no_grad():
        terms = classifier(fimg).exp()
    exact, size = terms.sum(1), 4
    found = partitions(classifier, fimg, known, size, correction, monkeypatch)
    own = known.unique().tolist()
    assert len(found) == math.comb(7 - len(own), size - len(own))
    expected = exact
    if not right:  # what the batch's other classes are in every time counts for more than itself
        weight, inside = (7 - 1) / (size - 1), (size - len(own)) / (7 - len(own))
        each = [1.0 if place in own else inside for place in range(7)]
        chances = torch.tensor(each, dtype=torch.float64)
        true = F.one_hot(known, 7)
        expected = (terms * (true + (1 - true) * weight * chances)).sum(1)
        assert ((expected / exact - 1).abs() > 1e-3).all()
    torch.testing.assert_close(found.mean(0), expected, rtol=1e-12, atol=0)
    assert (
        found.log().mean(0) < found.mean(0).log()
    ).all()  # Jensen: the loss itself is too small on average


def test_all_samples_are_drawn_alike_by_seed_and_step() -> None:
    own = torch.tensor([1, 4])
    drawn = [tuple(sorted(sample(own, 6, 2, 0, step).tolist())) for step in range(1200)]
    counts = {each: drawn.count(each) for each in itertools.combinations([0, 2, 3, 5], 2)}
    assert sum(counts.values()) == 1200  # of others than `own`, all different
    assert all(abs(count - 200) < 5 * math.sqrt(200 * 5 / 6) for count in counts.values())
    for seed, step in ((0, 7), (1, 7), (0, 8)):
        assert torch.equal(sample(own, 99, 20, seed, step), sample(own, 99, 20, seed, step))
    first = sample(own, 99, 20, 0, 7)
    assert not torch.equal(first, sample(own, 99, 20, 1, 7))
    assert not torch.equal(first, sample(own, 99, 20, 0, 8))


def test_every_step_of_a_training_has_a_sample_of_its_own(
    toy: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, tuple[str, ...]]] = []

    def watched(*arguments: Any) -> module.Candidates:
        some = candidates(*arguments)
        seen.append((*arguments[3:], some.classifier.class_names))
        return some

    monkeypatch.setattr(loop, "candidates", watched)
    recipe = Recipe(epochs=2, batch_size=0, classes_per_step=4)
    same_images = Samples(lambda epoch: images(toy, 2), torch.tensor([0, 1]))
    for seed in (0, 1):
        fit(built("coop", toy), same_images, recipe, seed=seed)
    assert [each[:2] for each in seen] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({each[2] for each in seen}) == 4


def samples(toy: Backbone) -> Samples:
    return Samples(lambda epoch: images(toy, 14), torch.arange(14) % 7)


def test_an_interrupted_training_draws_what_it_would_have_drawn(toy: Backbone) -> None:
    recipe = Recipe(epochs=4, batch_size=2, classes_per_step=4)
    whole = built("cocoop", toy)
    fit(whole, samples(toy), recipe, seed=1)
    taken: list[Snapshot] = []

    def stop(epoch: Epoch) -> None:
        taken.append(epoch.snapshot())
        if epoch.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(built("cocoop", toy), samples(toy), recipe, 1, stop)
    again = built("cocoop", toy)
    fit(again, samples(toy), recipe, 1, resume=taken[-1])
    other = built("cocoop", toy)
    fit(other, samples(toy), Recipe(epochs=4, batch_size=2), seed=1)
    for name, value in whole.method.state_dict().items():
        assert torch.equal(again.method.state_dict()[name], value), name
        assert not torch.equal(other.method.state_dict()[name], value), name


def test_processes_compare_the_same_classes(double: Backbone) -> None:
    classifier = built("cocoop", double)
    method: Any = classifier.method
    recipe, batch = Recipe(classes_per_step=5), torch.arange(4)
    some = candidates(classifier, LABELS, recipe, 0, 0)
    descend(some, images(double), some.labels, 1.0)
    whole = gradients(method)
    for rank in range(2):  # each draws by itself, from the labels of the whole batch
        group, own = Group(2, rank), candidates(classifier, LABELS, recipe, 0, 0)
        descend(own, images(double)[group.part(batch)], group.part(own.labels), 0.5)
    same(gradients(method), whole)


def test_no_tree_is_larger_than_the_sample(toy: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    build = tree.build_tree

    def counted(prompts: Any) -> tree.TokenTree:
        sizes.append(len(prompts))
        return build(prompts)

    monkeypatch.setattr(tree, "build_tree", counted)
    fit(built("cocoop", toy), samples(toy), Recipe(epochs=1, batch_size=2, classes_per_step=3), seed=0)
    assert max(sizes) == 3


def test_who_needs_all_classes(toy: Backbone) -> None:
    steps = [name for name in METHODS.names() if METHODS.get(name).facts.training == "steps"]
    assert sorted(name for name in steps if not needs_all_classes(built(name, toy).method)) == OPEN
    csc = built("coop", toy, CoOpConfig(class_specific=True))
    with pytest.raises(UsageError, match="CoOp takes no classes_per_step: its context vectors are of one"):
        fit(csc, samples(toy), Recipe(epochs=1, classes_per_step=3), seed=0)
    with pytest.raises(UsageError, match="its loss is not cross-entropy alone"):
        fit(built("kgcoop", toy), samples(toy), Recipe(epochs=1, classes_per_step=3), seed=0)
    with pytest.raises(UsageError, match="its logits are not CLIP's"):
        fit(built("taskres", toy), samples(toy), Recipe(epochs=1, classes_per_step=3), seed=0)


@pytest.mark.parametrize(("size", "batch"), [(4, 4), (7, 0), (2, 3)])
def test_a_batch_that_may_fill_the_sample(size: int, batch: int, toy: Backbone) -> None:
    recipe = Recipe(epochs=1, batch_size=batch, classes_per_step=size)
    with pytest.raises(UsageError, match=r"may hold \d classes, .* set classes_per_step to more than \d"):
        fit(built("coop", toy), samples(toy), recipe, seed=0)


GRID = {
    "datasets": ["emoji/activities"],
    "seeds": [0],
    "shots": 1,
    "backbone": "toy",
    "device": "cpu",
    "threads": 1,
}


def test_records_and_reports_say_so(tmp_path: Path) -> None:
    words = ["coop.epochs=1", "coop.classes_per_step=9", "coop.batch_size=4"]
    records = cocoop.run("base-to-new", folder=tmp_path, methods=["coop"], overrides=words, **GRID)
    said = "coop (epochs=1, classes_per_step=9, batch_size=4) was trained on 9 of 32 classes a step"
    assert {record.note for record in records if record.cell.training.method == "coop"} == {said}
    assert {record.note for record in records if record.cell.training.method == "zeroshot"} == {""}
    assert f"{said}." in notes(PROTOCOLS.get("base-to-new").table(records), records)


def test_refused_before_anything_runs(tmp_path: Path) -> None:
    for word, reason in (
        ("kgcoop.classes_per_step=9", "its loss"),
        ("coop.class_specific=true", "one class"),
    ):
        method = word.partition(".")[0]
        words = [word, f"{method}.classes_per_step=9"]
        with pytest.raises(UsageError, match=reason):
            cocoop.run("few-shot", folder=tmp_path, methods=[method], overrides=words, **GRID)
    assert not list(tmp_path.glob("records/*"))
