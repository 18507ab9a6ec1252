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
    """What one part found.

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
    found = killed_writers.run(kills=40, seed=seed)
    rows = [("`cocoop run`, then finished", len(hits), len(differing))]
    rows += [(name, 40, len(problems)) for name, problems in found.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    table = _table(("killed", "kills", "lost or wrong"), rows)
    problems = [problem for each in found.values() for problem in each]
    return Part(table, [*differing, *problems])


def disturbance_parts(seed: int) -> Part:
    """Fill disks, move clocks, write twice at once."""
    found = disturbances.run(every=1, times=10)
    rows = [(name, tried, len(problems)) for name, (tried, problems) in found.items()]
    wrong = [problem for _, problems in found.values() for problem in problems]
    return Part(_table(("disturbance", "tried", "lost or wrong"), rows), wrong)


def damage_parts(seed: int) -> Part:
    """Damage every kind of file that is read back."""
    found, wrong = corruption.run(flips=60, seed=seed)
    kinds = (corruption.DETECTED, corruption.REBUILT, corruption.SAME, corruption.WRONG)
    rows = [(name, counts.total(), *(counts[kind] for kind in kinds)) for name, counts in found.items()]
    return Part(_table(("files", "damages", *kinds), rows), wrong)


def hostile_parts(seed: int) -> Part:
    """Feed what was made to do harm."""
    found = hostile.run(seed)
    rows = [
        (
            kind,
            each.tried,
            each.refused,
            each.accepted,
            len(each.failures),
            f"{each.slowest:.1f}",
            f"{each.largest:.0f}",
        )
        for kind, each in [*found.kinds.items(), ("all", found)]
    ]
    head = ("input", "cases", "refused", "read", "did harm", "slowest, s", "most memory, MiB")
    return Part(_table(head, rows), list(found.failures))


def server_parts(seed: int) -> Part:
    """Load the server."""
    found = serving.run(requests=10_000, seed=seed)
    rows = [
        ("requests answered", found.served),
        ("refused, as they must be", found.refused),
        ("answered wrongly or not at all", found.wrong),
        ("slow clients sent away", found.slow),
        ("requests whose sender went away", found.cancelled),
        ("requests a second", f"{found.per_second:.0f}"),
        ("half of the answers within, ms", f"{found.p50_ms:.0f}"),
        ("99 of 100 within, ms", f"{found.p99_ms:.0f}"),
        ("memory after the first tenth, MiB", f"{found.memory_start_mib:.0f}"),
        ("memory at the end, MiB", f"{found.memory_end_mib:.0f}"),
    ]
    return Part(_table(("`cocoop serve`", "found"), rows), list(found.problems))


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
    for name in [each.value for each in part] if part else PARTS:
        start = time.monotonic()
        found = PARTS[name](seed)
        foot = f"{_place()}; seed {seed}, {time.monotonic() - start:.0f} s."
        print(f"{found.table}\n\n{foot}\n", flush=True)
        if write:
            write_text(PAGE, _inserted(PAGE.read_text(encoding="utf-8"), name, f"{found.table}\n\n{foot}"))
        wrong += found.wrong
    for each in wrong:
        print(f"WRONG: {each}")
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
