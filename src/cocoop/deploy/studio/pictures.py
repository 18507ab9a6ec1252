"""Small and large pictures of a folder's images, for the page; the small ones shown last are kept."""

import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from cocoop.data.decode import FORMATS, MAX_PIXELS, decode_photo, to_image
from cocoop.data.storage import UNREADABLE, read_file
from cocoop.deploy.serve.limits import Refused

SMALL, LARGE = 240, 1600  # pixels an edge, at most
KEPT = 64 << 20  # bytes of small pictures
AT_ONCE = 4  # images that are decoded at a time: photographs are large
QUALITY = 85


class Pictures:
    """JPEGs of images, upright and on white.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: OrderedDict[str, bytes] = OrderedDict()  # by id
        self._bytes = 0
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def small(self, identity: str, path: str) -> bytes:
        """Return the small picture of an image. Raises Refused where it cannot be read."""
        with self._lock:
            if identity in self._kept:
                self._kept.move_to_end(identity)
                return self._kept[identity]
        picture = self._jpeg(path, SMALL)
        with self._lock:
            self._bytes += len(picture) - len(self._kept.get(identity, b""))
            self._kept[identity] = picture
            while self._bytes > KEPT:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return picture

    def large(self, path: str) -> bytes:
        """Return the large picture of an image; raises as `small` does."""
        return self._jpeg(path, LARGE)

    def _jpeg(self, path: str, edge: int) -> bytes:
        with self._turns:
            try:
                image = shrunk(read_file(self.root / path), edge)
            except UNREADABLE as error:
                raise Refused(404, f"{path} cannot be read: {error}") from None
            file = io.BytesIO()
            image.save(file, "JPEG", quality=QUALITY)
            return file.getvalue()


def shrunk(data: bytes, edge: int) -> Image.Image:
    """Return an image file as an image of at most so many pixels an edge.

    Raises:
        ValueError: it is no image that is read.
    """
    image = _drafted(data, edge) or decode_photo(data)
    image.thumbnail((edge, edge), reducing_gap=2.0)
    return image


def _drafted(data: bytes, edge: int) -> Image.Image | None:
    """Return a JPEG decoded at a half, a quarter or an eighth of its edges; None where that cannot be."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.format != "JPEG" or image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (2 * edge, 2 * edge))
            return to_image(image)
    except Exception:  # whatever a damaged file provokes; `decode_photo` puts it into words
        return None
