"""All fault runs, and the tables of docs/reliability.md that they write.

    python -m audits.faults                 # 15 minutes on two cores; writes docs/reliability.md
    python -m audits.faults --part damage   # one part, printed only

Exits 1 where anything was lost or wrong.
"""

import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from audits import corruption, disturbances, hostile, killed_writers, kills, serving
from benchmarks.measure import machine, versions
from cocoop.utils.files import write_text

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
MARK = "<!-- {part}: written by audits/faults.py -->"


@dataclass(frozen=True)
class Part:
    """What came of one part.

    Attributes:
        table: in Markdown, with a line on how it came about.
        wrong: what was lost or wrong, in words.
    """

    table: str
    wrong: list[str]


def kill_parts(seed: int) -> Part:
    """Kill runs, and whatever writes files."""
    with tempfile.TemporaryDirectory() as root:
        hits, differing = kills.trial(Path(root), 30, random.Random(seed))
    problems_of = killed_writers.run(kills=40, seed=seed)
    rows = [("`cocoop run`, then finished", len(hits), len(differing))]
    rows += [(name, 40, len(problems)) for name, problems in problems_of.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    table = _table(("killed", "kills", "lost or wrong"), rows)
    problems = [problem for problems in problems_of.values() for problem in problems]
    return Part(table, [*differing, *problems])


def disturbance_parts(seed: int) -> Part:
    """Fill disks, move clocks, write twice at once."""
    outcomes = disturbances.run(every=1, times=10)
    rows = [(name, tried, len(problems)) for name, (tried, problems) in outcomes.items()]
    wrong = [problem for _, problems in outcomes.values() for problem in problems]
    return Part(_table(("disturbance", "tried", "lost or wrong"), rows), wrong)


def damage_parts(seed: int) -> Part:
    """Damage every kind of file that is read back."""
    outcomes, wrong = corruption.run(flips=60, seed=seed)
    kinds = (corruption.DETECTED, corruption.REBUILT, corruption.SAME, corruption.WRONG)
    rows = [(name, counts.total(), *(counts[kind] for kind in kinds)) for name, counts in outcomes.items()]
    return Part(_table(("files", "damages", *kinds), rows), wrong)


def hostile_parts(seed: int) -> Part:
    """Feed what was made to do harm."""
    outcome = hostile.run(seed)
    rows = [
        (
            kind,
            counts.tried,
            counts.refused,
            counts.accepted,
            len(counts.failures),
            f"{counts.slowest:.1f}",
            f"{counts.largest:.0f}",
        )
        for kind, counts in [*outcome.kinds.items(), ("all", outcome)]
    ]
    head = ("input", "cases", "refused", "read", "did harm", "slowest, s", "most memory, MiB")
    return Part(_table(head, rows), list(outcome.failures))


def server_parts(seed: int) -> Part:
    """Load the server."""
    outcome = serving.run(requests=10_000, seed=seed)
    rows = [
        ("requests answered", outcome.served),
        ("refused, as they must be", outcome.refused),
        ("answered wrongly or not at all", outcome.wrong),
        ("slow clients sent away", outcome.slow),
        ("requests whose sender went away", outcome.cancelled),
        ("requests a second", f"{outcome.per_second:.0f}"),
        ("half of the answers within, ms", f"{outcome.p50_ms:.0f}"),
        ("99 of 100 within, ms", f"{outcome.p99_ms:.0f}"),
        ("memory after the first tenth, MiB", f"{outcome.memory_start_mib:.0f}"),
        ("memory at the end, MiB", f"{outcome.memory_end_mib:.0f}"),
    ]
    return Part(_table(("`cocoop serve`", "measured"), rows), list(outcome.problems))


PARTS: dict[str, Callable[[int], Part]] = {
    "kills": kill_parts,
    "disturbances": disturbance_parts,
    "damage": damage_parts,
    "hostile": hostile_parts,
    "server": server_parts,
}


class Name(str, Enum):
    """A part."""

    kills = "kills"
    disturbances = "disturbances"
    damage = "damage"
    hostile = "hostile"
    server = "server"


def main(
    part: Annotated[list[Name] | None, typer.Option(help="Only this one; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Of moments, bits and cases.")] = 0,
    write: Annotated[bool, typer.Option(help="Put the tables into docs/reliability.md.")] = True,
) -> None:
    """Try what may go wrong, and say what came of it."""
    wrong: list[str] = []
    for name in [name.value for name in part] if part else PARTS:
        start = time.monotonic()
        result = PARTS[name](seed)
        foot = f"{_place()}; seed {seed}, {time.monotonic() - start:.0f} s."
        print(f"{result.table}\n\n{foot}\n", flush=True)
        if write:
            write_text(PAGE, _inserted(PAGE.read_text(encoding="utf-8"), name, f"{result.table}\n\n{foot}"))
        wrong += result.wrong
    for problem in wrong:
        print(f"WRONG: {problem}")
    sys.exit(bool(wrong))


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    def lines() -> Iterator[str]:
        yield f"| {' | '.join(head)} |"
        yield f"| --- |{' ---: |' * (len(head) - 1)}"
        yield from (f"| {' | '.join(map(str, row))} |" for row in rows)

    return "\n".join(lines())


def _inserted(page: str, part: str, text: str) -> str:
    """Put a text between the two marks of a part."""
    mark = MARK.format(part=part)
    before, _, after = page.split(mark)
    return f"{before}{mark}\n\n{text}\n\n{mark}{after}"


def _place() -> str:
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{machine()}; Python {platform.python_version()}, {used}"


if __name__ == "__main__":
    typer.run(main)
