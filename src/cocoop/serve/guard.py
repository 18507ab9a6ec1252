"""What all requests and answers pass: bytes are counted as they come in, browsers told what to trust."""

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN = 8  # times the limit that is read and dropped, so that the sender gets to see the answer
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Guard:
    """ASGI middleware that answers 413 to requests of more than `limit` bytes, whatever their header says.

    Args:
        app: the application behind it.
        limit: bytes of a request's body.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless and until it is too large."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            while seen > self.limit:
                if seen > DRAIN * self.limit or not message.get("more_body"):
                    return {"type": "http.disconnect"}
                message = await receive()
                seen += len(message.get("body", b""))
            return message

        async def headed(message: Message) -> None:
            if seen > self.limit:
                return  # what the application says of a body that ended early
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            await self.app(scope, counted, headed)
        except Exception:
            if seen <= self.limit:
                raise
        if seen > self.limit:
            await _refuse(send, f"the request has more than {self.limit:,} bytes; send less at once")


async def _refuse(send: Send, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
