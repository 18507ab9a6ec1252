"""The page that compares all methods on the embedded data, made from the run folder of a demo.

    cocoop demo --methods all --seeds 1,2,3 --out runs
    python tools/docs_comparison.py runs

It rewrites what stands between the marks in docs/comparison.md, and docs/pictures/comparison.svg.
"""

import re
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
PAGE, PICTURE = DOCS / "comparison.md", DOCS / "pictures" / "comparison.svg"
BEGIN, END = "<!-- made by tools/docs_comparison.py -->", "<!-- end -->"


def main(folder: Path) -> None:
    """Rewrite the page and its picture from a run folder of base-to-new."""
    records = list(Store(folder).records())
    (result,) = results(records)
    picture = accuracy_and_cost(costs(result), colours(records))
    if picture is None:
        raise SystemExit(f"{folder} has no methods that are trained")
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background: white"'  # also on a dark page
    PICTURE.write_text(picture.replace("<svg", head, 1) + "\n")
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{content(result)}\n\n{END}{rest.partition(END)[2]}")


def content(result: Results) -> str:
    """Return the tables in Markdown."""
    frame = result.frame
    average = frame[frame["dataset"] == AVERAGE].sort_values("H", ascending=False, kind="stable")
    scores = tables.text(average, result.learned).drop(columns="dataset")
    cost = shown(costs(result)).drop(columns="H").set_index("method")
    merged = scores.join(cost, on="method")
    environment = result.records[0].environment
    machine = (
        f"{environment.get('machine', '')}, torch {environment['torch']}, cocoop {environment['cocoop']}"
    )
    lines = [line for line in notes(frame, result.records) if "Mean of the datasets" not in line]
    return "\n\n".join(
        [
            tables.grid(merged, ("method",)),
            "\n".join(f"* {line}" for line in [*lines, f"Measured on: {machine}."]),
            "![H over seconds of training, one point a method](pictures/comparison.svg)",
            "<details>\n<summary>Every dataset</summary>",
            tables.markdown(frame[frame["dataset"] != AVERAGE], result.learned),
            "</details>",
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or re.match("-", sys.argv[1]):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
