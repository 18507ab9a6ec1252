"""What two threads cost that wait for each other beside busy processes: spinning, or asleep.

    python -m benchmarks.threads --busy 2

Chains of small matrix products, each in a process of its own: as OpenMP waits by itself, and with
OMP_WAIT_POLICY=PASSIVE, which the command `cocoop` sets. `--busy` processes multiply beside it all the while.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Annotated

import torch
import typer

from benchmarks.measure import machine, versions

SIZES = ((64, 128), (256, 512))  # rows and width of the matrices
PRODUCTS = 20
BUSY = "import torch\na = torch.rand(512, 512)\nwhile True: a @ a"


def chains(repeats: int) -> list[tuple[float, float]]:
    """Return for every size the milliseconds of a chain by the clock, and of the processors; medians."""
    torch.set_num_threads(2)
    found = []
    for rows, width in SIZES:
        start, weight = torch.randn(rows, width), torch.randn(width, width)
        seconds = []
        for _ in range(repeats + 1):
            clock, processors = time.perf_counter(), time.process_time()
            value = start
            for _ in range(PRODUCTS):
                value = torch.relu(value @ weight) / width
            seconds.append((time.perf_counter() - clock, time.process_time() - processors))
        medians = [1000 * statistics.median(each) for each in zip(*seconds[1:], strict=True)]
        found.append((medians[0], medians[1]))
    return found


def bench_threads(busy: int, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Return what `chains` does in a process that spins and in one that sleeps, beside `busy` others."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    code = f"import json\nfrom benchmarks.threads import chains\nprint(json.dumps(chains({repeats})))"
    plain = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    try:
        return {
            name: json.loads(subprocess.check_output([sys.executable, "-c", code], env=plain | policy))
            for name, policy in (("by itself", {}), ("PASSIVE", {"OMP_WAIT_POLICY": "PASSIVE"}))
        }
    finally:
        for other in others:
            other.kill()
            other.wait()


def main(
    busy: Annotated[int, typer.Option(min=0, help="Busy processes beside it.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each chain; medians are shown.")] = 5,
) -> None:
    """Print a table in Markdown."""
    sizes = [f"{rows} × {width}" for rows, width in SIZES]
    print(f"| waiting | {' | '.join(f'{size}, ms | of the processors, ms' for size in sizes)} |")
    print("| --- |" + " ---: |" * 2 * len(sizes))
    for name, found in bench_threads(busy, repeats).items():
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for pair in found for value in pair) + " |")
    print(f"\n{busy} busy processes beside it; {machine()}; {versions()}")


if __name__ == "__main__":
    typer.run(main)
