"""`cocoop serve`: the page and the API on one port, until it is stopped."""

from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from rich.console import Console

from cocoop.backbones.device import AUTO
from cocoop.deploy.serve.answers import SideBySide
from cocoop.deploy.serve.limits import Limits
from cocoop.errors import CocoopError
from cocoop.estimator import PromptClassifier, load

APPROXIMATE = ("screened", "linear")


def serve(
    folders: Sequence[Path],
    host: str,
    port: int,
    limits: Limits,
    console: Console,
    *,
    names: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    memory_budget: int | None = None,
    testing: str = AUTO,
) -> None:
    """Serve models until interrupted.

    Args:
        folders: what `cocoop fit` wrote, at least one.
        host: address to listen at.
        port: to listen at; 0 takes a free one.
        limits: what is refused.
        console: where the address goes.
        names: further ones under which a proxy shows the server.
        device: where the backbones are put.
        precision: of the backbones.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        testing: how logits are computed; see `PromptClassifier`; models' names say it.

    Raises:
        CocoopError: the extra `serve` is missing, a model cannot be loaded, or the address is taken.
    """
    try:
        from cocoop.deploy.serve.app import make_app
        from cocoop.deploy.serve.connections import LOOPBACK, listen, run
    except ImportError as error:
        raise CocoopError(f"serving needs more: pip install 'cocoop[serve]' ({error})") from None
    options: dict[str, Any] = {"precision": precision, "memory_budget": memory_budget, "testing": testing}
    loaded = [load(folder, device=device, **options) for folder in folders]
    named = name_models(list(zip(folders, loaded, strict=True)))
    with listen(host, port) as listener:
        address = listener.getsockname()
        local = _is_local(host)
        hosts = {*LOOPBACK, *names, host} if local or names else None
        app = make_app(SideBySide(named, limits), hosts, names)
        shown = f"[{host}]" if ":" in host else host
        console.print(f"serving {', '.join(named)} at http://{shown}:{address[1]}/", highlight=False)
        console.print("HTTP API: /docs; stop with Ctrl-C", highlight=False)
        if not local:
            console.print("warning: everybody who reaches this machine can use it", style="yellow")
        with suppress(KeyboardInterrupt):  # how it is stopped
            run(app, listener, limits)


def name_models(models: Sequence[tuple[Path, PromptClassifier]]) -> dict[str, PromptClassifier]:
    """Give each model the shortest name that no other has: its method, its folder's name, its path.

    One whose logits are approximate says so.
    """
    words = [str(path) for path, _ in models]
    for name in (lambda path, model: model.method, lambda path, model: path.resolve().name):
        labels = [name(*pair) for pair in models]
        if len(set(labels)) == len(models):
            words = labels
            break
    asked = (f" ({model.testing})" if model.testing in APPROXIMATE else "" for _, model in models)
    names = (f"{word}{how}" for word, how in zip(words, asked, strict=True))
    return dict(zip(names, (model for _, model in models), strict=True))


def _is_local(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"
