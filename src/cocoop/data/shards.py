"""Images by the million, in pieces that are worked at one by one: archives, tables, and files in hundreds.

A source is a folder, a file or a pattern, on a disk or wherever fsspec reads, e.g. "s3://bucket/photos":

* webdataset shards (`.tar`, `.tar.gz`, `.tgz`): every member whose name ends as those of images do;
* Parquet (`.parquet`) with the bytes of an image file a row, as a column of bytes or as the Hub has them,
  `{bytes, path}`;
* image files, `FILES` of them a piece in the order of their names.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from cocoop.data.decode import is_image_name
from cocoop.data.storage import check_size
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import reason

ARCHIVES, TABLE = (".tar", ".tar.gz", ".tgz"), ".parquet"
FILES = 1000  # image files a piece
ROWS = 64  # of a table that are held at a time
COLUMN = "image"  # the column of bytes where there are several


@dataclass(frozen=True)
class Shard:
    """A piece of a source.

    Attributes:
        urls: of one archive or one table, or of image files.
        stamp: what tells whether it changed: the sizes in bytes.
    """

    urls: tuple[str, ...]
    stamp: tuple[int, ...]

    def images(self) -> Iterator[tuple[str, bytes | CocoopError]]:
        """Yield the path of every image with its bytes, or with why they cannot be had.

        Raises:
            CocoopError: the archive or table cannot be read.
        """
        if not _is_whole(self.urls[0]):
            for url in self.urls:
                yield url, _bytes(url)
            return
        read = _rows if self.urls[0].endswith(TABLE) else _members
        try:
            with fsspec.open(self.urls[0], "rb") as file:
                yield from read(self.urls[0], file)
        except (OSError, tarfile.TarError, EOFError, pa.ArrowException, ValueError, ImportError) as error:
            raise CocoopError(f"{self.urls[0]} cannot be read: {reason(error)}") from error


def find_shards(sources: Sequence[str]) -> list[Shard]:
    """Return the pieces of sources, in the order of their names.

    Raises:
        UsageError: a source has no images, or there is nothing at that place.
        CocoopError: a place cannot be reached.
    """
    found: dict[str, int] = {}
    for source in sources:
        try:
            files = _list(source)
        except FileNotFoundError:
            files = {}
        except (OSError, ImportError, ValueError) as error:
            raise CocoopError(f"{source} cannot be reached: {reason(error)}") from error
        if not files:
            raise UsageError(f"there are no images, .tar or {TABLE} files at {source}")
        found |= files
    whole = [Shard((url,), (found[url],)) for url in sorted(found) if _is_whole(url)]
    images = sorted(url for url in found if not _is_whole(url))
    parts = [images[start : start + FILES] for start in range(0, len(images), FILES)]
    return whole + [Shard(tuple(part), tuple(found[url] for url in part)) for part in parts]


def _list(source: str) -> dict[str, int]:
    """Return the sizes of all files of a source that are of use, by URL."""
    storage, path = fsspec.core.url_to_fs(source)
    if fsspec.core.has_magic(path):
        infos = storage.glob(path, detail=True).values()
    elif storage.isdir(path):
        infos = storage.find(path, detail=True).values()
    else:
        infos = [storage.info(path)]
    local = "file" in storage.protocol
    return {
        info["name"] if local else storage.unstrip_protocol(info["name"]): int(info["size"] or 0)
        for info in infos
        if info["type"] == "file" and (_is_whole(info["name"]) or is_image_name(info["name"]))
    }


def _is_whole(url: str) -> bool:
    return url.lower().endswith((*ARCHIVES, TABLE))


def _bytes(url: str) -> bytes | CocoopError:
    try:
        with fsspec.open(url, "rb") as file:
            data: bytes = file.read()
        check_size(len(data))
        return data
    except (OSError, ValueError) as error:
        return CocoopError(f"cannot read the image {url}: {reason(error)}")


def _members(url: str, file: Any) -> Iterator[tuple[str, bytes | CocoopError]]:
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            if not (member.isfile() and is_image_name(member.name)):
                continue
            try:
                check_size(member.size)
                yield f"{url}/{member.name}", archive.extractfile(member).read()  # type: ignore[union-attr]
            except ValueError as error:
                yield f"{url}/{member.name}", CocoopError(f"cannot read {member.name} of {url}: {error}")


def _rows(url: str, file: Any) -> Iterator[tuple[str, bytes | CocoopError]]:
    table = pq.ParquetFile(file)
    column = _column(url, table.schema_arrow)
    batches = table.iter_batches(ROWS, columns=[column])
    values = (value for batch in batches for value in batch.column(0).to_pylist())
    for row, value in enumerate(values):
        data = value.get("bytes") if isinstance(value, dict) else value
        path = f"{url}#{row}"
        yield path, CocoopError(f"{path} has no bytes of an image") if data is None else data


def _column(url: str, schema: pa.Schema) -> str:
    """Return the column with the images. Raises UsageError where that is none, or not clear."""
    known = [field.name for field in schema if _holds_bytes(field.type)]
    if COLUMN in known or len(known) == 1:
        return COLUMN if COLUMN in known else str(known[0])
    raise UsageError(
        f"{url} has {len(known)} columns of bytes ({', '.join(known) or 'none'}); images are in the only "
        f"one, or in one called {COLUMN!r}"
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
