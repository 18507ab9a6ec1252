"""The server under the application, set so that nobody who is merely slow can hold it."""

import logging
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from cocoop.deploy.serve.limits import Limits

HEAD = 16_384  # bytes of a request's head
GOODBYE = 5  # seconds that those being answered get when the server is stopped


def run(app: ASGIApp, listener: socket.socket, limits: Limits) -> None:
    """Serve until interrupted."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what strangers send is no news
    config = uvicorn.Config(
        app,
        http="h11",  # the strict parser, also where another one is installed
        ws="none",
        lifespan="off",
        log_level="error",
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=HEAD,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=GOODBYE,
        timeout_notify=1,
    )
    server = uvicorn.Server(config)
    config.callback_notify = Watch(server.server_state.connections, limits.silence)
    server.run(sockets=[listener])


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
