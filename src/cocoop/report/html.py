"""A run folder as one page: tables, plots, examples and how it was run, in a single file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cocoop.files import write_text
from cocoop.protocols import PROTOCOLS
from cocoop.protocols.base_to_new import AVERAGE
from cocoop.report import examples, plots, tables
from cocoop.report.blocks import first, kind, table_blocks
from cocoop.report.facts import facts
from cocoop.report.svg import DARK, SERIES
from cocoop.store import Record, Store

Colours = dict[str, int]


@dataclass(frozen=True)
class Figure:
    """One plot with the words under it."""

    svg: Markup
    caption: str


def write(store: Store, root: str | Path | None = None) -> Path:
    """Write report.html into the run folder and return its path; `root` is for `open_dataset`.

    Raises:
        CocoopError: a record cannot be read.
    """
    path = store.folder / "report.html"
    write_text(path, page(store, root))
    return path


def page(store: Store, root: str | Path | None = None) -> str:
    """Return the page as HTML: nothing is loaded from elsewhere, and nothing in it is a script."""
    records = list(store.records())
    colours = _colours(records)
    protocols = sorted({record.cell.protocol for record in records})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment.get_template("page.html.j2").render(
        colours=colours,
        palette=list(zip(SERIES, DARK, strict=True)),
        methods={record.cell.training.method for record in records},
        protocols=[_protocol(name, store, records, colours, root) for name in protocols],
        facts=facts(records),
        folder=store.folder.resolve().name,
    )


def _protocol(
    name: str, store: Store, records: Sequence[Record], colours: Colours, root: str | Path | None
) -> dict[str, Any]:
    """Return what the page shows of one protocol."""
    plan = PROTOCOLS.get(name)
    own = [record for record in records if record.cell.protocol == name]
    frame = tables.in_order(plan.table(own))
    learned = {r.cell.training.label for r in own if r.cell.training.recipe}
    blocks = [] if frame.empty else list(table_blocks(frame, learned))
    return {
        "name": name,
        "title": plan.title,
        "columns": [] if frame.empty else tables.values(frame),
        "blocks": blocks,
        "below": any(value.below for block in blocks for row in block.rows for value in row.values),
        "summary": [] if frame.empty else list(_summary(frame)),
        "notes": [] if frame.empty else tables.notes(frame, own),
        "figures": list(_figures(frame, own, colours)),
        "seeds": _by_seed(own),
        "metrics": _metrics(own),
        "examples": list(examples.groups(store, own, root)),
    }


def _colours(records: Sequence[Record]) -> Colours:
    """Number the methods' colours: the paper's have their own on every page, others take what is left."""
    labels = sorted({record.cell.training.label for record in records})
    own = {"zeroshot": 0, "coop": 1, "cocoop": 2}
    ordered = list(tables.in_order(pd.DataFrame({"dataset": "", "method": labels}))["method"])
    colours: Colours = {}
    for label in ordered:
        place = own.pop(kind(label), None)
        if place is not None:
            colours[label] = place
    free = (index for index in range(3, 3 + len(ordered)))
    return {label: colours[label] if label in colours else next(free) for label in ordered}


def _summary(frame: pd.DataFrame) -> Iterator[str]:
    """Put the main comparison of a base-to-new table into words."""
    method = first(frame, "cocoop") or first(frame, "coop")
    if not method or not {"base", "new", "H"} <= set(frame.columns):
        return
    average = frame[frame["dataset"] == AVERAGE].set_index("method")
    if average.empty:  # a single dataset is its own average
        average = frame.set_index("method").assign(datasets=1)
    covered = average["datasets"]
    count = int(covered[method])
    only = frame["dataset"][frame["method"] == method].iloc[0]
    where = f"On average over {count} datasets" if count > 1 else f"On {only}"
    score, h = (f"{average[name][method]:.2f}" for name in ("new", "H"))
    yield f"{where}, {method} has {score} % of the images of new classes right, with H at {h}"
    for other in (first(frame, "coop"), first(frame, "zeroshot")):
        if other and other != method and covered[other] == count:
            new, h = (_points(average[name][method] - average[name][other]) for name in ("new", "H"))
            yield f"{new} and {h} points against {other}"


def _percent(share: float) -> str:
    """Return a probability in whole percent, never 0 or 100 for what is only near them."""
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return "<1\N{NO-BREAK SPACE}%" if share < 0.5 else ">99\N{NO-BREAK SPACE}%"
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _points(gain: float) -> str:
    return f"{round(gain, 2) + 0.0:+.2f}".replace("-", "−")


def _figures(frame: pd.DataFrame, records: Sequence[Record], colours: Colours) -> Iterator[Figure]:
    """Yield the plots that these results can fill."""
    if not frame.empty:
        tradeoff = plots.tradeoff(frame, colours)
        if tradeoff:
            words = "Base against new classes. Thin lines join one dataset, light curves points of equal H."
            yield Figure(Markup(tradeoff), words)
        method = first(frame, "cocoop")
        for other in (first(frame, "coop"), first(frame, "zeroshot")):
            bars = plots.gains(frame, method, other, colours) if method and other else None
            if bars:
                yield Figure(Markup(bars), f"What {method} gains over {other}, by dataset.")
    losses = plots.losses(records, colours)
    if losses:
        words = (
            "Training loss, the mean of each epoch and over seeds. Methods differ in epochs and batch size."
        )
        yield Figure(Markup(losses), words)


def _by_seed(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one row a record, in the order of the tables, then by seed and subset."""
    ordered = sorted(records, key=lambda r: (r.cell.training.seed, r.cell.testing.subset, r.cell.key))
    frame = pd.DataFrame(
        {
            "dataset": [record.cell.testing.dataset for record in ordered],
            "method": [record.cell.training.label for record in ordered],
            "place": range(len(ordered)),
        }
    )
    rows = [ordered[place] for place in tables.in_order(frame)["place"]]
    return [
        {
            "dataset": record.cell.testing.dataset,
            "method": record.cell.training.label,
            "seed": record.cell.training.seed if record.cell.training.recipe else "–",
            "classes": record.cell.testing.subset,
            "accuracy": record.accuracy,
            "correct": record.correct,
            "total": record.total,
            "metrics": record.metrics,
        }
        for record in rows
    ]


def _metrics(records: Sequence[Record]) -> list[str]:
    return sorted({name for record in records for name in record.metrics} - {"accuracy"})
