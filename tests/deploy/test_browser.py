"""The page in a real Chromium, as a person uses it: `make test-browser`. $SCREENSHOTS keeps pictures."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cocoop
from cocoop.data.storage import read_bytes

pytestmark = pytest.mark.browser

NAMES = ("red apple", "croissant", "watermelon", "pizza")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --disable-background-networking --disable-component-update"
SIZES = {"desktop": (1280, 900), "phone": (375, 812)}
ARTICLES = "#results article"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A drawing of each of a few foods, with its name as the name of its file."""
    folder, food = tmp_path_factory.mktemp("food"), cocoop.open_dataset("emoji/food")
    paths = {item.name: item.path for item in food.items("test")}
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(read_bytes(food.root, paths[name]))
    return [folder / f"{name}.png" for name in NAMES]


@pytest.fixture(scope="module")
def address(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that `cocoop serve` starts for two models, stopped as a person stops it."""
    folder = tmp_path_factory.mktemp("models")
    for kind in (cocoop.CoOp, cocoop.CoCoOp):
        model = kind("tiny-clip", epochs=1).fit(images, NAMES)
        model.save(folder / model.method)
    command = [sys.executable, "-c", "from cocoop.cli import main; main()", "serve"]
    command += [str(folder / "coop"), str(folder / "cocoop"), "--port", "0", "--max-upload", "1MB"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = re.search(r"http://[\d.:]+/", server.stdout.readline())
        assert address
        yield address[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, address: str, tmp_path: Path) -> Iterator[Any]:
    """The open page; at the end a picture, and nothing came from elsewhere or failed in the script."""
    from playwright.sync_api import sync_playwright

    width, height = SIZES[request.param]
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(30_000)
        strangers, errors = [], []
        page.on("request", lambda r: r.url.startswith((address, "data:")) or strangers.append(r.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
        page.screenshot(path=folder / f"{request.node.originalname}-{request.param}.png", full_page=True)
        assert strangers == errors == []
        chromium.close()


def tops(page: Any, model: str) -> list[str]:
    """The likeliest name of every image by one model, read off the page."""
    columns = page.locator(f"{ARTICLES} .model", has=page.get_by_role("heading", name=model, exact=True))
    return columns.locator("li:first-child span:first-of-type").all_text_contents()


def test_upload_edit_names_see_the_answer_change(page: Any, images: list[Path]) -> None:
    from playwright.sync_api import expect

    page.set_input_files("input[type=file]", images)
    page.wait_for_selector(f"{ARTICLES}:nth-of-type({len(images)})")
    for model in ("zero-shot", "coop", "cocoop"):
        assert tops(page, model) == list(NAMES)
    assert page.locator(".strip li").count() == len(images)
    page.fill("textarea", "a fruit\nsomething baked\n<b>violin</b>")
    page.locator(f"{ARTICLES} li", has_text="<b>violin</b>").first.wait_for()
    assert set(tops(page, "cocoop")) <= {"a fruit", "something baked", "<b>violin</b>"}
    page.fill("input[type=number]", "1")
    expect(page.locator(f"{ARTICLES} li")).to_have_count(3 * len(images))
    page.click("#clear")
    page.locator(ARTICLES).first.wait_for(state="detached")
    page.set_input_files("input[type=file]", images[:2])
    page.fill("input[type=number]", "3")
    expect(page.locator(f"{ARTICLES} li")).to_have_count(3 * 2 * 3)


def test_what_is_refused_is_said(page: Any, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no image")
    (tmp_path / "large.png").write_bytes(b"0" * 1_500_000)
    for name, words in (("words.png", "words.png is no image"), ("large.png", "more than 1,000,000 bytes")):
        page.set_input_files("input[type=file]", tmp_path / name)
        page.locator(".problem", has_text=words).wait_for()
        page.click("#clear")
    page.set_input_files("input[type=file]", images[:1])
    page.wait_for_selector(ARTICLES)
    page.fill("textarea", "\n".join(map(str, range(1200))))
    page.locator(".problem", has_text="1200 class names are too many").wait_for()
