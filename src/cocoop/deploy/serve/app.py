"""The page and the API as one application, and the server under it."""

import logging
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from cocoop.deploy.serve.answers import SideBySide
from cocoop.deploy.serve.api import add_api
from cocoop.deploy.serve.guard import HEADERS, Guard, problem
from cocoop.deploy.serve.limits import Limits
from cocoop.deploy.serve.page import add_page

HEAD = 16_384  # bytes of a request's head
GRACE = 5  # seconds that requests being answered get when the server is stopped


def make_app(models: SideBySide, hosts: Collection[str] | None, senders: Collection[str] = ()) -> FastAPI:
    """Return the application.

    Args:
        models: what answers.
        hosts: names it answers to, None for any; see `Guard`.
        senders: names under which a proxy shows it.
    """
    # the stock pages of documentation load scripts from elsewhere; ours does not
    app = FastAPI(title="cocoop", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.limits = models.limits
    add_api(app, models)
    add_page(app, models)
    app.add_middleware(Guard, limits=models.limits, hosts=hosts, senders=senders)
    return app


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
