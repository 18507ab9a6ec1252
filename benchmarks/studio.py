"""How long a person waits for the studio: 10,000 images, from the command to every click.

    python -m benchmarks.studio

The embedded drawings are written into a folder again and again, in other sizes and tints. `cocoop studio`
opens it as a person would; what a page asks for is asked over HTTP, while the images are still looked at
and when all were. Seconds are from the start of the command; a second start finds the features kept.
"""

import http.client
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from PIL import Image, ImageChops

from benchmarks.measure import machine, versions
from cocoop.data import open_dataset, open_image

GROUPS = ("emoji/food", "emoji/animals", "emoji/activities", "emoji/travel")
NAMES = 20
SIZES = (160, 320)  # pixels an edge, from and to
PAGE = 100  # images that a page asks for at a time


def write_images(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Write so many drawings, each in a size and a tint of its own; return the names of most classes."""
    rng = random.Random(seed)
    drawings = []
    for group in GROUPS:
        data = open_dataset(group)
        for items in data.splits.values():
            drawings += [(item.name, open_image(data.root, item.path)) for item in items]
    folder.mkdir(parents=True)
    rng.shuffle(drawings)
    for number in range(count):
        _, drawing = drawings[number % len(drawings)]
        edge = rng.randint(*SIZES)
        tint = Image.new("RGB", (edge, edge), tuple(rng.randint(180, 255) for _ in range(3)))
        image = ImageChops.multiply(drawing.resize((edge, edge)), tint)
        image.save(folder / f"{number:05d}.jpg", quality=85)
    return sorted({name for name, _ in drawings[: 10 * NAMES]})[:NAMES]


class Page:
    """What a page does: requests on one connection, each timed."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.milliseconds: dict[str, list[float]] = {}

    def ask(self, method: str, path: str, body: Any = None, what: str = "") -> Any:
        """Send a request and read the answer; the time counts under `what`."""
        data = None if body is None else json.dumps(body)
        head = {} if data is None else {"content-type": "application/json"}
        start = time.perf_counter()
        self._connection.request(method, path, data, head)
        response = self._connection.getresponse()
        answer = response.read()
        spent = 1000 * (time.perf_counter() - start)
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {answer[:500]!r}")
        if what:
            self.milliseconds.setdefault(what, []).append(spent)
        return (
            json.loads(answer) if response.headers["content-type"].startswith("application/json") else answer
        )

    def wait(self, until: Callable[[Any], bool], seconds: float = 1800) -> float:
        """Wait until the state is as it should be; return the clock then."""
        end = time.perf_counter() + seconds
        while not until(self.ask("GET", "/api/state")):
            if time.perf_counter() > end:
                raise TimeoutError("the studio does not get ready")
            time.sleep(0.02)
        return time.perf_counter()


def idle(state: Any) -> bool:
    """Whether nothing runs."""
    return not state["busy"]


def looked_at(state: Any) -> bool:
    """Whether all features are there."""
    return bool(state["features"]["done"] == state["features"]["total"] > 0)


def trained(state: Any) -> bool:
    """Whether there is a model."""
    return state["model"] is not None


def suggested(state: Any) -> bool:
    """Whether names are suggested."""
    return bool(state["suggestions"]["by"])


@contextmanager
def studio(folder: Path, cache: Path) -> Iterator[tuple[Page, float, psutil.Process]]:
    """Start the command; yield a page, when the command was started, and the process."""
    command = [
        sys.executable,
        "-m",
        "cocoop",
        "studio",
        str(folder),
        "--port",
        "0",
        "--backbone",
        "tiny-clip",
    ]
    begin = time.perf_counter()
    environment = {**os.environ, "COCOOP_CACHE": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        found = re.search(r":(\d+)/", server.stdout.readline())
        assert found
        try:
            yield Page(int(found[1])), begin, psutil.Process(server.pid)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)


def click(page: Page, names: list[str], rounds: int, when: str, rng: random.Random) -> None:
    """Do what a person does, each thing so many times."""
    total = page.ask("GET", "/api/state")["images"]
    for number in range(rounds):
        place = rng.randrange(max(1, total - PAGE))
        page.ask("GET", "/api/state", what=f"state, {when}")
        shown = page.ask(
            "GET", f"/api/images?offset={place}&count={PAGE}", what=f"scroll to 100 images, {when}"
        )
        ids = [item["id"] for item in shown["items"]]
        page.ask("GET", f"/api/thumb/{rng.choice(ids)}", what=f"a thumbnail, {when}")
        page.ask("POST", "/api/label", {"ids": ids[:1], "name": rng.choice(names)}, f"label an image, {when}")
        page.ask("POST", "/api/label", {"ids": ids, "name": rng.choice(names)}, f"label 100 images, {when}")
        page.ask("POST", "/api/undo", what=f"undo, {when}")
        page.ask("POST", "/api/redo", what=f"redo, {when}")
        page.ask("POST", "/api/undo")
        for view in ("next", "unsure", "wrong", "suspicious"):
            page.ask("GET", f"/api/images?view={view}&count={PAGE}", what=f"the view {view}, {when}")
        page.ask("GET", "/api/groups", what=f"groups, {when}")
        listed = [{"name": name} for name in [*names, f"thing {number}"]]
        page.ask("PUT", "/api/names", {"names": listed}, what=f"type a name, {when}")
        page.ask("POST", "/api/try", {"names": names[:5]}, what=f"try five names, {when}")


def bench_studio(images: int, rounds: int) -> tuple[dict[str, float], Mapping[str, list[float]]]:
    """Return seconds and mebibytes by what they are of, and milliseconds of every click."""
    rng, found = random.Random(1), dict[str, float]()
    with tempfile.TemporaryDirectory() as temp:
        folder, cache = Path(temp) / "images", Path(temp) / "cache"
        names = write_images(folder, images)
        with studio(folder, cache) as (page, begin, process):
            found["first answer, s"] = time.perf_counter() - begin
            first = page.ask("GET", "/api/images?count=1")["items"][0]["id"]
            page.ask("GET", f"/api/thumb/{first}")
            found["first thumbnail, s"] = time.perf_counter() - begin
            page.ask("PUT", "/api/names", {"names": [{"name": name} for name in names]})
            while not page.ask("GET", "/api/images?count=1")["items"][0]["suggestion"]:
                time.sleep(0.02)
            found["first suggestion, s"] = time.perf_counter() - begin
            while not page.ask("GET", "/api/groups")["groups"]:
                time.sleep(0.02)
            found["first groups, s"] = time.perf_counter() - begin
            peak = _watch(process)
            click(page, names, rounds, "features running", rng)
            found["share of features when the clicks were done"] = _share(page)
            found["all features, s"] = page.wait(looked_at) - begin
            found["everything found out, s"] = page.wait(idle) - begin
            _label(page, names, rng)
            page.wait(idle)
            start = time.perf_counter()
            page.ask("POST", "/api/train")
            found["training on 400 labels, s"] = page.wait(trained) - start
            page.wait(idle)
            click(page, names, rounds, "with a model", rng)
            for _ in range(rounds):
                page.ask("GET", "/api/evaluation", what="confusion, with a model")
            found["memory at most, MiB"] = peak()
            clicks = page.milliseconds
        with studio(folder, cache) as (page, begin, process):
            page.wait(looked_at)
            page.wait(suggested)
            found["second start until all suggestions, s"] = time.perf_counter() - begin
    return found, clicks


def _label(page: Page, names: list[str], rng: random.Random) -> None:
    """Label images by what is suggested, 20 of a name."""
    for name in names:
        listed = page.ask("GET", f"/api/images?view=unlabelled&label={name.replace(' ', '%20')}&count=20")
        page.ask("POST", "/api/label", {"ids": [item["id"] for item in listed["items"]], "name": name})


def _share(page: Page) -> float:
    features = page.ask("GET", "/api/state")["features"]
    return float(features["done"] / features["total"])


def _watch(process: psutil.Process) -> Any:
    """Return what stops watching a process and returns the most memory that it had, in MiB."""
    seen, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            seen[0] = max(seen[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def done() -> float:
        stop.set()
        thread.join()
        return seen[0] / (1 << 20)

    return done


def percentile(values: list[float], share: float) -> float:
    """Return the value that so many do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main(
    images: Annotated[int, typer.Option(min=200, help="Drawings in the folder.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Times that everything is clicked.")] = 40,
) -> None:
    """Print two tables in Markdown."""
    found, clicks = bench_studio(images, rounds)
    print(f"| {images:,} images | |\n| --- | ---: |")
    for what, value in found.items():
        print(f"| {what} | {value:.2f} |")
    print("\n| click | median, ms | 95 of 100, ms | longest, ms |\n| --- | ---: | ---: | ---: |")
    for what, each in clicks.items():
        print(f"| {what} | {statistics.median(each):.0f} | {percentile(each, 0.95):.0f} | {max(each):.0f} |")
    print(f"\n{machine()}; {versions()}; {rounds} clicks of each; load: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)
