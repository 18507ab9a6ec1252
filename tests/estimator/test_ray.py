"""Ray Data on this machine, a worker killed in the middle of a piece: every image is answered once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cocoop.cli import main
from cocoop.data.shards import find_shards
from cocoop.errors import CocoopError
from cocoop.estimator import many
from cocoop.estimator.many import Job, prepare, run_here
from cocoop.estimator.ray import run_on_ray
from tests.estimator.test_many import model, png, rows, source, tar

__all__ = ["model", "source"]
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray import cluster_utils

        head = {"num_cpus": 2, "include_dashboard": False}
        made = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        yield made
        made.shutdown()


class Slow(Job):
    """A job that tells which process is at the first piece, and stays there while it may not go on."""

    def columns(self, views: Any) -> many.Columns:
        folder = Path(self.options["folder"])
        if not (folder / "killed").exists() and len(views) == 3:
            (folder / "at-it").write_text(str(os.getpid()))
            while not (folder / "killed").exists():
                time.sleep(0.02)
        return super().columns(views)


def test_a_killed_worker_loses_and_doubles_nothing(cluster: Any, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for piece in range(6):
        tar(
            folder / f"{piece}.tar",
            {f"{index}.png": png(10 * piece + index) for index in range(3 if not piece else 4)},
        )
    pieces, out, victims = find_shards([str(folder)]), tmp_path / "ray", []

    def kill() -> None:
        while not (tmp_path / "at-it").exists():
            time.sleep(0.02)
        time.sleep(0.1)  # the file is written whole
        victims.append(int((tmp_path / "at-it").read_text()))
        os.kill(victims[0], signal.SIGKILL)
        (tmp_path / "killed").touch()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    seen: list[int] = []
    job = Slow(None, "toy", options={"folder": str(tmp_path)})
    assert not run_on_ray(job, pieces, out, 2, cluster.address, lambda images, errors: seen.append(images))
    killer.join()
    assert victims
    assert sorted(seen) == [3, 4, 4, 4, 4, 4]
    run_here(Job(None, "toy"), pieces, tmp_path / "alone")
    alone, together = rows(tmp_path / "alone"), rows(out)
    assert together.keys() == alone.keys()
    assert len(together) == 23
    for path, row in alone.items():
        assert together[path]["feature"] == pytest.approx(row["feature"], abs=1e-5)


def test_the_same_call_finishes_what_is_missing(
    cluster: Any, model: Path, source: Path, tmp_path: Path
) -> None:
    job, out, pieces = Job(model), tmp_path / "out", find_shards([str(source)])
    assert not run_on_ray(job, pieces, out, None, cluster.address)
    before = rows(out)
    many.place(out, 1).unlink()
    assert prepare(out, job, pieces) == [1]
    seen: list[int] = []
    run_on_ray(job, pieces, out, None, cluster.address, lambda images, errors: seen.append(images))
    assert seen == [1]
    assert rows(out) == before


def test_the_command_answers_what_can_be_read_and_names_the_rest(
    cluster: Any, model: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "a.tar").write_bytes((source / "a.tar").read_bytes()[:700])
    words = [
        "predict",
        str(model),
        str(source),
        "--engine",
        f"ray:{cluster.address}",
        "--out",
        str(tmp_path / "o"),
    ]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "8 images in" in said
    assert "1 of them with an error" in said
    assert "has 4 of 5 pieces" in said
    assert f"{source}/a.tar cannot be read" in said
    assert len(rows(tmp_path / "o")) == 8


def test_no_cluster(model: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(CocoopError, match="cannot use the Ray cluster"):
        run_on_ray(Job(model), find_shards([str(source)]), tmp_path / "out", 1, "nowhere")
