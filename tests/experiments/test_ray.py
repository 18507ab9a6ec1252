"""A Ray cluster of three nodes, one of them killed in the middle: the records of an undisturbed run."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import cocoop
from cocoop import CocoopError
from tests.experiments.test_runs import ARGUMENTS, without_time

pytestmark = pytest.mark.cluster

GRID = ARGUMENTS | {
    "methods": ["zeroshot", "cocoop"],
    "seeds": [0, 1, 2, 3],
    "overrides": ["cocoop.epochs=15"],
    "threads": 1,
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray import cluster_utils

    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    yield made
    made.shutdown()


class NodeLoss(threading.Thread):
    """Ends one node in the middle of a training; notes which processes were at each training.

    Whether a process is in the middle of a training is asked while it is stopped: its note is deleted before
    the training's claim ends, so a note that is still there cannot be too old.
    """

    def __init__(self, cluster: Any, folder: Path) -> None:
        super().__init__()
        self.processes: dict[str, set[int]] = defaultdict(set)
        self.lost: tuple[str, int] | None = None
        self.done = threading.Event()
        self._cluster = cluster
        self._folder = folder

    def run(self) -> None:
        while not self.done.wait(0.02):
            for training, process in self._notes().items():
                self.processes[training].add(process)
                if self.lost is None:
                    self._try(training, process)

    def _try(self, training: str, process: int) -> None:
        worker = psutil.Process(process)
        parents = {parent.pid for parent in worker.parents()}
        worker.suspend()
        if self._notes().get(training) != process:
            worker.resume()
            return
        (node,) = (node for node in self._cluster.worker_nodes if _raylet(node) in parents)
        self._cluster.remove_node(node, allow_graceful=False)
        if worker.is_running():
            worker.kill()
        self.lost = (training, process)

    def _notes(self) -> dict[str, int]:
        """Return the process that is at each training of several epochs, which lasts to be seen again."""
        notes = {}
        for path in self._folder.glob("claims/*.json"):
            with suppress(FileNotFoundError):  # the training has just ended
                note = json.loads(path.read_text())
                if note["doing"].startswith("loss"):
                    notes[path.stem] = int(note["process"].split(":")[1])
        return notes


def _raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def test_a_killed_node_loses_and_doubles_nothing(cluster: Any, tmp_path: Path) -> None:
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    alone = cocoop.run("base-to-new", folder=tmp_path / "alone", **GRID)
    loss = NodeLoss(cluster, tmp_path / "ray")
    loss.start()
    try:
        together = cocoop.run(
            "base-to-new", folder=tmp_path / "ray", workers=f"ray:{cluster.address}", **GRID
        )
    finally:
        loss.done.set()
        loss.join()
    assert list(map(without_time, together)) == list(map(without_time, alone))
    assert len(list((tmp_path / "ray").glob("records/*/*/*.json"))) == 10
    assert loss.lost is not None, "no node was lost"
    training, process = loss.lost
    assert loss.processes[training] > {process}, "the lost training was not done again elsewhere"


def test_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(CocoopError, match="cannot use the Ray cluster"):
        cocoop.run("base-to-new", folder=tmp_path, workers="ray:nowhere", **GRID)
