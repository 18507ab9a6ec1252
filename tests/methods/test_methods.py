"""The contract of a method, over whatever is in the folder."""

import dataclasses
import hashlib
import io
import re
from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

import cocoop.methods
from cocoop import Backbone, Classifier
from cocoop.cli.list import table
from cocoop.errors import UsageError
from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, Method, ordered
from cocoop.methods._hooks import WithLogits, views_of
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import choose, resolve
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.methods.coop import Config as CoOpConfig
from cocoop.methods.coop import Model as CoOp
from cocoop.methods.zeroshot import Config as ZeroShotConfig
from cocoop.methods.zeroshot import Model as ZeroShot
from cocoop.report.page import html
from cocoop.report.tables.results import results
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.classifier import Classifier as _Classifier
from cocoop.training.step import losses
from tests.described import described
from tests.estimator.test_estimator import painted
from tests.methods.banks import features, states
from tests.methods.drop_in import drop_in

NAMES = ["red apple", "green tea", "dog"]
OTHER_NAMES = ["violin", "red bus", "teapot", "moon"]
TEMPLATE = "a drawing of a {}."

PRESETS = [(method, preset) for method in METHODS.names() for preset in METHODS.get(method).presets]


def build(cls: type, config: object, backbone: Backbone, classes: int = 3, seed: int = 0) -> nn.Module:
    return cls(config, backbone, template=TEMPLATE, n_classes=classes, seed=seed)


def images(backbone: Backbone, count: int) -> torch.Tensor:
    return F.normalize(
        torch.randn(count, backbone.embed_dim, generator=torch.Generator().manual_seed(1)), dim=-1
    )


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_contract(name: str, preset: str, toy: Backbone) -> None:
    cls = METHODS.get(name)
    config = cls.presets[preset].config
    assert dataclasses.is_dataclass(cls.config_type)
    assert cls.config_type.__dataclass_params__.frozen
    assert isinstance(config, cls.config_type)
    fields = ({field.name for field in dataclasses.fields(kind)} for kind in (cls.config_type, Recipe))
    assert not set.intersection(*fields), "--set could not tell them apart"
    config = described(config, [*NAMES, *OTHER_NAMES])
    method = build(cls, config, toy)
    assert isinstance(method, Method)
    method.eval()  # random numbers are the same in every call
    zimg = states(method, toy)
    classifier = Classifier(toy, method, NAMES)
    contexts = classifier.contexts(classifier.see(zimg))
    assert contexts.shape[0] == (
        5 if cls.facts.conditional else getattr(config, "samples", getattr(config, "n_prompts", 1))
    )
    assert contexts.shape[1] in (1, 3)
    vectors, width = contexts.shape[2:]
    assert width == toy.width
    assert vectors % max(1, method.prompts[0].n_ctx) == 0  # of several transformer blocks, in deep prompts
    logits = classifier(zimg)
    assert logits.shape == (5, 3)
    assert logits.isfinite().all()
    if not cls.facts.sees_test_images:
        answers = classifier.predict(features(classifier, zimg))
        torch.testing.assert_close(answers, logits.detach(), rtol=1e-4, atol=1e-3)
    learned = dict(method.named_parameters())
    recipe = cls.presets[preset].recipe
    # what is drawn of test images is no state of the method
    assert bool(method.state_dict()) == (cls.facts.learns or cls.facts.draws) or cls.facts.sees_test_images
    assert learned or cls.facts.training != "steps"
    assert (recipe is not None) == cls.facts.learns
    assert recipe is None or recipe.learns == (cls.facts.training == "steps")
    assert recipe is None or recipe.keep == "last" or cls.facts.selects_on != "nothing"
    assert hasattr(config, "selects_on") <= (cls.facts.selects_on != "nothing")
    assert all(parameter.dtype == torch.float32 for parameter in learned.values())
    if learned:
        method.train()  # it may see more of images and classes then
        terms = losses(Classifier(toy, method, NAMES), zimg, torch.tensor([0, 1, 2, 0, 1]))
        torch.stack(list(terms.values())).sum().backward()
        begun = {key: each for key, each in learned.items() if each.numel()}  # others begin in a later stage
        without = [key for key, parameter in begun.items() if parameter.grad is None]
        assert not without, f"no gradient reaches {without}"
    assert all(parameter.grad is None for parameter in toy.model.parameters())
    assert method.transferable != cls.facts.bound
    assert cls.facts.quick in ("", *cls.presets)
    if method.transferable:
        # logits of its own may take values of each class that it was trained on
        classes = len(NAMES) if isinstance(method, WithLogits) else 4
        again = build(cls, config, toy, classes=classes, seed=9)
        again.load_state_dict(method.state_dict(), strict=True)
        ours, theirs = (Classifier(toy, each.eval(), OTHER_NAMES, None, NAMES) for each in (method, again))
        looks, zimg = views_of(method).count, features(classifier, zimg)
        seen = zimg if looks == 1 else zimg[:, None] + 0.1 * torch.randn(5, looks, toy.embed_dim)
        assert torch.equal(ours.predict(seen), theirs.predict(seen))


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_the_seed_decides_everything(name: str, preset: str, toy: Backbone) -> None:
    cls = METHODS.get(name)
    config = cls.presets[preset].config
    first, second = build(cls, config, toy, seed=5), build(cls, config, toy, seed=5)
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_zero_shot_equals_untrained_coop_with_the_same_words(toy: Backbone) -> None:
    zimg = images(toy, 4)
    zero_shot = build(ZeroShot, ZeroShotConfig(("a photo of a {}.",)), toy)
    coop = build(CoOp, CoOpConfig("a photo of a"), toy)
    ours, theirs = (Classifier(toy, method, NAMES).predict(zimg) for method in (zero_shot, coop))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_zero_shot_takes_the_datasets_template(toy: Backbone) -> None:
    assert build(ZeroShot, ZeroShotConfig(), toy).prompts == (Prompt(TEMPLATE),)


SELECT7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def test_lists_of_templates() -> None:
    assert ZeroShot.presets["zeroshot-select7"].config.texts(TEMPLATE) == (*SELECT7, TEMPLATE)
    full = ZeroShot.presets["zeroshot-imagenet80"].config.texts(TEMPLATE)
    assert len(full) == len(set(full)) == 80
    assert all(text.count("{}") == 1 for text in full)
    digest = hashlib.sha256("\n".join(full).encode()).hexdigest()
    assert digest == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af", (
        "open_clip's list has changed"
    )
    sixty = ZeroShotConfig(("imagenet60",)).texts(TEMPLATE)  # PromptSRC's own list, in another order
    assert sixty == full[:60]
    assert ("a photo of a {}." in sixty, sixty[-1]) == (True, "itap of the {}.")
    assert ZeroShotConfig(("dataset", "a {}.", "dataset")).texts(TEMPLATE) == (TEMPLATE, "a {}.")


def test_an_ensemble_is_the_normalised_mean_of_normalised_features(toy: Backbone) -> None:
    """By open_clip's own text tower; open_clip's builder averages before it normalises, CLIP's does not."""
    method = build(ZeroShot, ZeroShot.presets["zeroshot-select7"].config, toy)
    ours = Classifier(toy, method, NAMES).encode_text(method(images(toy, 1)))[0]
    tokens = [
        [open_clip.tokenize(text.format(name), 32)[0] for name in NAMES] for text in (*SELECT7, TEMPLATE)
    ]
    each = [F.normalize(toy.model.encode_text(torch.stack(rows)), dim=-1) for rows in tokens]
    theirs = F.normalize(torch.stack(each).mean(0), dim=-1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["no place", "{} and {}", "{name}", "a {} {x}", ""])
def test_bad_templates(text: str) -> None:
    with pytest.raises(UsageError, match=r"needs \{\} once"):
        ZeroShotConfig((text,))
    with pytest.raises(UsageError, match="at least one template"):
        ZeroShotConfig(())


def test_cocoop_is_the_papers_formula(toy: Backbone) -> None:
    method = build(CoCoOp, CoCoOp.presets["cocoop-paper"].config, toy)
    zimg = images(toy, 3)
    classifier = Classifier(toy, method, NAMES)
    contexts = method(zimg, classifier.text)
    for image, context in zip(zimg, contexts, strict=True):
        shift = method.meta_net(image)
        torch.testing.assert_close(context[0], torch.stack([vector + shift for vector in method.ctx]))


def test_cocoop_logits_equal_the_released_computation(toy: Backbone) -> None:
    method = build(CoCoOp, CoCoOp.presets["cocoop-paper"].config, toy)
    zimg = images(toy, 3)
    text = ReferenceEncoder(toy, method.prompts[0], NAMES)(method(zimg))
    reference = torch.stack([toy.logit_scale * z @ t.T for z, t in zip(zimg, text, strict=True)])
    torch.testing.assert_close(_Classifier(toy, method, NAMES)(zimg), reference, rtol=1e-4, atol=1e-3)


def test_cocoop_has_the_papers_parameters() -> None:
    """35,360 at ViT-B/16's sizes: 4 x 512 context, and a Meta-Net of 512 - 32 - 512 with biases."""

    class Sizes:
        embed_dim = width = 512

        def embed_words(self, words: str) -> torch.Tensor:
            return torch.zeros(len(words.split()), self.width)

    make = CoCoOp.__init__.__wrapped__ if hasattr(CoCoOp.__init__, "__wrapped__") else CoCoOp.__init__
    method = CoCoOp.__new__(CoCoOp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "cocoop.methods.cocoop.init_context", lambda backbone, words, n, seed: backbone.embed_words(words)
        )
        make(method, CoCoOp.presets["cocoop-paper"].config, Sizes(), template="", n_classes=1, seed=0)
    sizes = {name: parameter.numel() for name, parameter in method.named_parameters()}
    assert sizes["ctx"] == 2_048
    assert sum(sizes.values()) == 35_360
    assert sum(sizes.values()) - sizes["meta_net.linear1.bias"] - sizes["meta_net.linear2.bias"] == 34_816


def test_class_specific_contexts_do_not_transfer(toy: Backbone) -> None:
    method = build(CoOp, CoOpConfig(class_specific=True), toy)
    assert not method.transferable
    assert method.ctx.shape[0] == 3


DROPPED_IN = '''
"""A fourth method: a context scaled by one learned number."""
from dataclasses import dataclass
import torch
from torch import nn
from cocoop.methods import METHODS, Facts, Paper, Preset, Recipe
from cocoop.text.prompt import Prompt, context_template, init_context

@dataclass(frozen=True)
class Config:
    start: float = 1.0

@METHODS.register("loud")
class Loud(nn.Module):
    """Scaled context."""
    facts = Facts(
        name="LoudCoOp",
        summary="scales its words",
        paper=Paper("Loud", "Doe et al.", "ICLR 2099", "2098-10", "https://example.org/loud"),
        extends="coop",
    )
    config_type = Config
    presets = {"loud": Preset(Config(), Recipe(epochs=1, batch_size=8), "a test")}
    transferable = True
    def __init__(self, cfg, backbone, *, template, n_classes, seed):
        super().__init__()
        self.register_buffer("words", init_context(backbone, "a photo of a", 4, seed), persistent=False)
        self.gain = nn.Parameter(torch.tensor(cfg.start))
        self.prompts = (Prompt(context_template("a photo of a", 4), 4),)
    def forward(self, zimg, text):
        return (self.gain * self.words)[None, None]
'''


@pytest.fixture
def fourth_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    drop_in(DROPPED_IN, "loud", tmp_path, monkeypatch)
    return "loud"


def test_one_file_adds_a_method(fourth_method: str, toy: Backbone, tmp_path: Path) -> None:
    assert ordered()[0] == "zeroshot"
    assert [name for name in ordered() if not METHODS.get(name).facts.sees_test_images][-1] == fourth_method
    test_contract(fourth_method, "loud", toy)
    (choice,) = choose([fourth_method], [], ["loud.start=2", "loud.epochs=1"])
    assert choice.config.start == 2.0
    listed = Console(width=300, record=True, file=io.StringIO())
    listed.print(table("methods", full=True))
    assert re.search(r"loud .*scales its words.*learns by steps.*\n.*ICLR 2099", listed.export_text())
    records = cocoop.run(
        "base-to-new",
        datasets=["emoji/activities", "emoji/food"],
        methods=["coop", fourth_method],
        overrides=["coop.epochs=1"],
        seeds=[0],
        shots=1,
        backbone="toy",
        folder=tmp_path / "runs",
    )
    own = [record for record in records if record.cell.training.method == fourth_method]
    assert [record.cell.testing.subset for record in own] == ["base", "new"] * 2
    (result,) = results(records)
    assert list(result.frame["method"])[:3] == ["zeroshot", "coop (epochs=1)", fourth_method]
    page = html.page(Store(tmp_path / "runs"))
    assert "<b>LoudCoOp</b> scales its words" in page
    for other in ("coop (epochs=1)", "zeroshot"):
        assert f"What loud gains over {other}, by dataset." in page
    assert f"loud has {average(result.frame, 'new'):.2f} % of the images of new classes right" in page
    colours = html.colours(records)
    assert colours == {"zeroshot": 0, "coop (epochs=1)": 1, "loud": 2}
    assert html.colours(own) == {"loud": 1}  # the first colour is that of zero-shot


def average(frame: pd.DataFrame, column: str) -> float:
    return float(frame[(frame["dataset"] == "average") & (frame["method"] == "loud")][column].iloc[0])


def test_one_file_is_a_classifier_too(fourth_method: str, toy: Backbone, tmp_path: Path) -> None:
    images, labels = painted(2)
    cocoop.PromptClassifier(fourth_method, toy).fit(images, labels).save(tmp_path / "model")
    assert "[LoudCoOp](https://example.org/loud)" in (tmp_path / "model" / "README.md").read_text()
    assert len(cocoop.load(tmp_path / "model", toy).predict(images, classes=["cat", "dog"])) == len(images)


@pytest.mark.parametrize("name", METHODS.names())
def test_facts_are_whole(name: str) -> None:
    facts = METHODS.get(name).facts
    paper = facts.paper
    assert re.fullmatch(r"\d{4}-\d{2}", paper.date)
    assert re.fullmatch(r".+ \d{4}", paper.venue)
    assert paper.link.startswith("https://")
    assert facts.name
    assert facts.summary
    assert not facts.summary.endswith(".")
    assert facts.extends is None or facts.extends in METHODS.names()
    assert sum(METHODS.get(each).facts.baseline for each in METHODS.names()) == 1


def test_select7_has_the_datasets_template_but_on_imagenet() -> None:
    choice = resolve("zeroshot", "zeroshot-select7")
    assert choice.on("imagenet").config.texts("a photo of a {}.") == SELECT7
    assert choice.on("caltech101").config.texts("a photo of a {}.") == (*SELECT7, "a photo of a {}.")
    cells = PROTOCOLS.get("cross-dataset").cells(
        Settings(("imagenet", "caltech101"), (choice,), (1,), 16, "toy", "w", source="imagenet")
    )
    templates = {cell.testing.dataset: cell.training.config["templates"] for cell in cells}
    assert templates == {"imagenet": ("select7",), "caltech101": ("select7", "dataset")}


def test_an_image_alone_is_shown_the_one_before_it(toy: Backbone) -> None:
    kind = METHODS.get("cocoop-other-image")
    method = build(kind, kind.config_type(), toy)
    first, second = images(toy, 2).split(1)
    method(first)
    torch.testing.assert_close(method(second), method.cocoop(first))
    torch.testing.assert_close(method(first), method.cocoop(second))
    many = images(toy, 6)
    shown = method(many).detach()
    own = method.cocoop(many).detach()
    pairs = (shown[:, None] - own[None]).flatten(2).norm(dim=2).argmin(1)
    assert sorted(pairs.tolist()) == list(range(6))
    assert not (pairs == torch.arange(6)).any()


@pytest.mark.parametrize(
    ("methods", "presets", "overrides", "message"),
    [
        (["cocop"], [], [], "Did you mean 'cocoop'"),
        (["cocoop"], ["cocoop-papr"], [], "Did you mean 'cocoop-paper'"),
        (["coop"], ["cocoop-paper"], [], "not among the methods"),
        (["coop"], ["coop-paper", "coop-quick"], [], "two presets"),
        (["coop"], [], ["coop.epoch=3"], "Did you mean 'epochs'"),
        (["coop"], [], ["coop.epochs=many"], "epochs='many'"),
        (["coop"], [], ["coop.epochs=0"], "at least 1"),
        (["coop"], [], ["coop.position=behind"], "position='behind'"),
        (["coop"], [], ["epochs=3"], "METHOD.FIELD=VALUE"),
        (["coop"], [], ["cocoop.epochs=3"], "method in --set"),
    ],
)
def test_wrong_choices(methods: list[str], presets: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose(methods, presets, overrides)


def test_settings_are_named_in_labels() -> None:
    choices = choose(["coop", "cocoop"], ["coop-quick"], ["coop.n_ctx=8", "coop.ctx_init=null"])
    assert [choice.label for choice in choices] == ["coop (quick, n_ctx=8, ctx_init=None)", "cocoop"]
    assert choices[0].config.ctx_init is None
