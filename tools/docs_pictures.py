"""The pictures of docs/tutorial.md and docs/studio.md, from the commands on those pages.

    python tools/docs_pictures.py           # needs the extra "browser" and Debian's chromium
    python tools/docs_pictures.py studio    # those of the studio alone

`cocoop fit` runs in a terminal and is looked at halfway; all else is seen in Chromium.
"""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parents[1] / "docs" / "pictures"
COCOOP = [sys.executable, "-m", "cocoop"]
WIDTH = 90  # characters of the terminal
SEEN = 1500  # milliseconds until pictures that were asked for are there
COLOURS = 256  # of a picture: flat areas and text need few
GONE = re.compile(r"[^\n]*\n(\x1b\[\?25h)?\r?\x1b\[1A\x1b\[2K")  # a bar that is taken away when it is full
FOODS = ("red apple", "banana", "croissant", "pizza", "watermelon", "hot beverage", "strawberry")
BY_HAND = 4  # images of each food that are labelled for the picture
DROPPED = ("soccer ball", "goal net", "trophy")
RUN = ["run", "base-to-new", "--datasets", "emoji/activities", "--seeds", "1,2", "--out", "runs"]


def in_a_terminal(command: list[str], until: str) -> str:
    """Run a command in a terminal and return, in HTML, what it shows when `until` is first matched."""
    leader, follower = pty.openpty()
    size = os.environ | {"COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=size) as process:
        os.close(follower)
        shown = ""
        while not re.search(until, shown):
            shown += os.read(leader, 4096).decode()
        process.send_signal(signal.SIGINT)
    os.close(leader)
    lines = GONE.sub("", shown.replace("\r\n", "\n"))
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(Text(f"$ cocoop {' '.join(command[3:])}", style="bold"))
    console.print(Text.from_ansi(lines))
    style = "background:#fff;margin:0;padding:12px;display:inline-block;font:14px/1.35 monospace"
    return console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Run a command that shows a page and yield its address."""
    command = [*COCOOP, *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://[\d.:]+/", process.stdout.readline())
        assert found is not None
        try:
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)


def write(name: str, png: bytes) -> None:
    """Write a picture with few colours, which makes it small."""
    image = Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    DOCS.mkdir(exist_ok=True)
    image.save(DOCS / f"{name}.png", optimize=True)
    print(f"{DOCS / name}.png: {(DOCS / f'{name}.png').stat().st_size / 1000:.0f} kB, {image.size}")


def take(browser: Any) -> None:
    """Take all pictures, in the current folder."""
    subprocess.run([*COCOOP, "data", "export", "emoji/activities", "--out", "photos"], check=True)
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.set_content(in_a_terminal([*COCOOP, "fit", "photos", "--out", "model"], r"training[^\r]*6/10"))
    write("fit", page.locator("pre").screenshot())

    subprocess.run([*COCOOP, "fit", "photos", "--out", "model"], check=True)
    images = [str(next(Path("photos/test", name).iterdir())) for name in DROPPED]
    with server("serve", "model") as address:
        page.goto(address)
        page.set_input_files("input[type=file]", images)
        page.wait_for_selector(f"#results article:nth-of-type({len(images)})")
        write("serve", page.screenshot())

    subprocess.run([*COCOOP, *RUN, "--preset", "coop-quick", "--preset", "cocoop-quick"], check=True)
    subprocess.run([*COCOOP, "report", "runs", "--format", "html"], check=True)
    page.goto(Path("runs/report.html").resolve().as_uri())
    write("report", page.screenshot())


def take_studio(browser: Any) -> None:
    """Take the pictures of the studio: some labels given with the keyboard, then a training."""
    subprocess.run([*COCOOP, "data", "export", "emoji/food", "--out", "food"], check=True)
    Path("lunch").mkdir()
    for path in sorted(Path("food").rglob("*.webp")):
        if path.parent.name in FOODS:
            shutil.copy(path, "lunch")
    with server("studio", "lunch", "--backbone", "tiny-clip") as address:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(60_000)
        page.goto(address)
        page.fill("#name", ", ".join(FOODS))
        page.press("#name", "Enter")
        page.locator(".tile .chance", has_text="%").first.wait_for()
        label_some(page)
        page.locator("#progress", has_text=f"{BY_HAND * len(FOODS)} of").wait_for()
        page.click("#train")
        page.wait_for_selector("#confusion table")
        page.locator("#scroller").evaluate("box => { box.scrollTop = 0 }")
        unlabelled = page.locator(".tile:not(.labelled)")
        unlabelled.nth(0).click()
        unlabelled.nth(1).click(modifiers=["Control"])
        page.wait_for_timeout(SEEN)
        write("studio", page.screenshot())
        page.emulate_media(color_scheme="dark")
        page.click("#tab-groups")
        page.wait_for_selector(".group img")
        page.wait_for_timeout(SEEN)
        write("studio-groups", page.screenshot())
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 390, "height": 700})
        page.get_by_role("button", name="Try", exact=True).click()
        page.fill("#try-names", "something sweet, something baked, a drink")
        page.locator("#tried img").first.wait_for()
        page.wait_for_timeout(SEEN)
        write("studio-phone", page.screenshot())


def label_some(page: Any) -> None:
    """Give the first images of each food their label."""
    given = dict.fromkeys(FOODS, 0)
    page.locator(".tile").first.click()
    while min(given.values()) < BY_HAND:
        path = page.locator(".tile:focus:not([title=''])").get_attribute("title")
        food = next(food for food in FOODS if food.replace(" ", "_") in path)
        given[food] += 1
        page.keyboard.press("ArrowRight" if given[food] > BY_HAND else str(1 + FOODS.index(food)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        os.environ["COCOOP_CACHE"] = str(Path(folder, "cache"))
        os.chdir(folder)
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take_studio(browser)
        if sys.argv[1:] != ["studio"]:
            take(browser)
        browser.close()
