"""The page in a real Chromium, as a person uses it: `make test-browser`. $SCREENSHOTS keeps pictures."""

import os
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cocoop
from cocoop.data.storage import read_bytes

pytestmark = pytest.mark.browser

NAMES = ("red apple", "croissant", "watermelon", "pizza")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --disable-background-networking --disable-component-update"
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a picture that moves
ELSEWHERE = "demo.example"  # a name of this machine that browsers do not take for it
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
    command += ["--allowed-host", ELSEWHERE]
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
    width, height = SIZES[request.param]
    with browsing(address, width, height) as page:
        yield page
        picture(page, f"{request.node.originalname}-{request.param}", tmp_path)


@contextmanager
def browsing(
    address: str, width: int, height: int, flags: Sequence[str] = CAMERA, **how: Any
) -> Iterator[Any]:
    """Open the page in a browser of its own."""
    from playwright.sync_api import sync_playwright

    path, rules = shutil.which("chromium"), f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=[*FLAGS.split(), *flags, rules])
        page = chromium.new_page(viewport={"width": width, "height": height}, **how)
        page.set_default_timeout(30_000)
        strangers, errors = [], []
        page.on("request", lambda r: r.url.startswith((address, "data:")) or strangers.append(r.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda line: line.type == "error" and "status of" not in line.text and errors.append(line.text),
        )
        page.goto(address)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert strangers == errors == []
        chromium.close()


def picture(page: Any, name: str, folder: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", folder))
    page.screenshot(path=folder / f"{name}.png", full_page=True)


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


def test_one_of_several_that_is_no_image(page: Any, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no image")
    page.set_input_files("input[type=file]", [images[0], tmp_path / "words.png", images[1]])
    page.locator(f"{ARTICLES}:nth-of-type(2) .problem", has_text="words.png is no image").wait_for()
    assert page.locator("figcaption").all_text_contents() == [
        "red apple.png",
        "words.png",
        "croissant.png",
    ]
    assert tops(page, "coop") == list(NAMES[:2])


def test_pictures_of_a_camera(page: Any) -> None:
    from playwright.sync_api import expect

    page.click("#open")
    for number in (1, 2):
        page.click("#take")
        page.locator("figcaption", has_text=f"camera {number}.jpg").wait_for()
    assert page.locator(ARTICLES).count() == 2
    page.evaluate("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    page.click("#close")
    assert page.evaluate("window.track.readyState") == "ended"
    expect(page.locator("#camera")).to_be_hidden()
    page.click("#open")  # and again
    expect(page.locator("#take")).to_be_enabled()


PUT = """([event, names]) => {
  const data = new DataTransfer();
  for (const [name, type, content] of names) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], name, { type }));
  }
  const about = { bubbles: true, cancelable: true };
  const made = event === "paste"
    ? new ClipboardEvent(event, { ...about, clipboardData: data })
    : new DragEvent(event, { ...about, dataTransfer: data });
  (event === "paste" ? document.querySelector("textarea") : document.body).dispatchEvent(made);
  return made.defaultPrevented;
}"""


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_what_is_pasted_or_dropped(address: str, images: list[Path], event: str) -> None:
    from playwright.sync_api import expect

    files = [[path.name, "image/png", b64encode(path.read_bytes()).decode()] for path in images[:3]]
    with browsing(address, 1280, 900) as page:
        assert page.evaluate(PUT, [event, files[:1]])
        expect(page.locator(ARTICLES)).to_have_count(1)
        assert page.evaluate(PUT, [event, files[1:]])  # several at once
        expect(page.locator(ARTICLES)).to_have_count(3)
        assert tops(page, "cocoop") == list(NAMES[:3])
        words = [["words.txt", "text/plain", ""]]
        if event == "paste":
            assert not page.evaluate(PUT, [event, words])  # left to the field
            expect(page.locator(ARTICLES)).to_have_count(3)


def test_a_page_that_gets_no_camera_says_why(address: str, tmp_path: Path) -> None:
    elsewhere = address.replace("127.0.0.1", ELSEWHERE)
    with browsing(elsewhere, 375, 812) as page:
        page.locator("#trouble", has_text="works on https and on localhost only").wait_for()
        assert page.locator("#open").is_disabled()
        picture(page, "no-camera-phone", tmp_path)
    for flags, words in (([CAMERA[1]], "There is no camera."), ([CAMERA[0]], "told not to give the camera")):
        with browsing(address, 375, 812, flags) as page:
            page.click("#open")
            page.locator("#trouble", has_text=words).wait_for()
            assert page.locator("#open").is_enabled()


def test_it_can_be_read_in_the_dark(address: str, images: list[Path], tmp_path: Path) -> None:
    with browsing(address, 1280, 900, color_scheme="dark") as page:
        (tmp_path / "words.png").write_text("no image")
        page.click("#open")
        page.set_input_files("input[type=file]", [*images, tmp_path / "words.png"])
        page.wait_for_selector(f"{ARTICLES}:nth-of-type({len(images) + 1})")
        picture(page, "dark", tmp_path)
