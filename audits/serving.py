"""Load `cocoop serve` on this machine: right answers, clear refusals, slow and vanishing clients, memory.

    python -m audits.serving --requests 10000

The server is a process of its own on a free port of 127.0.0.1, with zero-shot CLIP and a quickly fitted
CoCoOp on the embedded model. Four clients ask without a pause, every tenth time for something that must be
refused; others send a byte now and then, or go away in the middle. Every answer is compared with the
library's own.
Exits 1 where anything went wrong.
"""

import argparse
import io
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

import cocoop
from audits.clients import Known, Load, Outcome, exchange
from audits.forms import png
from cocoop.data.storage import read_bytes

SLOW, VANISHING = 2, 2  # clients beside them
IMAGES, NAMES = 24, 10
LIMITS = {"request_bytes": 2_000_000, "images": 8, "classes": 50, "receiving": 1.5, "silence": 1.5}
SERVER = """
import json, sys
from pathlib import Path
from rich.console import Console
from cocoop.deploy.serve.limits import Limits
from cocoop.deploy.serve.server import serve
serve([Path(sys.argv[1])], "127.0.0.1", 0, Limits(**json.loads(sys.argv[2])), Console(markup=False))
"""


def prepare(folder: Path, rng: random.Random) -> Known:
    """Fit a model into a folder and ask the library about a few images."""
    food = cocoop.open_dataset("emoji/food")
    items = rng.sample(food.items("test"), IMAGES)
    images = [png(read_bytes(food.root, item.path)) for item in items]
    decoded = [Image.open(io.BytesIO(data)) for data in images]
    names = sorted({item.name for item in items})
    model = cocoop.CoCoOp("tiny-clip", epochs=1).fit(decoded, [item.name for item in items])
    model.save(folder)
    lists = [names[:NAMES], rng.sample(names, NAMES), ["a fruit", "something baked", "<b>violin</b>"]]
    models = {"zero-shot": cocoop.ZeroShot("tiny-clip", template=model.template), "cocoop": model}
    expected = {
        (label, place): each.predict_proba(decoded, classes)
        for label, each in models.items()
        for place, classes in enumerate(lists)
    }
    return Known(images, lists, expected)


@contextmanager
def serving(folder: Path, problems: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """Run the server for a model; at the end it must stop when told to, silent, and leave nothing behind."""
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", SERVER, str(folder), json.dumps(LIMITS)]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with (
        (folder.parent / "log").open("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            address = re.search(r"http://127.0.0.1:(\d+)/", process.stdout.readline())
            assert address, "the server did not start"
            yield int(address[1]), psutil.Process(process.pid)
            process.send_signal(signal.SIGINT)
            if process.wait(timeout=30) != 0:
                problems.append(f"the server ended with {process.returncode}")
        finally:
            process.kill()
        log.seek(0)
        if said := log.read():
            problems.append(f"the server said: {said[-2000:]}")
        if left := list(temporary.iterdir()):
            problems.append(f"files were left behind: {left}")


def run(requests: int, seed: int) -> Outcome:
    """Load a server with so many requests and return what happened."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "model")
        known = prepare(folder, random.Random(seed))
        problems: list[str] = []
        with serving(folder, problems) as (port, server):
            load = Load(port, known, server)
            with load.connection() as connection:
                exchange(connection, "GET", "/api/models", ({}, b""))  # it is up
                files = server.num_fds() - 1
            besides = [load.trickle] * SLOW + [load.vanish] * VANISHING
            threads = [
                threading.Thread(target=kind, args=(random.Random(seed + i),))
                for i, kind in enumerate(besides)
            ]
            for thread in threads:
                thread.start()
            load.steady(requests, seed)
            load.over.set()
            for thread in threads:
                thread.join()
            load.burst()
            with load.connection() as connection:
                load.ask(connection, requests, random.Random(seed))
            patience = time.monotonic() + 10
            while (more := server.num_fds() - files) > 0 and time.monotonic() < patience:
                time.sleep(0.1)
            if more > 0:
                problems.append(f"{more} files or connections stayed open")
    outcome = load.outcome
    outcome.problems += problems
    hundredths = statistics.quantiles(load.seconds, n=100)
    outcome.p50_ms, outcome.p99_ms = 1000 * hundredths[49], 1000 * hundredths[98]
    return outcome


def main() -> None:
    """Print what happened as a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcome = run(options.requests, options.seed)
    table = Table("what", "how much")
    for each in fields(outcome):
        value = getattr(outcome, each.name)
        if each.name != "problems":
            table.add_row(each.name, f"{value:,.1f}" if isinstance(value, float) else f"{value:,}")
    console = Console()
    console.print(table)
    for problem in outcome.problems:
        console.print(problem, style="red", markup=False)
    sys.exit(bool(outcome.problems or outcome.wrong))


if __name__ == "__main__":
    main()
