"""A Ray cluster of three nodes, one of them killed in the middle: the records of an undisturbed run."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def watch(folder: Path, processes: dict[str, set[str]], done: threading.Event, kill: Any) -> None:
    """Note which processes were at each training; kill when all three nodes are at one."""
    killed = False
    while not done.wait(0.02):
        notes = {path.stem: path.read_text() for path in folder.glob("claims/*.json") if path.exists()}
        for key, note in notes.items():
            processes[key].add(json.loads(note)["process"])
        if len(notes) == 3 and not killed:
            killed = True
            kill()


def test_a_killed_node_loses_and_doubles_nothing(cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    alone = cocoop.run("base-to-new", folder=tmp_path / "alone", **GRID)
    processes: dict[str, set[str]] = defaultdict(set)
    done = threading.Event()

    def kill() -> None:
        cluster.remove_node(nodes[0], allow_graceful=False)

    watcher = threading.Thread(target=watch, args=(tmp_path / "ray", processes, done, kill))
    watcher.start()
    try:
        together = cocoop.run(
            "base-to-new", folder=tmp_path / "ray", workers=f"ray:{cluster.address}", **GRID
        )
    finally:
        done.set()
        watcher.join()
    assert list(map(without_time, together)) == list(map(without_time, alone))
    assert len(list((tmp_path / "ray").glob("records/*/*/*.json"))) == 10
    assert sorted(map(len, processes.values()))[-1] == 2, "the killed node was at no training"
    assert len({process for names in processes.values() for process in names}) >= 3


def test_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(CocoopError, match="cannot use the Ray cluster"):
        cocoop.run("base-to-new", folder=tmp_path, workers="ray:nowhere", **GRID)
