"""Answers and features of images by the million: a Parquet file for every piece of the source.

A piece is whole or absent in the folder of answers, so whoever is lost in the middle loses one, and the same
command goes on with what is missing. What was asked for is written beside them, and nothing else is mixed in.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import AUTO
from cocoop.data.decode import decode_photo
from cocoop.data.shards import Shard
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator import load
from cocoop.estimator.backbone import shared_backbone
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.folder import INFO, read_model
from cocoop.estimator.inputs import Classes
from cocoop.estimator.pull import model_folder
from cocoop.methods import facts_of
from cocoop.utils.files import data_digest, file_digest, sweep, write_bytes, write_json

BATCH = 64  # images held at a time
ASKED = "asked.json"
MANY = 1_000_000  # images, for what depends on their number
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Job:
    """What is asked of every image, in plain values that other processes can be given.

    Attributes:
        model: a model folder, or one of the Hub, pinned to a commit, for answers; None for features.
        backbone: name for `load_backbone`, for features.
        classes: candidates; None for the model's.
        top_k: names an image.
        min_confidence: below this probability there is no name; None for the model's threshold.
        options: what else `cocoop.load` is to be called with, "testing" for example; where that is left open,
            it is settled for as many images as there may be.
        device: where to compute.
        precision: of the frozen towers.
        memory_budget: bytes for the text encoder; None for what the machine allows.
    """

    model: Path | None
    backbone: str = ""
    classes: Classes | None = None
    top_k: int = 3
    min_confidence: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = AUTO
    precision: str = AUTO
    memory_budget: int | None = None

    @cached_property
    def _loaded(self) -> PromptClassifier:
        assert self.model
        loaded = load(
            self.model,
            device=self.device,
            precision=self.precision,
            memory_budget=self.memory_budget,
            **self.options,
        )
        return loaded.set_params(testing=loaded.testing_mode(MANY, self.classes))

    @cached_property
    def clip(self) -> Backbone:
        """The frozen CLIP, loaded once."""
        if self.model:
            return self._loaded.load_backbone()
        return shared_backbone(self.backbone, self.device, self.precision)

    def check(self) -> None:
        """Check that images can be answered in pieces, by one view each. Raises UsageError."""
        facts = facts_of(read_model(model_folder(self.model))[0].prompt.method) if self.model else None
        if facts and facts.sees_test_images:
            raise UsageError(
                f"{facts.name} adapts itself to {facts.adaptation}, and pieces are answered by one view of "
                "each image; use cocoop predict without --engine"
            )

    def about(self, shards: Sequence[Shard]) -> dict[str, Any]:
        """Return what must be the same when the work is taken up again."""
        listed = data_digest(repr([(shard.urls, shard.stamp) for shard in shards]).encode())
        same = {"source": listed, "pieces": len(shards), "precision": self.precision}
        if not self.model:
            return {"features": self.backbone, **same}
        return {
            "model": file_digest(model_folder(self.model) / INFO),
            "classes": self._called(),
            "top_k": self.top_k,
            "min_confidence": self.min_confidence,
            "options": {name: str(value) for name, value in self.options.items()},
            **same,
        }

    def _called(self) -> Any:
        return (
            dict(self.classes) if isinstance(self.classes, Mapping) else self.classes and list(self.classes)
        )

    def columns(self, views: Float[Tensor, "b 3 s s"]) -> Columns:
        """Return the columns of answers, or of features, for the views of some images."""
        if not self.model:
            return {"feature": F.normalize(self.clip.encode_image(views), dim=-1).tolist()}
        fimg = self._loaded.encode(views)
        names = self._loaded.classifier(self.classes).class_names
        answers = self._loaded.answers(fimg, self.classes)
        shares = self._loaded.inference.shares(answers.logits, names)
        values, places = torch.topk(shares, min(self.top_k, len(names)))
        listed = [[names[place] for place in row] for row in places.tolist()]
        if self._loaded.info_.multilabel:
            found = self._loaded.inference.named(answers, names, self.min_confidence)
            return {"labels": list(map(list, found)), "names": listed, "scores": values.tolist()}
        reached = None if self.min_confidence is not None else self._loaded.sure_of(answers, names)
        sure = (values[:, 0] >= (self.min_confidence or 0.0) if reached is None else reached).tolist()
        first = [row[0] if certain else None for row, certain in zip(listed, sure, strict=True)]
        return {"name": first, "names": listed, "probabilities": values.tolist()}

    def schema(self) -> pa.Schema:
        """Return the columns of a file: those of the answers are null where there is an error."""
        answers = [("feature", pa.list_(pa.float32(), self.clip.embed_dim))]
        if self.model:
            names, shares = pa.list_(pa.string()), pa.list_(pa.float32())
            answers = [("name", pa.string()), ("names", names), ("probabilities", shares)]
            if self._loaded.info_.multilabel:
                answers = [("labels", names), ("names", names), ("scores", shares)]
        about = {"backbone": self.clip.name, "weights": self.clip.weights_digest}
        if self.model:
            about["testing"] = self._loaded.testing  # screened or linear probabilities are approximations
        return pa.schema([("path", pa.string()), *answers, ("error", pa.string())], metadata=about)


def place(out: Path, index: int) -> Path:
    """Return where the answers for a piece are, or would be."""
    return out / f"part-{index:06d}.parquet"


def prepare(out: Path, job: Job, shards: Sequence[Shard]) -> list[int]:
    """Return the pieces that are missing in a folder, after a look at what was asked for there.

    Raises:
        UsageError: the folder is for something else, or the source has changed since; or the model adapts
            itself to the images, which pieces would cut apart.
    """
    job.check()
    about = job.about(shards)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; answers need a folder")
    if out.is_dir() and any(out.iterdir()):
        known = read_asked(out)
        if changed := [name for name in {*known, *about} if known.get(name) != about.get(name)]:
            raise UsageError(
                f"{out} is for another {', '.join(sorted(changed))}; give another folder to --out"
            )
        sweep(out)
    else:
        write_json(out / ASKED, about)
    return [index for index in range(len(shards)) if not place(out, index).exists()]


def read_asked(out: Path) -> dict[str, Any]:
    """Return what was asked for in a folder. Raises UsageError where it is no such folder."""
    try:
        known: dict[str, Any] = json.loads((out / ASKED).read_text())
        return known
    except (OSError, ValueError):
        raise UsageError(f"{out} holds something else than answers; give a new folder to --out") from None


def work(job: Job, out: Path, index: int, shard: Shard) -> tuple[int, int]:
    """Answer one piece, unless it is there; return the numbers of its images and of those with an error.

    Raises:
        CocoopError: the piece cannot be read.
    """
    path = place(out, index)
    if not path.exists():
        file = io.BytesIO()
        with pq.ParquetWriter(file, job.schema()) as writer:
            for columns in _answers(job, shard.images()):
                writer.write_table(pa.Table.from_pydict(columns, job.schema()))
        write_bytes(path, file.getvalue())
    errors = pq.read_table(path, columns=["error"])["error"]
    return len(errors), len(errors) - errors.null_count


def _answers(job: Job, images: Iterator[tuple[str, bytes | CocoopError]]) -> Iterator[Columns]:
    """Yield rows, a batch at a time; views are small at once, where images are large."""
    while batch := list(islice(((path, _view(job.clip, data)) for path, data in images), BATCH)):
        views = [view for _, view in batch if isinstance(view, Tensor)]
        answers = job.columns(torch.stack(views)) if views else {}
        rest = {name: iter(values) for name, values in answers.items()}
        names = [name for name in job.schema().names if name not in ("path", "error")]
        yield {
            "path": [path for path, _ in batch],
            "error": [None if isinstance(view, Tensor) else view for _, view in batch],
            **{
                name: [next(rest[name]) if isinstance(view, Tensor) else None for _, view in batch]
                for name in names
            },
        }


def _view(clip: Backbone, data: bytes | CocoopError) -> Tensor | str:
    """Return the test view of an image file, or why there is none."""
    if isinstance(data, CocoopError):
        return str(data)
    try:
        return clip.preprocess.test(decode_photo(data))
    except ValueError as error:
        return str(error)


def run_here(
    job: Job,
    shards: Sequence[Shard],
    out: Path,
    done: Callable[[int, int], None] = lambda images, errors: None,
) -> dict[str, str]:
    """Answer what is missing, in this process; return why pieces could not be read, by their first URL."""
    return gather(
        (attempt(job, out, index, shards[index]) for index in prepare(out, job, shards)), shards, done
    )


def attempt(job: Job, out: Path, index: int, shard: Shard) -> tuple[int, int, int, str]:
    """Answer one piece; return its index, the numbers of `work`, and why it could not be read, if so."""
    try:
        return index, *work(job, out, index, shard), ""
    except CocoopError as error:
        return index, 0, 0, str(error)


def gather(
    results: Iterable[tuple[int, int, int, str]], shards: Sequence[Shard], done: Callable[[int, int], None]
) -> dict[str, str]:
    """Call `done` with the images and errors of every piece; return why others could not be read."""
    failed = {}
    for index, images, errors, problem in results:
        done(images, errors)
        if problem:
            failed[shards[index].urls[0]] = problem
    return failed
