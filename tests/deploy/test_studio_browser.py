"""The studio in a real Chromium, from an empty folder to a model; see test_browser.py."""

import os
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import cocoop
from cocoop.data.storage import read_bytes
from tests.deploy.test_browser import FLAGS

pytestmark = pytest.mark.browser

NAMES = ("red apple", "croissant", "watermelon", "pizza")
DESKTOP, PHONE = (1360, 850), (390, 844)
MANY = 10_000
IN_PAGE = 150  # tiles that a screen and some rows beyond it have at most
LIVE = "#said"
PATIENCE = 60_000  # milliseconds; a busy machine takes long to load a backbone
DROP = """([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
    document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
FLAWS = (Path(__file__).parent / "accessible.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of a few foods, with its drawings in several styles."""
    folder, food = tmp_path_factory.mktemp("drawings"), cocoop.open_dataset("emoji/food")
    for split in ("train", "val", "test"):
        for item in food.items(split):
            if item.name in NAMES:
                path = folder / item.name / item.path.replace("/", "-")
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(read_bytes(food.root, item.path))
    return folder


@contextmanager
def studio(folder: Path, port: int = 0) -> Iterator[tuple[str, Any]]:
    """The address and the process of `cocoop studio`."""
    command = [sys.executable, "-c", "from cocoop.cli import main; main()", "studio", str(folder)]
    command += ["--backbone", "tiny-clip", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = re.search(r"http://[\d.:]+/", server.stdout.readline())
        assert address
        try:
            yield address[0], server
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) in (0, -signal.SIGKILL)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def page_at(
    chromium: Any, address: str, size: tuple[int, int] = DESKTOP, scheme: str = "light"
) -> Iterator[Any]:
    """The open page; nothing came from elsewhere, failed in a script or was wider than the screen."""
    page = chromium.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    strangers, errors = [], []
    page.on("request", lambda r: r.url.startswith((address, "data:")) or strangers.append(r.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    # what the server refuses or does not answer is said on the page
    page.on(
        "console", lambda m: m.type == "error" and "Failed to load" not in m.text and errors.append(m.text)
    )
    page.goto(address)
    try:
        yield page
    except BaseException:
        picture(page, "failed")
        raise
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert strangers == errors == []
    page.close()


def picture(page: Any, name: str) -> None:
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"studio-{name}.png")


def type_names(page: Any, names: str) -> None:
    from playwright.sync_api import expect

    page.fill("#name", names)
    page.press("#name", "Enter")
    expect(page.locator("#name")).to_have_value("")  # taken


def stood_on(page: Any) -> str:
    """The path of the image that the keyboard stands on."""
    return page.evaluate("document.activeElement.title")


def counts(page: Any) -> list[int]:
    """How many labels each class has."""
    return [int(text) for text in page.locator("#names .count b").all_text_contents()]


def test_an_empty_folder_becomes_a_model(chromium: Any, drawings: Path, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    images, broken = sorted(drawings.rglob("*.webp")), tmp_path / "words.png"
    broken.write_text("no image")
    folder = tmp_path / "photos"
    folder.mkdir()
    with studio(folder) as (address, _), page_at(chromium, address) as page:
        expect(page.locator("#empty")).to_contain_text("There are no images yet")
        page.evaluate(DROP, [images[0].name, b64encode(images[0].read_bytes()).decode()])
        expect(page.locator("#uploading")).to_contain_text("1 image added")
        page.set_input_files("#files", [*images, broken])
        expect(page.locator("#uploading")).to_contain_text(
            f"{len(images) - 1} images added. 1 image was there already"
        )
        expect(page.locator("#uploading li")).to_contain_text("words.png")
        page.get_by_role("button", name="Close").first.click()
        type_names(page, ", ".join(NAMES))
        expect(page.locator(".tile .chance").first).to_contain_text("%")

        explore(page)
        page.locator(".tile").first.focus()  # from here on with the keyboard alone
        for _ in images:
            name = next(name for name in NAMES if name.replace(" ", "_") in stood_on(page))
            page.keyboard.press(str(1 + NAMES.index(name)))
        expect(page.locator("#progress")).to_have_text(f"{len(images)} of {len(images)} images labelled")
        each = len(images) // len(NAMES)
        assert counts(page) == [each] * len(NAMES)
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        expect(page.locator(".tile.labelled")).to_have_count(0)
        page.keyboard.press("Control+z")
        expect(page.locator(".tile.labelled").first).to_be_visible()
        expect(page.locator(LIVE)).to_contain_text(f"Undone: {len(images)} labels")
        assert counts(page) == [each] * len(NAMES)

        page.click("#train")
        expect(page.locator("#scores")).to_contain_text("Zero-shot")
        expect(page.locator("#scores")).to_contain_text("held-out images")
        cell = page.locator("#confusion td button").first
        number = int(cell.inner_text())
        cell.click()
        expect(page.locator(".tile")).to_have_count(number)
        assert page.locator(".tile").first.evaluate("tile => tile === document.activeElement")
        picture(page, "trained")
        page.get_by_role("button", name="Model", exact=True).click()
        expect(page.locator("#saved")).to_contain_text("cocoop predict")
        path = Path(page.locator("#saved code").first.inner_text())
    answers = cocoop.load(path).predict(images)
    assert (
        sum(name.replace(" ", "_") in str(image) for name, image in zip(answers, images, strict=True))
        > len(images) // 2
    )


def explore(page: Any) -> None:
    """Label in every other way, and take it back."""
    from playwright.sync_api import expect

    page.locator(".tile").nth(1).focus()
    page.keyboard.press("a")
    expect(page.locator(".tile.labelled")).to_have_count(1)
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("l")
    page.keyboard.type("melon")
    page.keyboard.press("Enter")
    expect(page.locator(".tile.labelled .name")).to_have_text([re.compile(".+"), "watermelon", "watermelon"])
    page.keyboard.press("Enter")
    page.keyboard.press("2")
    expect(page.locator("#preview-path")).to_contain_text(page.locator(".tile").nth(5).get_attribute("title"))
    page.keyboard.press("Escape")
    page.click("#tab-unlabelled")
    page.locator(".tile").first.click()
    page.keyboard.press("1")
    expect(page.locator("#renew")).to_contain_text("1 label changed")
    expect(page.locator(".tile.labelled")).to_have_count(1)  # it does not jump away
    page.keyboard.press("u")
    expect(page.locator(".tile.labelled")).to_have_count(0)
    page.click("#tab-groups")
    page.locator(".group").get_by_role("button", name="Label ").first.click()
    expect(page.get_by_role("button", name="Undo")).to_have_attribute("title", re.compile(r"Undo: label \d+"))
    for left in ("5", "4", "3", "1", "0"):
        page.click("#undo")
        expect(page.locator("#tab-labelled .number")).to_have_text(left)
    page.click("#tab-all")


def test_a_kill_loses_nothing(chromium: Any, drawings: Path, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    folder = tmp_path / "photos"
    folder.mkdir()
    for image in sorted(drawings.rglob("*.webp"))[:8]:
        shutil.copy(image, folder)
    with studio(folder) as (address, server):
        port = int(re.findall(r":(\d+)/", address)[0])
        with page_at(chromium, address) as page:
            type_names(page, "apple, pizza")
            page.locator(".tile").first.click()
            page.keyboard.press("1")
            expect(page.locator("#progress")).to_have_text("1 of 8 images labelled")
            server.kill()
            server.wait()
            page.keyboard.press("2")
            expect(page.locator("#label-problem")).to_contain_text("1 change will be sent")
            expect(page.locator("#trouble")).to_contain_text("The studio does not answer")
            expect(page.locator(".tile.labelled")).to_have_count(2)
            with studio(folder, port):
                expect(page.locator("#progress")).to_have_text("2 of 8 images labelled")
                expect(page.locator("#trouble")).to_be_hidden()
                expect(page.locator("#label-problem")).to_be_hidden()
    rows = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [row.rpartition(",")[2] for row in rows] == ["apple", "pizza"]


def test_ten_thousand_images_fit_in_a_page(chromium: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    buffer = BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, "PNG")
    for number in range(MANY):
        (tmp_path / f"{number:05}.png").write_bytes(buffer.getvalue())
    with studio(tmp_path) as (address, _), page_at(chromium, address) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.locator(".tile").first.click()
        assert page.locator("#grid").get_attribute("aria-rowcount") == str(
            -(-MANY // int(page.locator("#grid").get_attribute("aria-colcount")))
        )
        for key in ("PageDown", "End", "ArrowUp", "Home", "End"):
            page.keyboard.press(key)
            assert page.locator(".tile").count() <= IN_PAGE
        expect(page.locator(":focus")).to_have_attribute("title", f"{MANY - 1:05}.png")
        page.evaluate("""async () => {
            const box = document.querySelector("#scroller");
            for (let place = 0; place < 60; place += 1) {
                box.scrollTop = place * box.scrollHeight / 60;
                await new Promise(requestAnimationFrame);
            }
        }""")
        assert page.locator(".tile").count() <= IN_PAGE
        assert sum("/api/thumb/" in url for url in asked) <= 10 * IN_PAGE
        type_names(page, "sea")
        expect(page.locator("#names .name")).to_have_text("sea")
        page.locator(".tile").first.click()
        page.keyboard.press("Control+a")
        page.keyboard.press("1")
        expect(page.locator("#progress")).to_have_text("10,000 of 10,000 images labelled")
        page.keyboard.press("Control+z")
        expect(page.locator("#progress")).to_have_text("0 of 10,000 images labelled")


@pytest.fixture(scope="module")
def labelled(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio whose folder has labels; one image is called like a piece of a page."""
    folder = tmp_path_factory.mktemp("labelled") / "photos"
    shutil.copytree(drawings, folder)
    shutil.copy(next(drawings.rglob("*.webp")), folder / NAMES[0] / "<img src=x onerror=alert(1)>.webp")
    with studio(folder) as (address, _):
        yield address


def test_names_are_text_and_nothing_else(chromium: Any, labelled: str) -> None:
    from playwright.sync_api import expect

    with page_at(chromium, labelled) as page:
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        type_names(page, "<b onclick=alert(1)>bold</b>")
        last = page.locator("#names li").last
        expect(last.locator(".name")).to_have_text("<b onclick=alert(1)>bold</b>")
        page.get_by_role("gridcell", name="<img src=x onerror=alert(1)>").dblclick()
        expect(page.locator("#preview-path")).to_contain_text("<img src=x onerror=alert(1)>")
        page.keyboard.press("Escape")
        page.click("#tab-groups")
        expect(page.locator(".group").first).to_be_visible()
        assert page.locator("[onerror], [onclick]").count() == 0
        last.locator(".edit").click()
        page.get_by_role("button", name="Remove").click()
        expect(page.locator("#names li")).to_have_count(len(NAMES))


def test_what_is_refused_is_said_and_taken_back(chromium: Any, labelled: str) -> None:
    from playwright.sync_api import expect

    with page_at(chromium, labelled) as page:
        page.route(
            "**/api/label", lambda route: route.fulfill(status=409, json={"error": "the disk is full"})
        )
        expect(page.locator(".tile.labelled").first).to_be_visible()
        before = counts(page)
        page.locator(".tile").first.click()
        page.keyboard.press("Delete")
        expect(page.locator("#label-problem")).to_have_text("The disk is full.")
        expect(page.locator(".tile").first).to_have_class(re.compile("labelled"))
        assert counts(page) == before
        page.unroute("**/api/label")
        page.fill("#name", "x" * 300)
        page.press("#name", "Enter")
        expect(page.locator("#name-problem")).not_to_be_empty()
        expect(page.locator("#name")).to_have_value("x" * 300)  # what was typed stays


def test_a_training_is_watched_and_cancelled(chromium: Any, labelled: str) -> None:
    from playwright.sync_api import expect

    with page_at(chromium, labelled) as page:
        page.select_option("#method", "coop")
        page.fill("#epochs", "500")
        page.click("#train")
        expect(page.locator("#training-text")).to_contain_text("Step")
        page.click("#cancel")
        expect(page.locator("#training")).to_be_hidden()
        expect(page.locator(LIVE)).to_have_text("The training was cancelled.")
        expect(page.locator("#train")).to_be_enabled()
        assert sum(counts(page)) > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_can_be_read(chromium: Any, labelled: str, scheme: str) -> None:
    from playwright.sync_api import expect

    with page_at(chromium, labelled, scheme=scheme) as page:
        expect(page.locator(".tile .name").first).not_to_be_empty()
        page.get_by_role("button", name=f"Edit {NAMES[0]}").click()
        picture(page, scheme)
        assert not any(page.evaluate(FLAWS).values()), page.evaluate(FLAWS)
        assert page.locator("#grid [tabindex='0']").count() == 1
        page.keyboard.press("Escape")
        assert page.locator(":focus").get_attribute("aria-label") == f"Edit {NAMES[0]}"
        page.keyboard.press("?")
        assert not any(page.evaluate(FLAWS).values()), page.evaluate(FLAWS)


def test_a_phone_is_wide_enough_to_try_names(chromium: Any, labelled: str) -> None:
    from playwright.sync_api import expect

    with page_at(chromium, labelled, PHONE) as page:
        expect(page.locator(".tile").first).to_be_visible()
        picture(page, "phone-images")
        page.get_by_role("button", name="Try", exact=True).click()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/api/try" in request.url else None)
        words = "something sweet, something baked, <i>fruit</i>"
        page.locator("#try-names").press_sequentially(words, delay=5)
        expect(page.locator("#tried > li").first).to_contain_text("%")
        expect(page.locator("#tried > li").first).to_contain_text("<i>fruit</i>")
        assert page.locator("#tried i:not(.share)").count() == 0
        assert len(asked) <= len(words) // 5  # it waits until the typing pauses
        picture(page, "phone-try")
        page.fill("#try-names", "x" * 300)
        expect(page.locator("#try-problem")).not_to_be_empty()
        expect(page.locator("#tried > li").first).to_be_visible()  # the last answer stays
