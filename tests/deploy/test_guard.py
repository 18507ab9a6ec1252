"""Around the page and the API: who may ask, how much and how slowly, and what an answer gives away."""

import asyncio
import gc
import itertools
import json
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.middleware import Middleware

from cocoop import CoCoOp
from cocoop.deploy.serve.answers import SideBySide
from cocoop.deploy.serve.app import make_app
from cocoop.deploy.serve.connections import LOOPBACK, Room, Watch
from cocoop.deploy.serve.guard import Guard
from cocoop.deploy.serve.server import _is_local
from tests.deploy.test_serve import IMAGES, LABELS, LIMITS, RED, post

HOST = "127.0.0.1:7860"


@pytest.fixture(scope="module")
def models() -> SideBySide:
    return SideBySide({"cocoop": CoCoOp("toy", epochs=1).fit(IMAGES, LABELS)}, LIMITS)


@pytest.fixture(scope="module")
def client(models: SideBySide) -> Iterator[TestClient]:
    with TestClient(make_app(models, LOOPBACK), base_url=f"http://{HOST}") as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("LocalHost:80", 200),
        ("[::1]:7860", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("127.0.0.1@evil.example", 400),
        ("evil.example:7860", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_it_answers_to_its_own_names(client: TestClient, host: str, status: int) -> None:
    response = client.get("/api/models", headers={"host": host})
    assert response.status_code == status
    assert status == 200 or "--allowed-host" in response.json()["error"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),  # no browser
        ("http://127.0.0.1:7860", 200),
        ("http://evil.example", 403),
        ("http://127.0.0.1:3000", 403),  # another server of this machine
        ("http://127.0.0.1:7860.evil.example", 403),
        ("null", 403),  # a file, or a frame without rights
        ("", 403),
    ],
)
@pytest.mark.parametrize("to", ["/api/predict", "/results"])
def test_pages_of_other_sites_cannot_send(
    client: TestClient, origin: str | None, status: int, to: str
) -> None:
    headers = {} if origin is None else {"origin": origin}
    assert client.post(to, files={"images": RED}, headers=headers).status_code == status
    assert client.get("/", headers=headers).status_code == 200


def test_behind_a_proxy(models: SideBySide) -> None:
    named = {"origin": "https://demo.example"}
    renamed = TestClient(make_app(models, LOOPBACK, ["demo.example"]), base_url=f"http://{HOST}")
    assert renamed.post("/results", files={"images": RED}, headers=named).status_code == 200
    anything = TestClient(make_app(models, None), base_url="http://demo.example")
    assert anything.post("/results", files={"images": RED}, headers=named).status_code == 200
    assert anything.post("/results", files={"images": RED}, headers={"origin": "http://x"}).status_code == 403


@pytest.mark.parametrize(("host", "local"), [("127.0.0.2", True), ("::1", True), ("localhost", True)])
def test_what_is_local(host: str, local: bool) -> None:
    assert _is_local(host) is local
    assert not _is_local("0.0.0.0")
    assert not _is_local("")


PATHS = [
    "/x",
    "/static",
    "/static/",
    "/static/../answers.py",
    "/static/%2e%2e/answers.py",
    "/static/..%2f..%2fanswers.py",
    "/static/%2e%2e%2f%2e%2e%2fanswers.py",
    "/static/..%5c..%5canswers.py",
    "/static//etc/passwd",
    "/static/%2fetc/passwd",
    "/static/page.css%00",
    "/static/%ff",
    "/static/page.css/x",
    "/static/" + "a" * 5000,
    "//etc/passwd",
    "/index.html",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_file_beside_the_pages_own_is_served(client: TestClient, path: str) -> None:
    response = client.get(path, follow_redirects=False)
    assert response.status_code == 404
    assert "error" in response.json()


def test_a_link_out_of_the_folder_is_not_followed(models: SideBySide, tmp_path: Path) -> None:
    from fastapi.staticfiles import StaticFiles

    (tmp_path / "secret").write_text("secret")
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "link").symlink_to(tmp_path / "secret")
    app = make_app(models, None)
    app.mount("/elsewhere", StaticFiles(directory=tmp_path / "static"))
    assert TestClient(app).get("/elsewhere/link").status_code == 404


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/api/models", "/api/predict", "/results"])
def test_every_answer_tells_browsers_what_to_trust(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in response.headers["content-security-policy"]
    allowed = response.headers["permissions-policy"].split(", ")
    assert [each for each in allowed if not each.endswith("=()")] == ["camera=(self)"]
    assert {"microphone=()", "geolocation=()", "display-capture=()"} <= set(allowed)
    assert "access-control-allow-origin" not in response.headers
    if method == "HEAD":
        assert response.content == b""
    elif response.status_code >= 400:
        assert set(response.json()) == {"error"}
    if response.status_code == 405:
        assert response.headers["allow"]
    assert (path in ("/", "/docs")) <= (client.head(path).status_code == 200)


def test_there_is_no_websocket(client: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/"):
        pass


def test_a_fault_is_one_line_in_the_log_and_none_in_the_answer(
    client: TestClient, models: SideBySide, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any) -> None:
        raise RuntimeError("secret of /home/me")

    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG, "cocoop"):
        patch.setattr(models.models["cocoop"], "answers", fail)
        response = post(client, RED, classes="new names")
    assert response.status_code == 500
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.json() == {"error": "something went wrong here; the server's log says what"}
    (line,) = [record.getMessage() for record in caplog.records]
    assert "RuntimeError('secret of /home/me')" in line
    assert re.search(r"\(test_guard\.py:\d+\)$", line)
    assert post(client, RED).status_code == 200  # it goes on


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ("multipart/form-data; boundary=B", 200),
        ("multipart/form-data; boundary=B; charset=UTF-8", 200),
        ("multipart/form-data; boundary=B; charset=punycode", 415),
        ("multipart/form-data; boundary=B; charset=unicode_escape", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=" + "B" * 1000, 400),
        ("application/x-www-form-urlencoded", 415),
        ("application/json", 415),
        ("", 415),
    ],
)
def test_kinds_of_forms(client: TestClient, content: str, status: int) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n%s\r\n--B--' % RED
    response = client.post("/api/predict", content=body, headers={"content-type": content})
    assert response.status_code == status, response.text


@pytest.mark.parametrize("many", ["files", "fields"])
def test_too_many_parts_are_refused_before_they_are_kept(client: TestClient, many: str) -> None:
    files = [("images", (None if many == "fields" else "a", b"0")) for _ in range(500)]
    response = client.post("/api/predict", files=files)
    assert response.status_code == 400
    assert response.json()["error"].startswith(f"Too many {many}")


def test_a_form_that_is_cut_off_leaves_no_file_open(client: TestClient) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + b"0" * 9000
    headers = {"content-type": "multipart/form-data; boundary=B"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        response = client.post("/api/predict", content=body, headers=headers)
        gc.collect()
    assert (response.status_code, response.json()["error"]) == (400, "the form is cut off")
    assert caught == []


def test_a_form_whose_images_are_words(client: TestClient) -> None:
    response = client.post("/api/predict", files=[("images", (None, b"/etc/passwd"))])
    assert response.status_code == 422


async def asked(app: FastAPI, coming: list[Any], method: str = "POST") -> list[dict[str, Any]]:
    """Send the messages of a body, taken off their list; a number is seconds. Return what is answered."""
    answers = []

    async def receive() -> dict[str, Any]:
        if not coming:
            await asyncio.sleep(60)
        if isinstance(coming[0], float):
            await asyncio.sleep(coming.pop(0))
        return coming.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    headers = [(b"host", HOST.encode()), (b"content-type", b"multipart/form-data; boundary=B")]
    scope = {
        "type": "http",
        "method": method,
        "path": "/api/predict",
        "headers": headers,
        "query_string": b"",
    }
    await app(scope, receive, send)
    return answers


def piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def guarded(models: SideBySide, **limits: float) -> tuple[FastAPI, Guard]:
    """The application with other limits, and its guard."""
    made: list[Guard] = []

    def put(inner: Any) -> Guard:
        made.append(Guard(inner, replace(LIMITS, **limits), LOOPBACK))
        return made[0]

    app = make_app(models, LOOPBACK)
    app.user_middleware[:] = [Middleware(put)]
    app.middleware_stack = app.build_middleware_stack()
    return app, made[0]


@pytest.mark.parametrize("messages", [[piece(b"--B\r\n"), 30.0, piece(b"")], [30.0, piece(b"")]])
def test_a_request_that_does_not_come_is_given_up(models: SideBySide, messages: list[Any]) -> None:
    start, body = asyncio.run(asked(guarded(models, receiving=0.05)[0], list(messages)))
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["error"] == "the request was not there after 0.05 seconds"


def test_bodies_together_are_limited(models: SideBySide) -> None:
    app, guard = guarded(models)
    guard.held = held = LIMITS.waiting * LIMITS.request_bytes - 10
    start, _ = asyncio.run(asked(app, [piece(b"0" * 11), piece(b"", more=False)]))
    assert start["status"] == 429
    assert (b"retry-after", b"5") in start["headers"]
    assert guard.held == held


def test_a_sender_that_goes_away_is_no_fault(models: SideBySide, caplog: pytest.LogCaptureFixture) -> None:
    app, guard = guarded(models)
    assert asyncio.run(asked(app, [piece(b"--B\r\n"), {"type": "http.disconnect"}])) == []
    assert guard.held == 0
    assert caplog.records == []


def test_a_server_that_is_stopped_says_so(models: SideBySide) -> None:
    async def stopped() -> list[dict[str, Any]]:
        task = asyncio.create_task(asked(guarded(models)[0], [piece(b"--B\r\n"), 30.0]))
        await asyncio.sleep(0.05)
        task.cancel()
        return await task

    assert asyncio.run(stopped())[0]["status"] == 503


def test_what_still_comes_in_is_read_before_the_answer(models: SideBySide) -> None:
    coming = [piece(b"0"), piece(b"0"), piece(b"", more=False)]
    start, _ = asyncio.run(asked(guarded(models)[0], coming, method="PUT"))
    assert start["status"] == 405
    assert coming == []


def test_where_too_many_connections_are_open(models: SideBySide) -> None:
    open_ = [object()] * 2
    room = Room(make_app(models, LOOPBACK), 3, open_)
    client = TestClient(room, base_url=f"http://{HOST}")
    assert client.get("/api/models").status_code == 200
    open_.append(object())
    response = client.get("/api/models")
    assert (response.status_code, set(response.json())) == (503, {"error"})
    assert response.headers["connection"] == "close"
    assert response.headers["retry-after"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_silent_connections_are_cut() -> None:
    cut: list[str] = []

    class Connection:
        def __init__(self, name: str, cycle: Any) -> None:
            self.cycle = cycle
            self.transport = SimpleNamespace(abort=lambda: cut.append(name))

    def request(started: bool) -> Any:
        return SimpleNamespace(response_started=started)

    connections = [Connection("new", None), Connection("deaf", request(True))]
    connections += [Connection("busy", request(False)), Connection("active", None)]
    now = itertools.count()
    watch = Watch(connections, 20.0, lambda: next(now))
    for _ in range(22):
        connections[-1].cycle = request(True)  # another one every second
        asyncio.run(watch())
    assert sorted(cut) == ["deaf", "new"]


PARTS = st.builds(
    lambda name, file, data: (name, (file, data)),
    st.sampled_from(["images", "classes", "top_k", "x", 'images"; filename="y']),
    st.none() | st.text(max_size=5),
    st.binary(max_size=30)
    | st.sampled_from([RED, RED[:100], b"2", b"0", b"-1", b"9" * 5000, b"red,\xff\x00"]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(["/api/predict", "/results", "/api/models", "/static/"])
    | st.text(max_size=8).map(lambda text: f"/{quote(text)}"),
    parts=st.lists(PARTS, max_size=5),
    cut=st.integers(0, 400) | st.none(),
    flip=st.integers(0, 400),
)
def test_whatever_is_sent_is_answered(
    client: TestClient, method: str, path: str, parts: list[Any], cut: int | None, flip: int
) -> None:
    request = client.build_request("POST", "/", files=parts or [("images", ("a", RED))])
    body = bytearray(request.read()[:cut])
    body[flip % (len(body) + 1) :][:1] = b"%"
    headers = {"content-type": request.headers["content-type"]}
    response = client.request(method, path, content=bytes(body), headers=headers, follow_redirects=False)
    assert response.status_code < 500
    if response.status_code >= 400 and method != "HEAD":
        assert set(response.json()) == {"error"}
    assert Path(__file__).parents[2].as_posix() not in response.text
