"""What every request and answer passes: who asks, how much comes in and how fast; no detail goes out."""

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path
from traceback import extract_tb
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cocoop.deploy.serve.limits import Limits, Refused

SAFE = ("GET", "HEAD", "OPTIONS")
DRAIN = 8  # times the limit that is read and dropped, so that the sender gets to see the answer
DISCONNECT: Message = {"type": "http.disconnect"}
POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
DENIED = "clipboard-read display-capture geolocation hid microphone midi payment serial usb"
PERMISSIONS = ", ".join(["camera=(self)", *(f"{each}=()" for each in DENIED.split())])
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"permissions-policy", PERMISSIONS.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
LOG = logging.getLogger(__name__)


class Guard:
    """ASGI middleware around everything else.

    Args:
        app: the application behind it.
        limits: what is refused.
        hosts: names it answers to, None for any. A site could give its own name this machine's address and
            have a visitor's browser ask.
        senders: names of sites whose pages may send to it beside its own: of proxies that rename it.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, hosts: Collection[str] | None, senders: Collection[str] = ()
    ) -> None:
        self.app = app
        self.limits = limits
        self.hosts = hosts
        self.senders = senders
        self.held = 0  # bytes of all bodies that are being answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless and until there is something wrong with it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(self, scope, receive, send)
        try:
            self._check_sender(scope)
            await self.app(scope, exchange.receive, exchange.send)
        except Refused as error:
            exchange.refusal = error
        except asyncio.CancelledError:  # the server is being stopped, and this one took too long
            exchange.end(Refused(503, "the server is being stopped"))
        except Exception as error:
            if not exchange.refusal and not exchange.disconnected:
                place = extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                LOG.error("%s %r failed: %r (%s)", scope["method"], scope["path"], error, where)
                exchange.refusal = Refused(500, "something went wrong here; the server's log says what")
        finally:
            self.held -= exchange.held
        await exchange.close()

    def _check_sender(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and _hostname(host) not in self.hosts:
            raise Refused(400, f"this server is not called {host[:80]!r}; --allowed-host NAME changes that")
        origin = headers.get("origin")
        if origin is None or scope["method"] in SAFE:
            return
        place = origin.partition("://")[2]
        if place != host and _hostname(place) not in self.senders:
            raise Refused(403, "a page of another site cannot send anything to this server")


class Exchange:
    """One request and its answer, as the application behind the guard sees them.

    Attributes:
        refusal: why the request is not answered.
        disconnected: whether its sender went away.
        held: bytes that the application has been given.
    """

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.refusal: Refused | None = None
        self.disconnected = False
        self.held = 0
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._due = anyio.current_time() + guard.limits.receiving
        self._seen = 0
        self._more = True
        self._started = False

    async def receive(self) -> Message:
        """Give the application what comes in, while that is neither too much nor too slow."""
        message = await self._next()
        size, limits = len(message.get("body", b"")), self._guard.limits
        if self._seen > limits.request_bytes:
            self.refusal = Refused(
                413, f"the request has more than {limits.request_bytes:,} bytes; send less"
            )
        elif self._guard.held + size > limits.waiting * limits.request_bytes:
            self.refusal = Refused(429, "too much is being sent at once; try again in a few seconds")
        if self.refusal:
            return DISCONNECT
        self.held += size
        self._guard.held += size
        return message

    async def send(self, message: Message) -> None:
        """Send what the application answers, but nothing that it says of a request that was cut short."""
        if message["type"] == "http.response.start":
            await self._drain()
        if not self.refusal:
            await self._headed(message)

    def end(self, refusal: Refused) -> None:
        """Refuse at once, whatever still comes in."""
        self.refusal = refusal
        self._more = False

    async def close(self) -> None:
        """Answer what was refused."""
        if self.refusal and not self._started and not self.disconnected:
            await self._drain()
            answer = problem(self.refusal.status, self.refusal.message)
            answer.headers["connection"] = "close"
            await answer(self._scope, self._receive, self._headed)

    async def _next(self) -> Message:
        left = self._due - anyio.current_time() if self._more else None  # later, only whether it goes away
        message = DISCONNECT
        with anyio.move_on_after(left) as patience:
            message = await self._receive()
        if patience.cancelled_caught:
            seconds = self._guard.limits.receiving
            self.refusal = Refused(408, f"the request was not there after {seconds:g} seconds")
        else:
            self.disconnected = message["type"] == "http.disconnect"
        self._more = message.get("more_body", False)
        self._seen += len(message.get("body", b""))
        return message

    async def _drain(self) -> None:
        """Read and drop what still comes in; who is still sending would not see the answer."""
        while self._more and self._seen <= DRAIN * self._guard.limits.request_bytes:
            await self._next()

    async def _headed(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            shown = self._scope["path"].startswith("/static/")
            kept = (b"cache-control", b"no-cache" if shown else b"no-store")
            said = any(name == kept[0] for name, _ in message["headers"])
            message["headers"] = [*message["headers"], *HEADERS, *([] if said else [kept])]
        await self._send(message)


def problem(status: int, message: str) -> JSONResponse:
    """Return the answer to a refused request."""
    return JSONResponse({"error": message}, status, {"Retry-After": "5"} if status in (429, 503) else None)


def _hostname(place: str) -> str | None:
    """Return the name in `name:port`, without the brackets of an IPv6 address; None where there is none."""
    try:
        return urlsplit(f"//{place}").hostname
    except ValueError:
        return None
