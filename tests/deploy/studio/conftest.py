"""A studio on a small folder of painted images, behind its application."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cocoop.deploy.serve.limits import Limits
from cocoop.deploy.studio.app import make_app
from cocoop.deploy.studio.loading import Options
from cocoop.deploy.studio.opening import open_folder
from cocoop.deploy.studio.studio import Studio
from tests.estimator.test_estimator import painted

LIMITS = Limits(request_bytes=200_000, images=3, classes=12)
ROUND = {"red": "r", "green": "g", "blue": "b"}


class Client:
    """What a page does."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.http = TestClient(make_app(studio, None), base_url="http://127.0.0.1")

    def get(self, path: str, **query: Any) -> Any:
        return self.checked(self.http.get(f"/api/{path}", params=query))

    def post(self, path: str, /, **body: Any) -> Any:
        return self.checked(self.http.post(f"/api/{path}", json=body))

    def names(self, *names: Any, **more: Any) -> Any:
        listed = [{"name": each} if isinstance(each, str) else each for each in names]
        return self.checked(self.http.put("/api/names", json={"names": listed, **more}))

    def checked(self, response: Any) -> Any:
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, status: int, method: str, path: str, /, **body: Any) -> str:
        """Return why something is refused with a status."""
        response = self.http.request(method, f"/api/{path}", json=body or None)
        assert response.status_code == status, response.text
        assert set(response.json()) == {"error"}
        return str(response.json()["error"])

    def idle(self) -> Any:
        """Wait until nothing runs; return the state."""
        end = time.monotonic() + 60
        while (state := self.get("state"))["busy"]:
            assert time.monotonic() < end, state
            time.sleep(0.01)
        assert not [note for note in state["notes"] if "could not" in note], state["notes"]
        return state

    def items(self, **query: Any) -> list[Any]:
        listed: list[Any] = self.get("images", count=500, **query)["items"]
        return listed

    def ids(self, *paths: str) -> list[str]:
        by_path = {item["path"]: item["id"] for item in self.items()}
        return [by_path[path] for path in paths]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with four images of each of three colours: r0.png to b3.png."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (image, colour) in enumerate(zip(*painted(4), strict=True)):
        image.save(folder / f"{ROUND[colour]}{number % 4}.png")
    return folder


@pytest.fixture
def opened() -> Iterator[Callable[..., Client]]:
    """Opens folders; all are closed at the end."""
    clients = []

    def open_it(folder: Path, backbone: str = "toy", **options: Any) -> Client:
        given = {"out": folder.with_name("out"), "limits": LIMITS, "device": "cpu", **options}
        studio = Studio(open_folder(folder), Options(backbone=backbone, **given))
        clients.append(Client(studio))
        studio.start()
        return clients[-1]

    yield open_it
    for client in clients:
        client.studio.stop()
