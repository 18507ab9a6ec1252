"""What goes wrong through no fault of the code: the message names the thing and the fix."""

import difflib
from collections.abc import Iterable


class CocoopError(Exception):
    """A run that cannot go on. Commands print the message alone and exit with `exit_code`."""

    exit_code = 1


class UsageError(CocoopError):
    """A call that was wrong from the start: an unknown name, an impossible setting."""

    exit_code = 2


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a `name` that is none of the `known` ones, with the nearest of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")
