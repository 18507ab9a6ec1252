"""What goes wrong through no fault of the code: the message names the thing and the fix."""

import difflib
from collections.abc import Iterable


class CocoopError(Exception):
    """A run that cannot go on. Commands print the message alone and exit with `exit_code`.

    Examples:
        >>> import cocoop
        >>> try:
        ...     cocoop.load("no-model-here")
        ... except cocoop.CocoopError as error:
        ...     print(error)
        no-model-here is no model folder: it has no model.json; ...
    """

    exit_code = 1


class UsageError(CocoopError, ValueError):
    """A call that was wrong from the start: an unknown name, an impossible setting.

    Examples:
        >>> import cocoop
        >>> cocoop.open_dataset("emoji/foot")
        Traceback (most recent call last):
        cocoop.errors.UsageError: unknown dataset 'emoji/foot'. Did you mean 'emoji/food' ...
    """

    exit_code = 2


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a `name` that is none of the `known` ones, with the nearest of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


def in_words(error: BaseException) -> str | None:
    """Return what to tell a person of an error; None where it may be a fault of the code."""
    if isinstance(error, CocoopError):
        return str(error)
    if _is_out_of_memory(error):
        return "out of memory; give the text encoder less, e.g. --memory-budget 512MB, or a smaller batch"
    return str(error) if isinstance(error, OSError) else None


def _is_out_of_memory(error: BaseException) -> bool:
    # torch has an error of its own on accelerators, and a RuntimeError with words on the CPU
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
