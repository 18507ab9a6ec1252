"""Names, paths and messages from outside, written so that whatever shows them only shows them.

A class or a file may be named anything. A terminal acts on control characters, a spreadsheet on what begins
like a formula, Markdown on its marks.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

LONGEST = 200  # characters of a foreign text in a message

# control characters but tab and newline, line separators, overrides of the writing direction, surrogates
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
_MARKDOWN = "\\`*_{}[]<>#|!~$"


def visible(text: str) -> str:
    """Return a text with what would move a cursor, change a colour or the direction written out: `\\x1b`."""
    return _ACTIVE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    """Return a text made visible, its tabs and newlines too."""
    return visible(text).replace("\t", r"\t").replace("\n", r"\n")


def brief(text: str) -> str:
    """Return a text as a message quotes it: like `repr`, and not longer than a person reads."""
    return repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r}… ({len(text):,} characters)"


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first of many names as a message lists them, and how many more there are."""
    listed = ", ".join(map(brief, names[:limit]))
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"


def short(text: str, limit: int) -> str:
    """Cut a text that is too long for its place."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def reason(error: BaseException) -> str:
    """Return what another library's error says, as a part of a message: one line that a person reads."""
    return str(error).strip().partition("\n")[0][:LONGEST] or repr(error)[:LONGEST]


def harmless(text: str) -> str:
    """Return a visible text that no spreadsheet takes for a formula: an apostrophe before it if need be."""
    text = visible(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def readable_json(value: Any, indent: int | None = None) -> str:
    """Return JSON in letters, but for what a terminal would act on."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return "".join(f"\\{sign}" if sign in _MARKDOWN else sign for sign in visible(" ".join(text.split())))


def terminal(stderr: bool = False, highlight: bool = True) -> Console:
    """Return a console that shows any text as it is: neither markup nor control codes act."""
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=highlight)
    console.push_render_hook(_Visible())
    return console


class _Visible(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(each) for each in renderables]


class _Shown:
    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
