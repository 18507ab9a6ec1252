"""The table of all kinds; exits 1 where an input did harm."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from audits.hostile.run import KINDS, run


def main(
    kind: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(KINDS)}; all if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
) -> None:
    """Give all inputs to the library and print what became of them."""
    outcome = run(seed, tuple(kind or KINDS))
    table = Table("inputs", title=f"Hostile inputs, seed {seed}", title_justify="left")
    for name in ("tried", "refused", "accepted", "slowest, s", "largest, MiB", "failed"):
        table.add_column(name, justify="right")
    for name, counts in [*outcome.kinds.items(), ("all", outcome)]:
        table.add_row(
            name,
            *map(str, (counts.tried, counts.refused, counts.accepted)),
            f"{counts.slowest:.1f}",
            f"{counts.largest:,.0f}",
            str(len(counts.failures)),
            end_section=name == tuple(outcome.kinds)[-1],
        )
    Console().print(table)
    for failure in outcome.failures:
        print(failure)
    sys.exit(bool(outcome.failures))


if __name__ == "__main__":
    typer.run(main)
