"""`cocoop backbones`: what is known of a backbone before it is used."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cocoop.utils.display import terminal

if TYPE_CHECKING:
    from torch import nn

app = typer.Typer(no_args_is_help=True, help="Look at backbones before using them; no weights are fetched.")
out = terminal()
MILLION, MEGABYTE = 1e6, 1e6


@app.callback()
def _group() -> None:
    """Keep `show` a command of a group."""


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As --backbone takes it.")],
    classes: Annotated[int, typer.Option(min=1, help="For the memory of a training step.")] = 100,
) -> None:
    """Show sizes, parameters, memory of a training step, and whether the weights are on this machine."""
    from cocoop.backbones.family import find
    from cocoop.text.estimate import step_bytes

    source = find(name)
    about, skeleton, cached = source.about, source.skeleton(), source.cached()
    rows = {"family": f"{about.name} ({about.paper})", "languages": about.languages}
    if about.extra:
        rows["needs"] = f"pip install 'cocoop[{about.extra}]'"
    if skeleton is None:
        rows["sizes"] = "known once its weights are here"
    else:
        text, pixels = skeleton.text, skeleton.pixels
        whole, of_text = _parameters(skeleton.model), _parameters(text.module)
        if text.module is skeleton.model:  # one module holds both towers
            of_text = whole - _parameters(skeleton.model.get_submodule("visual"))
        always = text.fixed_length and not text.transformer
        rows |= {
            "text path": "token tree" if text.transformer else f"padded: {text.reason}",
            "image": f"{pixels[0]} x {pixels[1]} pixels",
            "embedding": f"{text.embed_dim} numbers",
            "text": f"width {text.width}, {len(text.blocks)} blocks, {text.vocabulary:,} tokens",
            "context": f"{'always' if always else 'at most'} {text.context_length} tokens",
            "parameters": f"{whole / MILLION:.1f} M, {of_text / MILLION:.1f} M of them for text",
            "memory": f"{4 * whole / MEGABYTE:,.0f} MB of weights in fp32",
        }
        if step := step_bytes(text, classes):
            rows["a training step"] = (
                f"{step / MEGABYTE:,.0f} MB for one image and {classes} classes, less within a budget"
            )
    rows["weights"] = {True: "on this machine", False: "to be fetched", None: "none to fetch by this name"}[
        cached
    ]
    table = Table(title=name, title_justify="left", show_header=False)
    for label, value in rows.items():
        table.add_row(label, value)
    out.print(table)


def _parameters(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())
