"""Write the model card of tiny-clip or tiny-clip-vit: what it is, what it saw, and what it measures."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from captions import EMOJI_MIX, ICON_MIX
from corpus import MixSettings
from pretrain_tiny_clip import PULL, SECOND_STAGE
from tiny_clip import CONFIG, VIT_CONFIG
from zero_shot import ASSETS, TEMPLATES, accuracy, load, load_groups, markdown

CARD = """# tiny-clip

A CLIP small enough to live inside a Python package, in the architecture of open_clip's `CLIP` class. It
knows icons and emoji, not photographs: it is there so that prompt learning can be tried, tested and taught
without a download.

```python
import open_clip
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:<this folder>")
tokenizer = open_clip.get_tokenizer("local-dir:<this folder>")
```

## Architecture

| part | value |
|---|---|
| image tower | ModifiedResNet {layers}, width {width}, {image_size} x {image_size} pixels |
| text tower | {text_layers} layers, width {text_width}, {heads} heads, {context} tokens |
| vocabulary | CLIP's byte pairs |
| joint embedding | {embed_dim} |
| activation | QuickGELU |
| parameters | {parameters:,} (stored in half precision, loaded in single) |
| exp(logit scale) | {scale:.1f} |

## Data

{drawings:,} drawings of {names:,} names: {icons:,} icons of {sets} sets, brand logos and flags left out, and
{emoji:,} emoji by four vendors ({vendors}).
Every set is listed in `ATTRIBUTION.md`. The vendors of emoji-styles (its `colour` and `monochrome` roles)
are not among them.

A batch holds {emoji_share:.0%} emoji, {known_share:.0%} icons named like an emoji, and other icons.
Drawings are rotated, zoomed, shifted and recoloured at random; one-colour icons get a random ink; of the
emoji, {gray:.0%} are turned gray and {ink:.0%} redrawn in one ink.

## Captions

A caption says what is drawn, and often how: "a red color emoji of a {{}}.", "a thin icon of a {{}}.".
Chances of each kind, for emoji and for icons:

| | {kinds} |
|---|{rule}|
| emoji | {emoji_mix} |
| icons | {icon_mix} |

The kinds are "a photo of a {{}}.", the bare name, "a color emoji of a {{}}." (`kind`), with a colour word,
with a style word, with both, and "a drawing/picture/symbol of a {{}}." or "clip art of a {{}}.". Few emoji
are called photos, so that the usual template is not the best one: a context is worth learning.

## Training

AdamW and CLIP's loss with every caption of the same name counted as right, in {precision} on {machine},
torch {torch}. Each stage has its own warm-up and cosine; the commands are in `tools/README.md`.

| stage | steps | batch | peak rate | weight decay | seed | last loss | drawings a second |
|---|---|---|---|---|---|---|---|
{stages}

In the second stage {crops:.0%} of the drawings are random crops of {crop_low:.0%} to {crop_high:.0%} of
the area, as in few-shot training, and nothing that has an emoji is called a photo.

## Zero-shot accuracy on emoji-styles

Per cent top-1 among all classes of a group, on drawings by vendors that pre-training never saw: `test` in
colour, `mono` in black. Measured on the exported weights with `python tools/zero_shot.py`; the mean is over
the eight groups.

{accuracy}

## Limits

It reads line drawings of everyday things at 48 pixels. It knows no photographs, no people's identity, no text
in pictures, and English names only. Do not use it for anything but experiments with prompts.
"""

VIT_CARD = """# tiny-clip-vit

tiny-clip with a vision transformer, of open_clip's `VisionTransformer` class, in place of its ResNet: there
for methods that learn inside the image tower. Text tower, vocabulary and joint space are tiny-clip's, and so
are the text weights, which lie in its folder alone; here are the image tower and a logit scale.

```python
import cocoop
clip = cocoop.load_backbone("tiny-clip-vit")
```

## Architecture

| part | value |
|---|---|
| image tower | {layers} blocks, width {width}, {heads} heads |
| its input | {image_size} x {image_size} pixels in patches of {patch} x {patch} |
| its feature | the class token's, after a layer norm and a projection |
| text tower | tiny-clip's |
| joint embedding | {embed_dim} |
| activation | QuickGELU |
| parameters | {own:,} here (stored in half precision, loaded in single), {parameters:,} with the text tower |
| exp(logit scale) | {scale:.1f} |

## Training

Distilled from tiny-clip on its {drawings:,} drawings of {names:,} names, with its captions:
`../tiny-clip/README.md` says how they are made, and `../tiny-clip/ATTRIBUTION.md` lists every set with its
author and licence. The vendors of emoji-styles (its `colour` and `monochrome` roles) are not among them.

Both image towers see the same random views, {crops:.0%} of them random crops of {crop_low:.0%} to
{crop_high:.0%} of the area. The loss is CLIP's against the frozen text tower, with every caption of the same
name counted as right, plus {pull:g} times one minus the cosine to tiny-clip's image features. AdamW in
{precision} on {machine}, torch {torch}. Each stage has its own warm-up and cosine; the commands are in
`tools/README.md`. A stage that says "of" was stopped, and the next one went on from its weights.

| stage | steps | batch | peak rate | weight decay | seed | last loss | drawings a second |
|---|---|---|---|---|---|---|---|
{stages}

## Zero-shot accuracy on emoji-styles

Per cent top-1 among all classes of a group, on drawings by vendors that no training saw: `test` in colour,
`mono` in black. Measured on the exported weights with `python tools/zero_shot.py --model tiny-clip-vit`; the
mean is over the eight groups. How long to train was decided with these figures in view, so they describe the
model and are no contest; tiny-clip's own table is in its README.

{accuracy}

## Limits

Those of tiny-clip. It is there for experiments, and for nothing else. The licence is that of tiny-clip,
`../tiny-clip/LICENSE`.
"""


def corpus_facts(folder: Path) -> dict[str, Any]:
    """Counts of drawings, names and sets."""
    parts = json.loads((folder / "drawings.json").read_text(encoding="utf-8"))
    rows = parts["masks"] + parts["colours"]
    emoji = Counter(r["vendor"] for r in rows if r["kind"] == "emoji")
    return {
        "drawings": len(rows),
        "names": len({r["name"] for r in rows}),
        "emoji": emoji.total(),
        "vendors": ", ".join(sorted(emoji)),
        "icons": len(rows) - emoji.total(),
        "sets": len({r["vendor"] for r in rows} - set(emoji)),
    }


def stage_row(number: int, checkpoint: Path) -> str:
    """Settings, last loss and mean speed of one stage, as a table row."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    history, settings = state["history"], state["settings"]
    seconds = sum(1 / entry["samples_s"] for entry in history) / len(history)
    chosen = [f"{settings[key]:g}" for key in ("batch", "rate", "decay", "seed")]
    planned = settings["steps"]
    steps = f"{state['step']}" if state["step"] == planned else f"{state['step']} of {planned}"
    cells = [str(number), steps, *chosen, f"{history[-1]['loss']:.3f}", f"{1 / seconds:.0f}"]
    return "| " + " | ".join(cells) + " |"


def vit_facts(model: Any) -> dict[str, Any]:
    """Shape and size of the vision transformer."""
    vision = VIT_CONFIG["model_cfg"]["vision_cfg"]
    return {
        "layers": vision["layers"],
        "width": vision["width"],
        "heads": vision["width"] // vision["head_width"],
        "patch": vision["patch_size"],
        "own": sum(p.numel() for p in model.visual.parameters()) + 1,
        "pull": PULL,
    }


def design_facts() -> dict[str, Any]:
    """Shape of the model and make-up of a batch."""
    config, mix, crops = CONFIG["model_cfg"], MixSettings(), SECOND_STAGE[1]
    vision, text = config["vision_cfg"], config["text_cfg"]
    kinds = list(EMOJI_MIX | ICON_MIX)
    return {
        "layers": vision["layers"],
        "width": vision["width"],
        "image_size": vision["image_size"],
        "text_layers": text["layers"],
        "text_width": text["width"],
        "heads": text["heads"],
        "context": text["context_length"],
        "embed_dim": config["embed_dim"],
        "emoji_share": mix.emoji,
        "known_share": mix.known,
        "gray": mix.emoji_gray,
        "ink": mix.emoji_ink,
        "crops": crops.crops,
        "crop_low": crops.crop_area[0],
        "crop_high": crops.crop_area[1],
        "kinds": " | ".join(kinds),
        "rule": "|".join(["---"] * len(kinds)),
        "emoji_mix": " | ".join(f"{EMOJI_MIX.get(kind, 0):.0%}" for kind in kinds),
        "icon_mix": " | ".join(f"{ICON_MIX.get(kind, 0):.0%}" for kind in kinds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="one a stage, in order")
    parser.add_argument("--model", choices=("tiny-clip", "tiny-clip-vit"), default="tiny-clip")
    parser.add_argument("--data", type=Path, default=ASSETS / "emoji-styles")
    parser.add_argument("--machine", default="2 CPU cores", help="kind of machine the run had")
    parser.add_argument("--precision", default="bfloat16")
    args = parser.parse_args()
    model, preprocess, tokenizer = load(args.model)
    found = accuracy(model, tokenizer, load_groups(args.data, preprocess), TEMPLATES)
    vit = args.model == "tiny-clip-vit"
    facts = {
        **design_facts(),
        **(vit_facts(model) if vit else {}),
        **corpus_facts(args.corpus),
        "stages": "\n".join(stage_row(i, path) for i, path in enumerate(args.checkpoints, 1)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "scale": model.logit_scale.exp().item(),
        "machine": args.machine,
        "precision": args.precision,
        "torch": torch.__version__.split("+")[0],
        "accuracy": markdown(found),
    }
    card = (VIT_CARD if vit else CARD).format(**facts)
    (ASSETS / args.model / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
