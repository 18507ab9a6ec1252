"""`cocoop import-official`: a prompt that the released CoOp or CoCoOp code has trained, as a model folder."""

from pathlib import Path
from typing import Any

from rich.console import Console

from cocoop.estimator.card import ModelInfo
from cocoop.estimator.folder import check_place, write_model
from cocoop.estimator.train import now
from cocoop.training.released import find_checkpoint, read_prompt
from cocoop.utils.environment import environment


def import_released(
    path: Path, out: Path, backbone: str, console: Console, overwrite: bool = False, **options: Any
) -> None:
    """Write a checkpoint as a model folder, and say what it is; nothing in it is run, and no CLIP is loaded.

    Args:
        path: the checkpoint, or the folder of a run; see `find_checkpoint`.
        out: the model folder.
        backbone: name of the one it was trained with.
        console: where the report goes.
        overwrite: replace a model that is already there.
        options: further arguments of `read_prompt`.

    Raises:
        UsageError: `out` holds something else, or see `read_prompt`.
        CocoopError: see `find_checkpoint` and `read_prompt`; nothing is written.
    """
    check_place(out, overwrite=overwrite)
    file = find_checkpoint(path)
    card, tensors = read_prompt(file, backbone, **options)
    info = ModelInfo(
        prompt=card,
        params={"method": card.method, "settings": card.config, "template": card.template},
        preprocess={},  # the backbone's, which is not loaded
        precision="",
        environment=environment(),
        created=now(),
    )
    transferable = not card.config.get("class_specific", False)
    write_model(out, tensors, info, transferable, overwrite)
    epoch = card.notes["imported"]["epoch"]
    source = str(file) if epoch is None else f"{file}, epoch {epoch}"
    lines = [
        f"model: {out} ({card.method} on {backbone}, from {source})",
        f"The checkpoint does not tell the weights of {backbone}, so only sizes are checked on loading.",
    ]
    if card.class_names:
        lines.append(f"try: cocoop predict {out} IMAGE")
    else:
        lines.append("It has no class names of its own; give the names to choose from with --classes.")
        lines.append(f'try: cocoop predict {out} IMAGE --classes "any,names"')
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
