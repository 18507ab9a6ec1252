"""Files that strangers send: decoded where their size is allowed, and encoded once for every backbone."""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from cocoop.backbones.features import Encode
from cocoop.data.decode import FORMATS, decode_photo
from cocoop.data.storage import UNREADABLE
from cocoop.data.transforms import Preprocess
from cocoop.deploy.serve.limits import Refused

KEPT = 512  # images whose features are kept, so that editing names does not encode them again
THUMBNAIL = 240  # pixels; shown at half of that on fine screens


class Unusable(Refused):
    """A file that is no image to answer for; the others of its request may be."""


@dataclass(frozen=True)
class Upload:
    """One file as it was sent: the name its sender gave it, and its bytes, read when its turn comes."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class EncodedImage:
    """What is kept of an image: a small JPEG to show, and its features (1, d) by image tower."""

    thumbnail: bytes
    features: Mapping[str, Tensor]


class Encoder:
    """Encodes images, and remembers the last ones by the digests of their files.

    Args:
        pixels: of one image, at most.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._encoded: OrderedDict[str, EncodedImage] = OrderedDict()

    def encode(self, upload: Upload, towers: Mapping[str, tuple[Preprocess, Encode]]) -> EncodedImage:
        """Decode and encode an image that is not known yet. Raises Unusable.

        Args:
            upload: the image file.
            towers: by name, what makes pixels of an image, and features of these.
        """
        data = upload.read()
        key = hashlib.sha256(data).hexdigest()
        if key not in self._encoded:
            image = self._open(upload.name, data)
            features = {
                name: encode(preprocess.test(image)[None]) for name, (preprocess, encode) in towers.items()
            }
            self._encoded[key] = EncodedImage(_thumbnail(image), features)
        self._encoded.move_to_end(key)
        if len(self._encoded) > KEPT:
            self._encoded.popitem(last=False)
        return self._encoded[key]

    def _open(self, name: str, data: bytes) -> Image.Image:
        """Decode an image whose size is allowed."""
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                pixels = image.width * image.height
            if pixels <= self._pixels:
                return decode_photo(data)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pass
        except UNREADABLE:
            kinds = ", ".join(FORMATS)
            raise Unusable(415, f"{name} is no image that can be read; send one of {kinds}") from None
        raise Unusable(413, f"{name} has more than {self._pixels:,} pixels; make it smaller")


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()
