"""`cocoop features`: the image features of a dataset as one Parquet file."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from cocoop.backbones.clip import Backbone
from cocoop.data import Dataset
from cocoop.errors import UsageError
from cocoop.estimator.images import encode
from cocoop.utils.files import write_bytes


def write_features(backbone: Backbone, data: Dataset, out: Path, console: Console) -> None:
    """Write path, label, split and feature (d floats, length 1) of every image of all splits.

    The backbone's name and the digest of its weights are in the file's metadata.

    Raises:
        UsageError: `out` does not end in .parquet.
        CocoopError: an image cannot be read.
    """
    if out.suffix != ".parquet":
        raise UsageError(f"{out} must end in .parquet")
    parts = [(split, item) for split, items in data.splits.items() for item in items]
    zimg = encode(backbone, data, [item for _, item in parts], console)
    columns = {
        "path": [item.path for _, item in parts],
        "label": [item.name for _, item in parts],
        "split": [split for split, _ in parts],
        "feature": pa.FixedSizeListArray.from_arrays(zimg.flatten().numpy(), zimg.shape[1]),
    }
    facts = {"backbone": backbone.name, "weights": backbone.weights_digest, "data": data.name}
    file = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), file)
    write_bytes(out, file.getvalue())
    console.print(
        f"{len(parts)} features of {zimg.shape[1]} numbers by {backbone.name}: {out}",
        highlight=False,
        soft_wrap=True,
    )
