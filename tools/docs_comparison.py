"""The page that compares all methods on the embedded data, made from the run folders of demos.

    cocoop demo --methods all --seeds 1,2,3 --out runs
    cocoop demo --methods all --seeds 1,2,3 --out few \\
        --protocol few-shot --datasets emoji/activities,emoji/food
    cocoop demo --methods all --seeds 1,2,3 --out inside \\
        --backbone tiny-clip-vit --datasets emoji/activities,emoji/food
    python tools/docs_comparison.py runs few inside-towers=inside

For each folder, it rewrites what stands between the marks of its protocol, or of the name before it, in
docs/comparison.md, and docs/pictures/NAME.svg.
"""

import sys
from pathlib import Path

from cocoop.experiments.aggregate import AVERAGE
from cocoop.experiments.store import Store
from cocoop.report.page.html import colours
from cocoop.report.plots.cost import accuracy_and_cost
from cocoop.report.tables import tables
from cocoop.report.tables.cost import costs, shown
from cocoop.report.tables.notes import notes
from cocoop.report.tables.results import Results, results

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "comparison.md"


def main(folder: Path, name: str = "") -> None:
    """Rewrite one part of the page, and its picture, by a name or that of the protocol."""
    records = list(Store(folder).records())
    (result,) = results(records)
    picture = accuracy_and_cost(costs(result), colours(records))
    if picture is None:
        raise SystemExit(f"{folder} has no methods that are trained")
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background: white"'  # also on a dark page
    name = name or result.name
    (DOCS / "pictures" / f"{name}.svg").write_text(picture.replace("<svg", head, 1) + "\n")
    begin, end = (f"<!-- {name} {mark} -->" for mark in ("begins", "ends"))
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(f"{before}{begin}\n\n{content(result, name)}\n\n{end}{rest.partition(end)[2]}")


def content(result: Results, name: str) -> str:
    """Return the tables in Markdown, with the picture of a name."""
    cost = costs(result)
    score = str(cost.columns[1])
    average = result.frame[result.frame["dataset"] == AVERAGE]
    average = average.sort_values(score, ascending=False, kind="stable")
    scores = tables.text(average, result.learned).drop(columns="dataset")
    labels = average["method"]  # in the table, those that see test images say so
    amounts = shown(cost).drop(columns=score).set_index("method").loc[labels]
    merged = scores.join(amounts.set_index(scores.index))
    environment = result.records[0].environment
    machine = (
        f"{environment.get('machine', '')}, torch {environment['torch']}, cocoop {environment['cocoop']}"
    )
    lines = [line for line in notes(result.frame, result.records) if "Mean of the datasets" not in line]
    single = result.frame[result.frame["dataset"] != AVERAGE]
    return "\n\n".join(
        [
            tables.grid(merged, ("method",)),
            "\n".join(f"* {line}" for line in [*lines, f"Measured on: {machine}."]),
            f"![{score} over seconds of training, one point a method](pictures/{name}.svg)",
            "<details>\n<summary>Every dataset</summary>",
            tables.markdown(single, result.learned),
            "</details>",
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    for argument in sys.argv[1:]:
        called, _, path = argument.rpartition("=")
        main(Path(path), called)
