"""The image features of a dataset: through the user's cache, and as one Parquet file (`cocoop features`)."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import Backbone
from cocoop.backbones.features import ImageEncoder
from cocoop.data import Dataset, Item
from cocoop.errors import UsageError
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.progress import progress
from cocoop.methods._hooks import WithImage, views_of
from cocoop.training.image import looks
from cocoop.training.test_time import in_turn, order_of, plain_views
from cocoop.utils.files import default_cache, write_bytes


def encoder(backbone: Backbone, dataset: Dataset) -> ImageEncoder:
    """Return the encoder of a dataset's images, through the user's cache."""
    return ImageEncoder(backbone, FeatureCache(default_cache()), dataset.decode)


def encode(
    backbone: Backbone, dataset: Dataset, items: Sequence[Item], console: Console
) -> Float[Tensor, "n d"]:
    """Encode images of a dataset. Raises CocoopError naming all that cannot be read."""
    with progress("looking at images", len(items), console) as advance:
        return encoder(backbone, dataset).test(dataset.root, items, advance)


def answered(
    model: PromptClassifier,
    names: Sequence[str],
    dataset: Dataset,
    items: Sequence[Item],
    fimg: Float[Tensor, "n d"],
) -> Float[Tensor, "n c"]:
    """Return a model's logits for images of a dataset, whose test views the frozen tower has encoded already.

    What else the model sees is drawn from its seed: further views of every image, or the order of a stream.
    """
    method, images = model.classifier(names).method, encoder(model.load_backbone(), dataset)
    seen = fimg[:, None]
    if views_of(method).count > 1 or isinstance(method, WithImage):
        seen = looks(images, method, dataset.root, items, model.seed)
    answers = model.predictor(plain_views(seen), names)
    return in_turn(answers, seen, order_of(method, len(items), model.seed))


def seen_by(
    model: PromptClassifier, dataset: Dataset, items: Sequence[Item], fimg: Float[Tensor, "n d"]
) -> Float[Tensor, "n kd"]:
    """Return the features of test views with all that a model has learned in the image tower.

    Args:
        model: trained.
        dataset: of the images.
        items: the images.
        fimg: their features by the frozen tower, which are these where nothing is learned inside.
    """
    if not isinstance(model.method_, WithImage):
        return fimg
    images = replace(encoder(model.backbone_, dataset), encode=model.encode)
    return images.test(dataset.root, items)


def write_features(backbone: Backbone, data: Dataset, out: Path, console: Console) -> None:
    """Write path, label, split and feature (d floats, length 1) of every image of all splits.

    Where images may have several classes, the column of labels has lists. The backbone's name and the digest
    of its weights are in the file's metadata.

    Raises:
        UsageError: `out` does not end in .parquet.
        CocoopError: an image cannot be read.
    """
    if out.suffix != ".parquet":
        raise UsageError(f"{out} must end in .parquet")
    parts = [(split, item) for split, items in data.splits.items() for item in items]
    zimg = F.normalize(encode(backbone, data, [item for _, item in parts], console), dim=-1)
    columns = {
        "path": [item.path for _, item in parts],
        "label": [list(data.names_of(item)) if data.labels else item.name for _, item in parts],
        "split": [split for split, _ in parts],
        "feature": pa.FixedSizeListArray.from_arrays(zimg.flatten().numpy(), zimg.shape[1]),
    }
    metadata = {"backbone": backbone.name, "weights": backbone.weights_digest, "data": data.name}
    file = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)
    write_bytes(out, file.getvalue())
    console.print(
        f"{len(parts)} features of {zimg.shape[1]} numbers by {backbone.name}: {out}",
        highlight=False,
        soft_wrap=True,
    )
