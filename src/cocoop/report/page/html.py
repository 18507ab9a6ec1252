"""A run folder as one page: tables, plots, examples and how it was run, in a single file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cocoop.experiments.aggregate import AVERAGE
from cocoop.experiments.store import Record, Store
from cocoop.report.page import examples
from cocoop.report.page.confusion import confusions
from cocoop.report.page.facts import facts
from cocoop.report.plots.figures import Colours, cost, figures
from cocoop.report.plots.svg import DARK, SERIES
from cocoop.report.tables import tables
from cocoop.report.tables.blocks import first, kind, table_blocks
from cocoop.report.tables.results import Results, results
from cocoop.report.tables.seeds import in_order
from cocoop.utils.display import visible
from cocoop.utils.files import write_text

# what the first sentence on a table is about: the first of these columns that it has
_SCORES = {
    "all": "all images",
    "new": "the images of new classes",
    "target": "the images of the target",
}


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
    found = list(results(list(store.records())))
    records = [record for each in found for record in each.records]
    colours = _colours([r for each in found if each.plan.varies != "settings" for r in each.records])
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment.get_template("page.html.j2").render(
        colours=colours,
        palette=list(zip(SERIES, DARK, strict=True)),
        methods={record.cell.training.method for record in records},
        protocols=[_protocol(each, store, colours, root) for each in found],
        facts=facts(records),
        cost=list(cost(records, colours)),
        folder=store.folder.resolve().name,
    )


def _protocol(found: Results, store: Store, colours: Colours, root: str | Path | None) -> dict[str, Any]:
    """Return what the page shows of one protocol."""
    frame, compares = found.frame, found.plan.varies == "methods"
    blocks = [] if frame.empty else list(table_blocks(frame, found.learned))
    return {
        "name": found.name,
        "plan": found.plan,
        "columns": [] if frame.empty else tables.values(frame),
        "blocks": blocks,
        "summary": list(_summary(frame)) if compares and not frame.empty else [],
        "notes": [] if frame.empty else tables.notes(frame, found.records),
        "figures": list(figures(found, store, colours)),
        "seeds": in_order(found.records),
        "metrics": sorted({name for record in found.records for name in record.metrics} - {"accuracy"}),
        "confusions": list(confusions(store, found.records)) if compares else [],
        "examples": list(examples.groups(store, found.records, root)) if compares else [],
    }


def _colours(records: Sequence[Record]) -> Colours:
    """Number the methods' colours: the paper's have their own on every page, others take what is left."""
    ordered = sorted({record.cell.training.label for record in records}, key=tables.rank)
    own = {"zeroshot": 0, "coop": 1, "cocoop": 2}
    colours: dict[str, int] = {}
    for label in ordered:
        place = own.pop(kind(label), None)
        if place is not None:
            colours[label] = place
    free = (index for index in range(3, 3 + len(ordered)))
    return {label: colours[label] if label in colours else next(free) for label in ordered}


def _summary(frame: pd.DataFrame) -> Iterator[str]:
    """Put the main comparison of a table into words: accuracy on what was not trained on, and H."""
    method = first(frame, "cocoop") or first(frame, "coop")
    score = next((name for name in _SCORES if name in frame), None)
    if not method or not score:
        return
    average = frame[frame["dataset"] == AVERAGE].set_index("method")
    if average.empty:  # a single dataset is its own average
        average = frame.set_index("method").assign(datasets=1)
    if method not in average.index:
        return
    covered, names = average["datasets"], [name for name in (score, "H") if name in frame]
    count = int(covered[method])
    only = frame["dataset"][frame["method"] == method].iloc[0]
    where = f"On average over {count} datasets" if count > 1 else f"On {only}"
    h = f", with H at {average['H'][method]:.2f}" if "H" in names else ""
    yield f"{where}, {method} has {average[score][method]:.2f} % of {_SCORES[score]} right{h}"
    for other in (first(frame, "coop"), first(frame, "zeroshot")):
        if other and other != method and covered.get(other) == count:
            gains = [_points(average[name][method] - average[name][other]) for name in names]
            yield f"{' and '.join(gains)} points against {other}"


def _shown(value: Any) -> Any:
    """Return what stands on the page for a value: a text must not turn the direction of what follows."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(share: float) -> str:
    """Return a probability in whole percent, never 0 or 100 for what is only near them."""
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return "<1\N{NO-BREAK SPACE}%" if share < 0.5 else ">99\N{NO-BREAK SPACE}%"
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _points(gain: float) -> str:
    return f"{round(gain, 2) + 0.0:+.2f}".replace("-", "−")
