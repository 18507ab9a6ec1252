"""One fit on two processes at the same global batch is the fit of one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import cocoop
from cocoop import Backbone, UsageError
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.methods._recipe import Recipe
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.training.distributed import Group, join_group
from cocoop.training.loop import fit
from cocoop.training.samples import Samples
from tests.experiments.test_runs import ARGUMENTS, without_time
from tests.training.test_loop import classifier, data

LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
RUN = (
    "-m cocoop run base-to-new --device cpu --threads 1 --backbone toy --datasets emoji/activities --seeds 0 "
    "--shots 1 --methods zeroshot,cocoop --set cocoop.epochs=3 --set cocoop.batch_size=4"
)
GRID = ARGUMENTS | {
    "methods": ["zeroshot", "cocoop"],
    "overrides": ["cocoop.epochs=3", "cocoop.batch_size=4"],
    "threads": 1,
}


def settled(record: Record) -> dict:
    """What must be the same: everything but times and the last digits of sums of floats."""
    return {
        name: value
        for name, value in without_time(record).items()
        if name not in ("metrics", "loss", "predictions")
    }


def test_two_processes_bring_the_records_of_one(tmp_path: Path) -> None:
    one = cocoop.run("base-to-new", folder=tmp_path / "one", **GRID)
    words = f"{LAUNCH} --dynamo_backend no {RUN} --out {tmp_path / 'two'}".split()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    two = list(Store(tmp_path / "two").records())
    assert list(map(settled, two)) == list(map(settled, one))
    for ours, theirs in zip(two, one, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-4)
    assert any(ours.loss != theirs.loss for ours, theirs in zip(two, one, strict=True)), (
        "there was one process"
    )


@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_add_up_to_the_gradient_of_the_batch(size: int, toy: Backbone) -> None:
    zimg, labels = data(toy, 7)
    model = classifier(CoCoOp, toy)

    def gradient(batch: torch.Tensor, share: float) -> torch.Tensor:
        model.method.zero_grad()  # type: ignore[attr-defined]
        (F.cross_entropy(model(zimg[batch]), labels[batch]) * share).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.method.parameters()])  # type: ignore

    batch = torch.tensor([4, 0, 6, 1, 5])
    parts = [Group(size, rank).part(batch) for rank in range(size)]
    assert sorted(torch.cat(parts).tolist()) == sorted(batch.tolist())
    total = sum(gradient(part, len(part) / len(batch)) for part in parts)
    torch.testing.assert_close(total, gradient(batch, 1.0), rtol=1e-4, atol=1e-5)


def test_too_few_images_to_share(toy: Backbone) -> None:
    zimg, labels = data(toy)
    with pytest.raises(UsageError, match=r"2 processes cannot share batches of 1 image.*--workers"):
        fit(classifier(CoCoOp, toy), Samples(lambda epoch: zimg, labels), Recipe(), seed=0, group=Group(2, 0))


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_group("cpu") == (Group(1, 0), "cpu")
