"""What `cocoop serve` refuses, and the exception that says so."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        request_bytes: of one request, counted while it is read.
        pixels: of one image, read off its header before it is decoded.
        images: of one request.
        classes: candidate names of one request.
        name_length: characters of a name.
        waiting: requests being answered or waiting for it; together they hold `waiting * request_bytes`.
        computing: seconds that one request is computed.
        receiving: seconds until a request has come in.
        silence: seconds that a connection waits for a request's head, or for its answer to be taken.
        connections: open at once.
    """

    request_bytes: int = 64_000_000
    pixels: int = 40_000_000
    images: int = 32
    classes: int = 1000
    name_length: int = 200
    waiting: int = 8
    computing: float = 30.0
    receiving: float = 60.0
    silence: float = 20.0
    connections: int = 64


DEFAULT = Limits()


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP, 4xx or 5xx.
        message: what is wrong and what would be right, for the person who sent it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
