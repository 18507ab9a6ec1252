"""A run folder as one page: tables, plots, examples and how it was run, in a single file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cocoop.experiments.aggregate import AVERAGE
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.methods import baseline, facts_of, ordered
from cocoop.report.page import examples
from cocoop.report.page.confusion import confusions
from cocoop.report.page.settings import settings
from cocoop.report.plots.figures import Colours, figures, training_figures
from cocoop.report.plots.svg import DARK, SERIES
from cocoop.report.tables import tables
from cocoop.report.tables.blocks import CLOSELY, leading, method_of, newest, references, table_blocks
from cocoop.report.tables.cost import costs, shown
from cocoop.report.tables.notes import notes
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
    protocols = list(results(list(store.records())))
    records = [record for result in protocols for record in result.records]
    methods = {record.cell.training.method for record in records}
    hues = colours([r for r in records if PROTOCOLS.get(r.cell.protocol).varies != "settings"])
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
        colours=hues,
        closely=CLOSELY,
        palette=list(zip(SERIES, DARK, strict=True)),
        methods=[facts_of(name) for name in ordered() if name in methods],
        protocols=[_protocol(result, store, hues, root) for result in protocols],
        settings=settings(records),
        training_figures=list(training_figures(records, hues)),
        folder=store.folder.resolve().name,
    )


def _protocol(result: Results, store: Store, colours: Colours, root: str | Path | None) -> dict[str, Any]:
    """Return what the page shows of one protocol."""
    frame, compares = result.frame, result.protocol.varies == "methods"
    blocks = [] if frame.empty else list(table_blocks(frame, result.learned))
    labels = None if frame.empty else leading(frame, CLOSELY)
    closely = [record for record in result.records if not labels or record.cell.training.label in labels]
    return {
        "name": result.name,
        "protocol": result.protocol,
        "columns": tables.values(frame),
        "blocks": blocks,
        "summary": list(_summary(frame)) if compares and not frame.empty else [],
        "notes": [] if frame.empty else notes(frame, result.records),
        "cost": _table(costs(result)),
        "figures": list(figures(result, store, colours)),
        "seeds": in_order(result.records),
        "metrics": sorted({name for record in result.records for name in record.metrics} - {"accuracy"}),
        "confusions": list(confusions(store, closely)) if compares else [],
        "examples": list(examples.groups(store, closely, root)) if compares else [],
    }


def _table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Return a table of costs as its heads and rows; None where it is empty."""
    if frame.empty:
        return None
    return {"columns": list(frame.columns[1:]), "rows": shown(frame).to_numpy().tolist()}


def colours(records: Sequence[Record]) -> Colours:
    """Number the colours of the methods of a page in their order; the first is that of zero-shot alone."""
    labels = sorted({record.cell.training.label for record in records}, key=tables.rank)
    first = 0 if any(method_of(label) == baseline() for label in labels) else 1
    return {label: number for number, label in enumerate(labels, start=first)}


def _summary(frame: pd.DataFrame) -> Iterator[str]:
    """Put the main comparison of a table into words: accuracy on what was not trained on, and H."""
    method = newest(frame)
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
    for reference in references(frame, method):
        if covered.get(reference) == count:
            gains = [_points(average[name][method] - average[name][reference]) for name in names]
            yield f"{' and '.join(gains)} points against {reference}"


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
