"""The page, its plots and the tables, from records that were never run."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from cocoop.data import Dataset, Item, open_dataset
from cocoop.experiments import cell as cells
from cocoop.experiments.aggregate import harmonic_mean
from cocoop.experiments.protocols import base_to_new
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.report.page import examples, html
from cocoop.report.page.confusion import confusions
from cocoop.report.plots.gains import gains
from cocoop.report.plots.svg import SERIES
from cocoop.report.plots.tradeoff import tradeoff
from cocoop.report.tables import tables
from cocoop.utils.files import checked_json

FOOD, HOSTILE = "emoji/food", "coop (init=<script>alert(1)</script> & $x$ | y)"
PUBLISHED = {"zeroshot": (69.34, 74.22), "coop": (82.69, 63.22), "cocoop": (80.47, 71.69)}


def record(
    label: str,
    subset: str,
    accuracy: float,
    *,
    dataset: str = FOOD,
    seed: int = 1,
    names: Sequence[str] = ("a", "b"),
    total: int = 10_000,
) -> Record:
    learned = not label.startswith("zeroshot")
    training = cells.Training(
        method=label.split(" ")[0],
        label=label,
        preset=f"{label} preset",
        config={"ctx_init": "a photo of a", "position": "<end>"},
        recipe={"epochs": 2, "batch_size": 1, "lr": 0.002} if learned else None,
        backbone="toy",
        weights="0123456789abcdef" * 4,
        dataset=dataset,
        subset="base" if learned else "all",
        shots=16 if learned else 0,
        seed=seed if learned else 0,
    )
    return Record(
        cell=cells.Cell(
            protocol="base-to-new",
            training=training,
            testing=cells.Testing(dataset=dataset, subset=subset, candidates=subset),
        ),
        correct=round(accuracy * total / 100),
        total=total,
        metrics={"accuracy": accuracy / 100, "macro_f1": 0.5},
        class_names=list(names),
        train_images=32 if learned else 0,
        parameters=512 if learned else 0,
        lr=[0.002, 0.001] if learned else [],
        loss=[2.0, 1.0 / seed] if learned else [],
        seconds_per_step=0.05 if learned else 0.0,
        peak_memory_mb=1234.5,
        files="0" * 64,
        environment={"cocoop": "0.1", "machine": "x86_64", "commit": "abc1234"},
        created="2026-01-02T03:04:05+00:00",
    )


def published(labels: Sequence[str] = tuple(PUBLISHED), datasets: Sequence[str] = (FOOD,)) -> list[Record]:
    """The paper's averages, as if they were one dataset's."""
    return [
        record(label, half, accuracy, dataset=dataset)
        for dataset in datasets
        for label in labels
        for half, accuracy in zip(("base", "new"), PUBLISHED[label.split(" ")[0]], strict=True)
    ]


def store_of(folder: Path, records: Sequence[Record]) -> Store:
    store = Store(folder)
    for each in records:
        nothing = {"classes": torch.zeros(1, 2), "probabilities": torch.zeros(1, 2), "labels": torch.zeros(1)}
        store.write(each, nothing)
    return store


def frame_of(records: Sequence[Record]) -> pd.DataFrame:
    return tables.in_order(base_to_new.table(records))


def new_food() -> tuple[tuple[Item, ...], list[str]]:
    return cells.Testing(dataset=FOOD, subset="new", candidates="new").choose(open_dataset(FOOD))


def predicted(folder: Path, right: dict[str, Callable[[int], bool]]) -> tuple[Store, list[Record]]:
    """A store with predictions for the real new classes: each method right where its rule says so."""
    items, names = new_food()
    store, records = Store(folder), []
    for label, rule in right.items():
        hits = torch.tensor([rule(index) for index in range(len(items))])
        truth = torch.tensor([item.label for item in items])
        first = torch.where(hits, truth, (truth + 1) % len(names))
        classes = torch.stack([first, (first + 2) % len(names), (first + 3) % len(names)], 1)
        accuracy = 100 * hits.float().mean().item()
        chances = torch.tensor([0.999, 0.0005, 0.0]).repeat(len(items), 1)
        finished = record(label, "new", accuracy, names=names, total=len(items))
        top = {"classes": classes, "probabilities": chances, "labels": truth}
        records.append(store.write(finished, top))
    return store, records


class Tags(HTMLParser):
    """Collects tags with attributes, and the text outside of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    store, _ = predicted(tmp_path, {"zeroshot": lambda i: i % 2 == 0, "coop": lambda i: True})
    path = html.write(store)
    assert path == tmp_path / "report.html"
    page = Tags(path.read_text())
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/webp;base64,")), tag
    assert not re.search(r"url\((?!#)|@import", path.read_text())
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_has_the_values_of_the_table(tmp_path: Path) -> None:
    records = published(datasets=(FOOD, "emoji/people"))
    records += [record("coop", "new", 60.0, seed=2), record("coop", "base", 80.0, seed=2)]
    page = Tags(html.page(store_of(tmp_path, records)))
    shown = tables.text(frame_of(records))
    assert "61.61 ± 2.28" in set(shown["new"])
    for name in ("base", "new", "H"):
        for value in shown[name]:
            assert value in page.text
    assert "average of 2 datasets" in page.text
    assert "0123456789ab" in page.text
    assert "0123456789abc" not in page.text
    assert "50 ms" in page.text


def test_best_values_and_those_below_zero_shot_are_marked(tmp_path: Path) -> None:
    page = html.page(store_of(tmp_path, published()))
    assert re.findall(r"<strong>([^<]*)</strong>", page) == ["74.22", "82.69", "75.83"]
    marked = re.findall(r'<td class="n">([\d.]+)<span class="below"', page)
    assert marked == ["63.22", "71.69"]


def test_an_average_over_other_datasets_has_no_best(tmp_path: Path) -> None:
    records = published(datasets=(FOOD, "emoji/people"))[:-2]  # the last method lacks one dataset
    page = html.page(store_of(tmp_path, records))
    average = page[page.index("average of 2 datasets") : page.index("</table>")]
    assert "<strong>" not in average
    assert "1 of 2 datasets" in average


def test_h_of_the_average_is_taken_of_the_averages() -> None:
    other = {"zeroshot": (50.0, 50.0)}
    for base, new in (PUBLISHED["cocoop"], *other.values()):
        assert harmonic_mean(base, new) == pytest.approx(2 / (1 / base + 1 / new))
    records = [
        record("cocoop", half, value, dataset=dataset)
        for dataset, shift in (("emoji/a", 10.0), ("emoji/b", -10.0))
        for half, value in (("base", 80.47 + shift), ("new", 71.69 - shift))
    ]
    shown = tables.text(frame_of(records)).set_index("dataset")
    assert shown["H"]["average of 2"] == "75.83"
    assert float(shown["H"]["emoji/a"]) != float(shown["H"]["emoji/b"])


def test_hostile_words_are_escaped(tmp_path: Path) -> None:
    records = [*published(), *(record(HOSTILE, half, 50.0) for half in ("base", "new"))]
    records += [
        record("coop", half, 50.0, dataset="<img src=x onerror=alert(1)>") for half in ("base", "new")
    ]
    source = html.page(store_of(tmp_path / "a <b> & c", records))
    page = Tags(source)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [tag for tag, attributes in page.tags if "onerror" in attributes]
    assert HOSTILE in page.text
    assert "<end>" in page.text
    assert "$x$" in source  # not read as a formula in the plots


def test_hostile_class_names_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = predicted(tmp_path, {"zeroshot": lambda i: False})
    real = open_dataset(FOOD)
    monkeypatch.setattr(examples, "_words", lambda name: f"<script>{name}</script> & \"'")
    monkeypatch.setattr(examples, "open_dataset", lambda name, root: real)
    page = Tags(html.page(store))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>" in page.text


def test_hostile_names_among_the_confused_classes_are_escaped(tmp_path: Path) -> None:
    store, (one,) = predicted(tmp_path, {"coop": lambda i: i % 2 == 0})
    names = [f"<script>{name}</script>" for name in one.class_names]
    renamed = checked_json(one.model_copy(update={"class_names": names}))
    next((tmp_path / "records").rglob("*.json")).write_text(renamed)
    page = Tags(html.page(store))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>hot dog</script>" in page.text


def test_the_worst_pairs_are_counted_over_the_class(tmp_path: Path) -> None:
    store, records = predicted(tmp_path, {"zeroshot": lambda i: True, "coop": lambda i: i >= 2})
    (confusion,) = confusions(store, records)  # the two images of the first class are taken for the second
    assert (confusion.method, confusion.methods) == ("coop", ("zeroshot", "coop"))
    names = [name.replace("_", " ") for name in records[0].class_names]
    assert confusion.pairs == (((names[0], names[1]), (0.0, 1.0)),)


@pytest.mark.parametrize("labels", [["zeroshot"], ["cocoop"], ["zeroshot", "cocoop"], ["coop", HOSTILE]])
def test_any_choice_of_methods(tmp_path: Path, labels: list[str]) -> None:
    page = Tags(html.page(store_of(tmp_path, published(labels))))
    drawn = sum(tag == "svg" for tag, _ in page.tags)
    gains = {("zeroshot", "cocoop"): 1}.get(tuple(labels), 0)
    assert drawn == 1 + gains + (labels != ["zeroshot"])  # base against new, gains, training time
    body = page.text[page.text.index("Base-to-new") :]
    assert "average" not in body.lower()  # over one dataset it says nothing new


def test_unfinished_runs_still_have_a_page(tmp_path: Path) -> None:
    records = [record("coop", "base", 50.0)]
    page = Tags(html.page(store_of(tmp_path, records)))
    assert "No complete rows yet" in page.text
    assert "5000 / 10000" in page.text
    assert "no finished runs" in Tags(html.page(Store(tmp_path / "empty"))).text


def test_plots_are_the_same_bytes_each_time() -> None:
    records = published(datasets=[f"emoji/{letter}" for letter in "abcdefghijk"])
    frame, colours = frame_of(records), {"zeroshot": 0, "coop": 1, "cocoop": 2}

    def draw() -> list[str | None]:
        bars = gains(frame, "cocoop", "coop", colours)
        return [tradeoff(frame, colours), bars]

    first = draw()
    assert first == draw()
    for svg in first:
        assert svg is not None
        assert svg.startswith("<svg")
        assert "<text" in svg
        assert f"var(--s2, {SERIES[2]})" in svg


def test_plots_that_make_no_sense_are_left_out() -> None:
    records = published(["zeroshot"])
    frame = frame_of(records)
    assert gains(frame, "cocoop", "zeroshot", {}) is None
    assert tradeoff(pd.DataFrame({"dataset": ["a"], "method": ["coop"], "accuracy": [1.0]}), {}) is None


def test_examples_prefer_disagreement_and_are_right_about_it(tmp_path: Path) -> None:
    rules = {"zeroshot": lambda i: i % 4 < 2, "coop": lambda i: i % 4 in (0, 2)}
    store, records = predicted(tmp_path, rules)
    (group,) = examples.groups(store, records)
    assert (group, group.problem) == (*examples.groups(store, records), "")
    correct = [tuple(p.correct for p in example.predictions) for example in group.examples]
    assert correct == [(True, False), (False, True)] * 2 + [(True, True), (False, False)]
    assert len({example.truth for example in group.examples}) == examples.SHOWN
    for example in group.examples:
        for prediction in example.predictions:
            assert (prediction.top[0][0] == example.truth) == prediction.correct
            assert len(prediction.top) == examples.TOP


def test_examples_fill_up_where_nothing_is_disputed(tmp_path: Path) -> None:
    store, records = predicted(tmp_path, {"coop": lambda i: True})
    (group,) = examples.groups(store, records)
    assert len(group.examples) == examples.SHOWN


def test_unreadable_images_cost_only_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = predicted(tmp_path, {"coop": lambda i: True})
    real = open_dataset(FOOD)
    gone = Dataset(FOOD, real.template, tmp_path / "nowhere.zip", real.splits)
    monkeypatch.setattr(examples, "open_dataset", lambda name, root: gone)
    page = html.page(store)
    assert f"{FOOD}: no examples, its images cannot be read any more" in page
    assert str(tmp_path) not in page


def test_changed_data_and_lost_predictions_cost_only_the_examples(tmp_path: Path) -> None:
    changed = html.page(store_of(tmp_path / "a", published()))
    assert "no examples, its images or classes are no longer those of the runs" in changed
    store, _ = predicted(tmp_path / "b", {"coop": lambda i: True})
    for path in (tmp_path / "b" / "predictions").iterdir():
        path.write_bytes(b"")
    assert "no examples, its predictions are missing or damaged" in html.page(store)


def test_images_are_small_copies_of_the_pixels_alone() -> None:
    image = Image.new("RGBA", (300, 200), "red")
    image.info = {"icc_profile": b"secret profile", "exif": b"secret place", "comment": b"secret words"}
    uri = examples.data_uri(image)

    data = base64.b64decode(uri.split(",")[1])
    assert b"secret" not in data
    with Image.open(io.BytesIO(data)) as copy:
        assert copy.size == (96, 64)


def test_the_markdown_table_is_well_formed() -> None:
    records = [*published(), *(record(HOSTILE, half, 50.0) for half in ("base", "new"))]
    lines = tables.markdown(frame_of(records)).splitlines()
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert counts == {6}
    assert len(lines) == 2 + 4  # head and rule, one dataset: no average rows
    assert re.fullmatch(r"\|( -{3}:? \|)+", lines[1])
