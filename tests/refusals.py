"""What tests of hostile input share: small images, the message of a refusal, settings of the fuzzer."""

import io
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from PIL import Image

from cocoop import CocoopError

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ACTIVE = "a\x1b[31m\u202e"  # a colour of the terminal and another writing direction


def png(size: tuple[int, int] = (8, 6), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Return an image file of one colour."""
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, kind)
    return file.getvalue()


def refusal(read: Callable[[], object], kind: type[Exception] = CocoopError) -> str | None:
    """Return the message of an error of one kind, None where there is none; any other error is raised."""
    try:
        read()
    except kind as error:
        return str(error)
    return None
