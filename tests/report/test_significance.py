"""p values against plain resampling and scipy's tests, in every format; and tables that LaTeX takes."""

import io
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy import stats

from cocoop.cli import main
from cocoop.errors import UsageError
from cocoop.experiments.aggregate import harmonic_mean
from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.experiments.store import Store
from cocoop.methods._settings import resolve
from cocoop.report.show import report
from cocoop.report.tables.results import Results, results
from cocoop.report.tables.significance import significance
from tests.report.test_published import record

TOTAL = 200


def filled(
    folder: Path,
    protocol: str = "base-to-new",
    datasets: Sequence[str] = ("a", "b"),
    seeds: int = 1,
    better: float = 0.15,
    methods: Sequence[str] = ("zeroshot", "coop"),
) -> Store:
    """A run folder with predictions that are right by chance, for CoOp more often."""
    store, rng = Store(folder), np.random.default_rng(0)
    settings = Settings(
        tuple(datasets), tuple(map(resolve, methods)), tuple(range(1, seeds + 1)), 16, "toy", "0"
    )
    for cell in PROTOCOLS.get(protocol).cells(settings):
        chance = 0.6 + better * cell.training.learns
        right = torch.tensor(rng.random(TOTAL) < chance)
        labels = torch.zeros(TOTAL, dtype=torch.int32)
        top = {
            "classes": (~right).to(torch.int32)[:, None],
            "probabilities": torch.ones(TOTAL, 1),
            "labels": labels,
        }
        made = record(cell, 50).model_copy(update={"correct": int(right.sum()), "total": TOTAL})
        store.write(made, top)
    return store


def only(store: Store) -> Results:
    (found,) = results(list(store.records()))
    return found


def hits(store: Store, dataset: str, subset: str, learns: bool) -> np.ndarray:
    """Rows are seeds."""
    found = [
        store.predictions(each)
        for each in only(store).records
        if (each.cell.testing.dataset, each.cell.testing.subset) == (dataset, subset)
        and each.cell.training.learns == learns
    ]
    return np.stack([(each.classes[:, 0] == each.labels).numpy() for each in found])


def table(store: Store, reference: str = "zeroshot") -> pd.Series:
    result = only(store)
    column = significance(result, store, reference)
    return pd.Series(column.to_numpy(), pd.MultiIndex.from_frame(result.frame[["dataset", "method"]]))


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_bootstrap_is_that_of_drawing_images(seeds: int, tmp_path: Path) -> None:
    store = filled(tmp_path, seeds=seeds, better=0.07)
    rng = np.random.default_rng(1)
    differences, parts = [], {}
    for _ in range(4000):
        scores = []
        for dataset in "ab":
            drawn = {half: rng.integers(TOTAL, size=TOTAL) for half in ("base", "new")}
            for learns in (True, False):
                for half, images in drawn.items():
                    key = (dataset, half, learns)
                    if key not in parts:
                        parts[key] = hits(store, dataset, half, learns).mean(0)
                    scores.append(parts[key][images].mean())
        a, b = np.array(scores).reshape(2, 2, 2)
        average = (a + b) / 2
        differences.append([harmonic_mean(*x[0]) - harmonic_mean(*x[1]) for x in (a, b, average)])
    tails = np.array(differences)
    expected = 2 * np.minimum((tails <= 0).mean(0), (tails >= 0).mean(0))
    found = table(store)
    for row, value in zip(("a", "b", "average"), expected, strict=True):
        assert found[row, "coop"] == pytest.approx(value, abs=0.05), row
        assert np.isnan(found[row, "zeroshot"])


def test_from_five_seeds_on_seeds_are_compared(tmp_path: Path) -> None:
    store = filled(tmp_path, seeds=5)
    plain = {
        half: (hits(store, "a", half, True).mean(1), hits(store, "a", half, False).mean(1))
        for half in ("base", "new")
    }
    h = [[harmonic_mean(b, n) for b, n in zip(*(plain[x][i] for x in plain), strict=True)] for i in (0, 1)]
    expected = stats.ttest_rel(h[0], np.broadcast_to(h[1], 5)).pvalue
    assert table(store)["a", "coop"] == pytest.approx(expected)


@pytest.mark.parametrize("protocol", ["class-incremental", "cross-dataset", "few-shot"])
def test_other_scores(protocol: str, tmp_path: Path) -> None:
    found = table(filled(tmp_path, protocol, better=0.3))
    learned = found[[row for row in found.index if row[1] == "coop"]]
    assert (learned < 0.001).all()
    assert found.drop(learned.index).isna().all()


def test_the_same_answers_are_no_difference(tmp_path: Path) -> None:
    store = filled(tmp_path)
    for each in list(store.records()):
        top = {
            "classes": torch.zeros(TOTAL, 1, dtype=torch.int32),
            "probabilities": torch.ones(TOTAL, 1),
            "labels": torch.zeros(TOTAL, dtype=torch.int32),
        }
        store.write(each.model_copy(update={"correct": TOTAL}), top)
    assert (table(store).dropna() == 1).all()


def test_what_is_not_there_is_not_compared(tmp_path: Path) -> None:
    store = filled(tmp_path)
    for path in tmp_path.glob("records/*/b/zeroshot*base*.json"):
        path.unlink()
    found = table(store)
    assert found["a", "coop"] < 0.05
    assert np.isnan(found["b", "coop"])
    assert np.isnan(found["average", "coop"])
    with pytest.raises(UsageError, match="unknown method of this table 'kgcoop'"):
        table(store, "kgcoop")


def printed(folder: Path, format: str) -> str:
    console = Console(record=True, width=150, file=io.StringIO())
    report(folder, format, console, against="zeroshot")
    return console.export_text()


def test_every_format_has_the_column(tmp_path: Path) -> None:
    filled(tmp_path, better=0.3)
    for format, form in (("table", "<0.001"), ("md", "<0.001"), ("latex", "& textless{}0.001")):
        shown = printed(tmp_path, format)
        assert form in shown.replace("\\", "")
        assert "paired bootstrap over the test images" in " ".join(shown.replace("\\", "").split())
    frame = pd.read_csv(io.StringIO(printed(tmp_path, "csv")))
    assert len(frame) == 8
    assert (frame.groupby(["dataset", "method"])["p"].nunique(dropna=False) == 1).all()
    assert (frame.loc[frame["method"].eq("coop"), "p"] < 0.001).all()
    assert frame.loc[frame["method"].eq("zeroshot"), "p"].isna().all()
    assert frame.pivot_table("accuracy", ["dataset", "images"], "method").shape == (4, 2)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path)
    main_code = []
    for words in (["--against", "zeroshot"], ["--against", "nobody"]):
        with pytest.raises(SystemExit) as stopped:
            main(["report", str(tmp_path), *words])
        main_code.append(stopped.value.code or 0)
    assert main_code == [0, 2]
    assert "nobody" in capsys.readouterr().err


@pytest.mark.latex
@pytest.mark.parametrize("protocol", ["base-to-new", "cross-dataset", "class-incremental", "few-shot"])
def test_latex_compiles(protocol: str, tmp_path: Path) -> None:
    assert shutil.which("pdflatex"), "Debian has it as texlive-latex-recommended"
    filled(tmp_path / "runs", protocol, datasets=("a_1 & 50% $x$ {y} ~^\\", "é “b” #[*]"), seeds=3)
    document = "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage{amssymb,booktabs}",
            r"\begin{document}",
            printed(tmp_path / "runs", "latex"),
            r"\end{document}",
        ]
    )
    (tmp_path / "tables.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").read_bytes().startswith(b"%PDF")
