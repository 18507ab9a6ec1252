"""The socket that is listened at, the server on it, and connections on which nothing happens."""

import logging
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from cocoop.deploy.serve.guard import HEADERS, problem
from cocoop.deploy.serve.limits import Limits
from cocoop.errors import CocoopError

HEAD = 16_384  # bytes of a request's head
GRACE = 5  # seconds that requests being answered get when the server is stopped
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises CocoopError where the address is taken, or is none of here."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise CocoopError(f"cannot listen at {host}, port {port}: {error}; give another --port") from None
    # for every connection: asyncio sets it only where a socket says that it is TCP, and without it the second
    # part of an answer waits 40 ms until the other side has confirmed the first
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run(app: FastAPI, listener: socket.socket, limits: Limits) -> None:
    """Serve until interrupted."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what strangers send is no news
    room = Room(app, limits.connections)
    config = uvicorn.Config(
        room,
        http="h11",  # the strict parser, also where another one is installed
        ws="none",
        lifespan="off",
        log_level="error",
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=HEAD,
        timeout_graceful_shutdown=GRACE,
        timeout_notify=1,
    )
    server = uvicorn.Server(config)
    room.connections = server.server_state.connections
    config.callback_notify = Watch(room.connections, limits.silence)
    server.run(sockets=[listener])


class Room:
    """ASGI middleware that answers 503 where too many connections are open; uvicorn's own is no JSON.

    Args:
        app: the application behind it.
        limit: connections.
        connections: uvicorn's, as they come and go.
    """

    def __init__(self, app: ASGIApp, limit: int, connections: Collection[Any] = ()) -> None:
        self.app = app
        self.limit = limit
        self.connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, if there is room for it."""
        if len(self.connections) < self.limit:
            await self.app(scope, receive, send)
            return
        answer = problem(503, f"{self.limit} connections are open; try again in a few seconds")
        answer.raw_headers += [*HEADERS, (b"connection", b"close"), (b"cache-control", b"no-store")]
        await answer(scope, receive, send)


class Watch:
    """Ends the connections whose other side does nothing; uvicorn itself would wait for ever.

    A request's head has to be there, and an answer to be taken, within some seconds. What lies between is
    the application's: bodies are timed by `Guard`, computations by `SideBySide`.

    Args:
        connections: uvicorn's, as they come and go.
        seconds: that one may do nothing.
        clock: of those seconds.
    """

    def __init__(
        self, connections: Collection[Any], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connections = connections
        self._seconds = seconds
        self._clock = clock
        self._since: dict[Any, tuple[Any, float]] = {}

    async def __call__(self) -> None:
        """Look at every connection; called about once a second."""
        now, silent = self._clock(), {}
        for connection in list(self._connections):
            request = connection.cycle  # the current one, the last one, or None before the first
            if request is None or request.response_started:
                before, since = self._since.get(connection, (request, now))
                silent[connection] = (request, since if before is request else now)
                if now - silent[connection][1] > self._seconds:
                    connection.transport.abort()
        self._since = silent
