"""`cocoop studio`: the page on one port of this machine, until it is stopped."""

import os
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from cocoop.errors import CocoopError, UsageError

HOST = "127.0.0.1"  # and nothing else: what is done here is for one person
DEFAULT = "studio"  # the folder that is made where none is given
LOCK = ".cocoop-studio.lock"


def studio(folder: Path | None, port: int, console: Console, show: bool = False, **options: object) -> None:
    """Open a folder until interrupted.

    Args:
        folder: of images; None for `DEFAULT`, which is made.
        port: to listen at; 0 takes a free one.
        console: where the address goes.
        show: open the page in the browser.
        options: see `Options`.

    Raises:
        UsageError: there is no such folder.
        CocoopError: the extra `serve` is missing, the folder cannot be read or is open in another studio, or
            the port is taken.
    """
    try:
        from cocoop.deploy.serve.connections import LOOPBACK, listen, run
        from cocoop.deploy.studio.app import make_app
    except ImportError as error:
        raise CocoopError(f"the studio needs more: pip install 'cocoop[serve]' ({error})") from None
    from cocoop.deploy.studio.loading import Options
    from cocoop.deploy.studio.opening import open_folder
    from cocoop.deploy.studio.studio import Studio

    if str(options.get("template", "{}")).count("{}") != 1:
        raise UsageError(f"--template {options['template']!r} needs {{}} once, where the name stands")
    root = _root(folder)
    out = options.pop("out", None) or root.parent / f"{root.name}-studio"
    with listen(HOST, port) as listener, _alone(root):
        made = Studio(open_folder(root), Options(out=Path(str(out)), **options))  # type: ignore[arg-type]
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        console.print(f"studio of {root} at {address}", highlight=False, soft_wrap=True)
        console.print("stop with Ctrl-C", highlight=False)
        made.start()
        try:
            if show:
                webbrowser.open(address)
            with suppress(KeyboardInterrupt):  # how it is stopped
                run(make_app(made, {*LOOPBACK}), listener, made.options.limits)
        finally:
            made.stop()


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep other studios out of a folder; one that is read-only has nothing to lose."""
    lock = FileLock(root / LOCK)
    if os.access(root, os.W_OK):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise CocoopError(
                f"{root} is open in another studio; use its page, or stop it (Ctrl-C) first"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _root(folder: Path | None) -> Path:
    """Return the folder, which is there. Raises UsageError where it is not."""
    root = (Path(DEFAULT) if folder is None else folder.expanduser()).resolve()
    if folder is None:
        root.mkdir(exist_ok=True)
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise UsageError(f"{root} {what}; give a folder of images, or make one: mkdir {root}")
    return root
