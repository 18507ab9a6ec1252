"""A fit that was interrupted ends as if it had not been."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from cocoop import Backbone, Classifier
from cocoop.methods._recipe import Recipe
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.methods.coop import Model as CoOp
from cocoop.training.checkpoint import Checkpoint, Snapshot, TrainingLog
from cocoop.training.loop import Epoch, fit
from cocoop.training.samples import Samples
from tests.training.test_loop import classifier, data

RECIPE = Recipe(epochs=4, batch_size=4, lr=0.02)


class Killed(Exception):
    """Stands for the end of the process."""


def train(
    model: Classifier, backbone: Backbone, stop_after: int = RECIPE.epochs, resume: Snapshot | None = None
) -> tuple[TrainingLog, Snapshot]:
    """Train, or die after some epochs; return what was reached."""
    zimg, labels = data(backbone)
    reached: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        reached.append(epoch)
        if epoch.done == stop_after < epoch.total:
            raise Killed

    views = [zimg.roll(epoch, 0) for epoch in range(RECIPE.epochs)]
    with suppress(Killed):
        fit(model, Samples(views.__getitem__, labels), RECIPE, 0, on_epoch, resume)
    snapshot = reached[-1].snapshot()
    return snapshot.log, snapshot


@pytest.mark.parametrize("cls", [CoOp, CoCoOp])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_fit_ends_with_the_same_bits(
    cls: type, stop_after: int, toy: Backbone, tmp_path: Path
) -> None:
    unbroken = classifier(cls, toy)
    expected, _ = train(unbroken, toy)
    _, snapshot = train(classifier(cls, toy), toy, stop_after)
    Checkpoint(tmp_path / "fit", "key").save(lambda: snapshot)
    stored = Checkpoint(tmp_path / "fit", "key").load()
    assert stored is not None
    resumed = classifier(cls, toy, seed=5)  # whatever it starts from is replaced
    trace, _ = train(resumed, toy, resume=stored)
    assert (trace.lr, trace.loss) == (expected.lr, expected.loss)
    assert trace.seconds > snapshot.log.seconds
    ours, theirs = resumed.method.state_dict(), unbroken.method.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_momentum_is_part_of_it(toy: Backbone) -> None:
    """Without it the weights would be others: the equality above is no accident."""
    expected, _ = train(classifier(CoOp, toy), toy)
    _, snapshot = train(classifier(CoOp, toy), toy, 2)
    bare = {name: value for name, value in snapshot.tensors.items() if name.startswith("learned.")}
    assert len(bare) < len(snapshot.tensors)
    trace, _ = train(classifier(CoOp, toy), toy, resume=Snapshot(bare, snapshot.log))
    assert trace.loss != expected.loss


def test_a_snapshot_is_a_copy(toy: Backbone) -> None:
    model = classifier(CoOp, toy)
    _, snapshot = train(model, toy, 1)
    before = {name: value.clone() for name, value in snapshot.tensors.items()}
    for _ in range(2):
        train(classifier(CoOp, toy), toy, resume=snapshot)
    assert all(torch.equal(before[name], value) for name, value in snapshot.tensors.items())
    assert len(snapshot.log.lr) == 1


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "other training"])
def test_a_damaged_checkpoint_is_none(damage: str, toy: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "fit"
    _, snapshot = train(classifier(CoOp, toy), toy, 1)
    Checkpoint(path, "key").save(lambda: snapshot)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes({"truncated": whole[:-9], "empty": b"", "flipped": flipped}.get(damage, whole))
    assert Checkpoint(path, "other" if damage == "other training" else "key").load() is None


def test_writing_takes_a_bounded_share_of_the_time(toy: Backbone, tmp_path: Path) -> None:
    _, snapshot = train(classifier(CoOp, toy), toy, 1)
    taken = 0

    def slow() -> Snapshot:
        nonlocal taken
        taken += 1
        time.sleep(0.05)
        return snapshot

    checkpoint = Checkpoint(tmp_path / "fit", "key")
    for _ in range(20):
        checkpoint.save(slow)
    assert taken == 1
    checkpoint.delete()
    checkpoint.delete()
    assert checkpoint.load() is None
