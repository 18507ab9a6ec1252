"""Decoded images, kept while they are seen again and again: every epoch has other views of the same ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

BUDGET = 1 << 30  # bytes of pixels


@dataclass(eq=False)
class Decoded:
    """The images of one list, as far as they fit; the rest is decoded anew each time.

    Args:
        budget: bytes of pixels that are kept.
    """

    budget: int = BUDGET
    _images: dict[str, Image.Image] = field(default_factory=dict)
    _used: int = 0

    def reader(
        self, contents: Sequence[str], read: Callable[[str], Image.Image]
    ) -> Callable[[tuple[str, str]], Image.Image]:
        """Return what reads an image by its path and its content; images of other lists are forgotten.

        Args:
            contents: what tells the images of the list apart, whatever their paths.
            read: decodes the image at a path.
        """
        for gone in self._images.keys() - set(contents):
            self._used -= _size(self._images.pop(gone))

        def kept(source: tuple[str, str]) -> Image.Image:
            path, content = source
            if content in self._images:
                return self._images[content]
            image = read(path)
            if self._used + _size(image) <= self.budget:
                self._images[content] = image
                self._used += _size(image)
            return image

        return kept


def _size(image: Image.Image) -> int:
    return image.width * image.height * len(image.getbands())
