"""The table of docs/performance.md: the text engine beside the reference path.

    python benchmarks/text_engine.py --classes 10,50,100 --out results.json

Where the prompts exceed --reference-limit, the reference would take minutes and more memory than small
machines have: it is run on a part of them, and its time and memory, marked with ~, are scaled.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from cocoop.bench.text import bench_text
from cocoop.files import write_json


def main(
    classes: Annotated[str, typer.Option(help="Numbers of classes, separated by commas.")] = "10,50,100",
    batches: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1",
    backbones: Annotated[str, typer.Option(help="Names, separated by commas.")] = "ViT-B-16-quickgelu/random",
    repeats: Annotated[int, typer.Option(help="Measured runs of each side.")] = 5,
    reference_limit: Annotated[int, typer.Option(help="Most prompts the reference runs on in full.")] = 200,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Where to write the results as JSON.")] = None,
) -> None:
    """Measure a grid and print its table in Markdown."""
    results = []
    print(
        "| text tower | classes | batch | step, s | reference, s | ratio | evaluation ratio | share of floor "
        "| memory, MB | reference, MB | logit difference |"
    )
    print("| --- |" + " ---: |" * 10)
    for backbone in backbones.split(","):
        for count in map(int, classes.split(",")):
            for batch in map(int, batches.split(",")):
                reference = "full" if count * batch <= reference_limit else "part"
                result = bench_text(count, batch, backbone, repeats, reference=reference, device=device)
                results.append(result)
                print(_row(result), flush=True)
                if out:
                    write_json(out, results)
    print(f"\n{results[0]['machine']}; {json.dumps(results[0]['versions'])}; medians of {repeats}, in turns")


def _row(result: dict) -> str:
    train, test, memory = result["train"], result["eval"], result["memory"]
    about = "" if result["reference"] == "measured" else "~"
    spread = f"{train['engine_s']:.3f} ({train['engine_min_s']:.3f} to {train['engine_max_s']:.3f})"
    cells = [
        result["backbone"].partition("/")[0].removesuffix("-quickgelu"),
        result["classes"],
        result["batch"],
        spread,
        f"{about}{train['reference_s']:.2f}",
        f"{about}{train['ratio']:.1f}",
        f"{about}{test['ratio']:.1f}",
        f"{about}{train['floor_share']:.2f} / {test['floor_share']:.2f}",
        f"{memory['engine_mb']:.0f}",
        f"{about}{memory['reference_mb']:.0f}",
        f"{result['max_logit_diff']:.1e}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    typer.run(main)
