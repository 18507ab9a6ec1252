"""Clients of a server on this machine for audits/serving.py: honest, hostile, slow and vanishing ones."""

import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import numpy as np
import psutil

from audits.forms import Body, form, hostile, marked

CLIENTS = 4
HOSTILE = 10  # every tenth request
BURST = 32  # requests at the same moment


@dataclass
class Outcome:
    """What happened; everything in `wrong` and `problems` is a fault of the server."""

    served: int = 0  # answered, and rightly
    refused: int = 0  # as they must be
    wrong: int = 0  # other answers, or none
    busy: int = 0  # times that an honest client was told to come back, and did
    slow: int = 0  # clients sent away for taking too long
    cancelled: int = 0  # requests whose sender went away
    per_second: float = 0.0  # served and refused
    p50_ms: float = 0.0  # of those served
    p99_ms: float = 0.0
    memory_start_mib: float = 0.0  # of the server after 1,000 requests, or so
    memory_end_mib: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """Images, lists of names, and what the library itself says: probabilities by model, list and image."""

    images: list[bytes]
    lists: list[list[str]]
    expected: dict[tuple[str, int], np.ndarray]


class Load:
    """Clients of one server.

    Args:
        port: of the server on this machine.
        known: what is asked.
        server: its process.
    """

    def __init__(self, port: int, known: Known, server: psutil.Process) -> None:
        self.port, self.known, self.server = port, known, server
        self.outcome = Outcome()
        self.seconds: list[float] = []  # of each request that was served
        self.over = threading.Event()
        self._lock = threading.Lock()

    def note(self, kind: str, problem: str = "") -> None:
        """Count something, and keep what was wrong with it."""
        with self._lock:
            setattr(self.outcome, kind, getattr(self.outcome, kind) + 1)
            if problem and len(self.outcome.problems) < 20:
                self.outcome.problems.append(problem)

    def connection(self) -> closing[HTTPConnection]:
        """Return a new connection, for a `with`."""
        return closing(HTTPConnection("127.0.0.1", self.port, timeout=60))

    def memory(self) -> float:
        """MiB that the server holds."""
        return self.server.memory_info().rss / (1 << 20)

    def steady(self, requests: int, seed: int) -> None:
        """Ask `requests` times with a few clients, and measure."""
        numbers, mark = iter(range(requests)), max(requests // 10, min(1000, requests // 2))

        def client(rng: random.Random) -> None:
            bad = hostile(self.known.images[0])
            with self.connection() as connection:
                while (number := self._take(numbers)) is not None:
                    if number == mark:
                        self.outcome.memory_start_mib = self.memory()
                    if number % HOSTILE:
                        self.ask(connection, number, rng)
                    else:
                        self.refuse(connection, *bad[number // HOSTILE % len(bad)])

        began = time.monotonic()
        threads = [threading.Thread(target=client, args=(random.Random(seed + i),)) for i in range(CLIENTS)]
        _finish(threads)
        self.outcome.per_second = requests / (time.monotonic() - began)
        self.outcome.memory_end_mib = self.memory()

    def _take(self, numbers: Iterator[int]) -> int | None:
        with self._lock:
            return next(numbers, None)

    def ask(self, connection: HTTPConnection, number: int, rng: random.Random) -> None:
        """Send an image that the server has not seen, and compare the answer."""
        which, names = rng.randrange(len(self.known.images)), rng.randrange(len(self.known.lists))
        classes = self.known.lists[names]
        body = form([marked(self.known.images[which], number)], classes="\n".join(classes), top_k="50")
        began = time.perf_counter()
        status, answer = exchange(connection, "POST", "/api/predict", body)
        while status == 429:
            self.note("busy")
            time.sleep(0.2)
            status, answer = exchange(connection, "POST", "/api/predict", body)
        if status != 200:
            return self.note("wrong", f"an honest request got {status}: {answer}")
        self.seconds.append(time.perf_counter() - began)
        for label, top in answer["images"][0]["answers"].items():
            found = {each["name"]: each["probability"] for each in top}
            expected = self.known.expected[label, names][which]
            if not np.allclose([found[name] for name in classes], expected, rtol=1e-3, atol=1e-5):
                return self.note("wrong", f"{label} says {found}, the library {expected}")
        return self.note("served")

    def refuse(self, connection: HTTPConnection, method: str, path: str, body: Body, expected: int) -> None:
        """Send something that must be refused."""
        status, answer = exchange(connection, method, path, body)
        message = answer.get("error", "")
        if status == expected and message and "site-packages" not in message and "/src/" not in message:
            self.note("refused")
        else:
            self.note("wrong", f"{method} {path} got {status}, not {expected}: {answer}")

    def trickle(self, rng: random.Random) -> None:
        """Send a byte now and then, of a head or of a body, until the server has had enough."""
        while not self.over.is_set():
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                start = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                if rng.random() < 0.5:
                    start += b"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 9999\r\n\r\n"
                connection.settimeout(0.2)
                ended = False
                for _ in range(100):
                    try:
                        connection.sendall(start)
                        ended = connection.recv(1000)[:12] in (b"", b"HTTP/1.1 408")
                        break
                    except TimeoutError:
                        start = b"-"
                    except OSError:  # cut off
                        ended = True
                        break
                self.note("slow") if ended else self.note("wrong", "a slow client was not sent away")

    def vanish(self, rng: random.Random) -> None:
        """Send a request, or half of one, and go away without a word."""
        while not self.over.wait(0.05):
            images = [marked(data, rng.getrandbits(60)) for data in self.known.images[:8]]
            headers, body = form(rng.choice((images, [b"0" * 1_500_000])))  # the latter goes to the disk
            assert isinstance(body, bytes)
            head = f"POST /results HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(head.encode() + body[: rng.choice((len(body), len(body) // 2))])
                time.sleep(rng.choice((0, 0.01)))
            self.note("cancelled")

    def burst(self) -> None:
        """Ask many times at the same moment: some are served, the others are told to come back."""
        statuses: list[int] = []
        together = threading.Barrier(BURST)
        images = [marked(data, -1) for data in self.known.images[:8]]

        def client() -> None:
            body = form(images, classes=",".join(map(str, range(50))))
            with self.connection() as connection:
                together.wait()
                statuses.append(exchange(connection, "POST", "/api/predict", body)[0])

        _finish([threading.Thread(target=client) for _ in range(BURST)])
        if set(statuses) != {200, 429}:
            self.note("wrong", f"{BURST} requests at once got {sorted(statuses)}")
        self.outcome.refused += statuses.count(429)


def exchange(connection: HTTPConnection, method: str, path: str, body: Body) -> tuple[int, dict]:
    """Send a request and return the status and the JSON; 0 and the reason where no answer came."""
    headers, data = body
    try:
        connection.request(method, path, iter(data) if isinstance(data, list) else data, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        connection.close()
        return 0, {"error": repr(error)}


def _finish(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
