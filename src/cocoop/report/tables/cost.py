"""What methods cost beside what they score: time to train, time to answer, numbers learned, memory kept."""

from collections.abc import Sequence
from statistics import mean

import pandas as pd

from cocoop.experiments.aggregate import AVERAGE, grouped
from cocoop.experiments.record import Record
from cocoop.report.tables.blocks import SCORES
from cocoop.report.tables.results import Results
from cocoop.report.tables.tables import rank, values


def costs(result: Results) -> pd.DataFrame:
    """Return one row for every method of a protocol: its score and its cost, means over its cells.

    The score is H or what else the protocol compares methods by, of shots that of the most; the table is
    empty where a protocol compares settings.

    Columns: method, the score, "train, s" (all steps, and what is computed in closed form, from image
    features), "answer, ms" (an image's logits from its features, the text features of the class names
    included), "learned" (numbers) and "kept, MB" (all that is saved beside the backbone).
    """
    scores = values(result.frame) if not result.frame.empty else []
    if not scores or result.protocol.varies == "settings":
        return pd.DataFrame()
    score = next((name for name in SCORES if name in scores), scores[-1])
    averages = _averages(result.frame, score)
    groups = grouped(result.records, lambda record: record.cell.training.label)
    labels = sorted(groups, key=lambda group: rank(group[0]))
    rows = [{"method": label, score: averages.get(label), **_cost(group)} for label, group in labels]
    return pd.DataFrame(rows)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table as strings: scores with two decimals, costs with two digits that count."""
    method, score, *amounts = frame.columns
    columns = {method: frame[method], score: frame[score].map(_score)}
    return pd.DataFrame({**columns, **{name: frame[name].map(_amount) for name in amounts}})


def _score(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"


def _amount(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value else "–"


def _averages(frame: pd.DataFrame, score: str) -> dict[str, float]:
    average = frame[frame["dataset"] == AVERAGE]
    rows = frame if average.empty else average
    means = rows.groupby("method")[score].mean()
    return {str(label): float(mean) for label, mean in means.items()}


def _cost(records: Sequence[Record]) -> dict[str, float]:
    trained = {record.cell.training.key: record for record in records}.values()
    return {
        "train, s": mean(record.seconds_to_train for record in trained),
        "answer, ms": 1000 * mean(record.seconds_per_image for record in records),
        "learned": mean(float(record.parameters) for record in trained),
        "kept, MB": mean(record.learned_bytes / 1e6 for record in trained),
    }
