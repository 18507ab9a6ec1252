"""What a name, a path or a message does not do on a terminal, in a spreadsheet, on a page or in a paper."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from cocoop.report.page import html
from cocoop.report.tables.latex import escaped
from cocoop.report.tables.results import results
from cocoop.report.tables.seeds import by_seed
from cocoop.utils.display import (
    brief,
    harmless,
    markdown,
    on_one_line,
    readable_json,
    reason,
    terminal,
    visible,
)
from tests.report.test_report import published, record, store_of

ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
TEXTS = st.text(st.characters(codec=None), max_size=30) | st.text(
    "\x1b[31m\x9b\u202e\r\n\t\x07=+-@'\"\\{}[]*", max_size=9
)
EVIL = "coop \x1b]0;owned\x07\u202e<script>"


@given(TEXTS)
def test_what_is_visible_does_nothing(text: str) -> None:
    shown = visible(text)
    assert not ACTIVE.search(shown)
    assert visible(shown) == shown
    assert shown.count("\n") == text.count("\n")
    assert "\n" not in on_one_line(text)
    if not ACTIVE.search(text):
        assert shown == text


def test_joined_emoji_and_accents_stay() -> None:
    for text in ("👩‍👩‍👧‍👦", "crème brûlée", "שָׁלוֹם", "红苹果", "a\tb\nc"):
        assert visible(text) == text
    assert visible("\x1b[31m\u202e") == r"\x1b[31m\u202e"


@given(TEXTS)
def test_no_spreadsheet_sees_a_formula(text: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([harmless(text), "next"])
    ((cell, following),) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert following == "next"
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert cell.removeprefix("'") == visible(text).removeprefix("'")


@given(TEXTS)
def test_markdown_shows_the_text(text: str) -> None:
    shown = markdown(text)
    assert not re.search(r"(?<!\\)(\\\\)*[<>|`*_\[\]]", shown)
    assert "\n" not in shown
    assert re.sub(r"\\(.)", r"\1", shown) == re.sub(
        r"\\(.)", r"\1", visible(" ".join(text.split())).replace("\\", r"\\")
    )


@given(st.text(st.characters(codec=None, exclude_characters="“”±→▼"), max_size=20))
def test_latex_prints_the_text(text: str) -> None:
    shown = escaped(text)
    commands = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"}
    assert set(re.findall(r"\\([A-Za-z]+)", shown)) <= commands
    assert not re.search(r"(?<!\\)[%$#&]", shown)
    assert not shown.startswith(("[", "*"))  # behind a line's end they would be its arguments


@given(st.dictionaries(st.text(max_size=5), TEXTS, max_size=3))
def test_json_says_the_same(value: dict[str, str]) -> None:
    text = readable_json(value, indent=2)
    assert json.loads(text) == value
    assert not ACTIVE.search(text)


@settings(max_examples=60)
@given(TEXTS)
def test_nothing_reaches_the_terminal_raw(text: str) -> None:
    console = terminal()
    console.file = io.StringIO()
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(text, soft_wrap=True)
    console.print(table)
    assert not ACTIVE.search(console.file.getvalue())


def test_the_terminal_shows_markup_and_shortcodes_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    terminal().print("[bold]x[/bold] :heart: {0.__class__}", highlight=False)
    terminal(stderr=True).print("[red]\x1b[31m", highlight=False)
    out, err = capsys.readouterr()
    assert out == "[bold]x[/bold] :heart: {0.__class__}\n"
    assert err == "[red]\\x1b[31m\n"


def test_long_texts_are_quoted_in_part() -> None:
    assert brief("a\x1b") == r"'a\x1b'"
    assert len(brief("a" * 10_000)) < 300
    assert "10,000 characters" in brief("a" * 10_000)
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError()"


class Seen(HTMLParser):
    """The tags of a page and its links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.links += [
            value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action")
        ]


def test_a_page_of_hostile_words(tmp_path: Path) -> None:
    records = published()
    for half in ("base", "new"):
        one = record(EVIL, half, 50.0, dataset="data --><svg onload=alert(1)>\x1b[2J")
        records.append(one.model_copy(update={"note": EVIL, "environment": {EVIL: EVIL}, "created": EVIL}))
    page = html.page(store_of(tmp_path / "runs", records))
    assert not ACTIVE.search(page)
    seen = Seen(page)
    assert not seen.tags & {"script", "iframe", "object", "embed"}
    assert seen.handlers == []
    assert all(link.startswith(("#", "data:image/webp")) for link in seen.links)  # none leads anywhere else


def test_records_are_harmless_in_a_spreadsheet(tmp_path: Path) -> None:
    one = record("=cmd|' /C calc'!A0", "new", 50.0, dataset="@SUM(A1)")
    one = one.model_copy(update={"metrics": {"=1+1": 0.5, "accuracy": 0.5}})
    frame = by_seed(results([one, *published()]))
    texts = [*frame.columns, *(value for value in frame.to_numpy().ravel() if isinstance(value, str))]
    assert "'=cmd|' /C calc'!A0" in texts
    assert {"'@SUM(A1)", "'=1+1"} <= set(texts)
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@"))]
