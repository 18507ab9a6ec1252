"""Protocol tables as LaTeX, with the rules of the package booktabs."""

from collections.abc import Collection

import pandas as pd

from cocoop.report.tables import tables
from cocoop.utils.display import visible

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # behind the \\ of a line they would be its arguments
    "<": r"\textless{}",  # LaTeX's first encoding has other characters in these places
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "▼": r"$\blacktriangledown$",
    "“": "``",
    "”": "''",
}


def latex(frame: pd.DataFrame, title: str, notes: Collection[str], learned: Collection[str]) -> str:
    """Return a table environment, one block of rows a dataset; it needs booktabs and amssymb."""
    shown = tables.text(frame, learned)
    columns = [name for name in shown.columns if name not in ("dataset", "method")]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(title)}. {escaped(' '.join(notes))}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(map(escaped, ["method", *columns])) + r" \\",
    ]
    for dataset, part in shown.groupby("dataset", sort=False):
        lines += [
            r"\midrule",
            rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\textbf{{{escaped(str(dataset))}}}}} \\",
        ]
        for row in part[["method", *columns]].itertuples(index=False):
            lines.append(" & ".join(escaped(str(value)) for value in row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it."""
    return "".join(_SPECIAL.get(sign, sign) for sign in visible(" ".join(text.split())))
