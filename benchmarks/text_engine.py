"""The table of docs/performance.md: the text engine beside the reference path.

    python benchmarks/text_engine.py --classes 10,50,100 --out results.json

Cells whose padded prompts exceed --reference-limit are run without the reference, which would take
minutes and more memory than small machines have.
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
    reference_limit: Annotated[int, typer.Option(help="Most prompts the reference is run on.")] = 200,
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
                reference = count * batch <= reference_limit
                result = bench_text(count, batch, backbone, repeats, reference=reference)
                results.append(result)
                print(_row(result), flush=True)
    print(f"\n{results[0]['machine']}; {json.dumps(results[0]['versions'])}; medians of {repeats}, in turns")
    if out:
        write_json(out, results)


def _row(result: dict) -> str:
    train, memory = result["train"], result["memory"]
    spread = f"{train['engine_s']:.3f} ({train['engine_min_s']:.3f} to {train['engine_max_s']:.3f})"
    cells = [result["backbone"].partition("/")[0], result["classes"], result["batch"], spread]
    if "max_logit_diff" in result:
        cells += [f"{train['reference_s']:.2f}", f"{train['ratio']:.1f}", f"{result['eval']['ratio']:.1f}"]
        cells += [
            f"{train['floor_share']:.2f}",
            f"{memory['engine_mb']:.0f}",
            f"{memory['reference_mb']:.0f}",
        ]
        cells += [f"{result['max_logit_diff']:.1e}"]
    else:
        cells += ["", "", "", "", f"{memory['engine_mb']:.0f}", "", ""]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    typer.run(main)
