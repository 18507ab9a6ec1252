"""`cocoop run`: protocols, datasets and methods to records, in this process, in several or on a cluster."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console

from cocoop.backbones.clip import EMBEDDED, Backbone, load_backbone
from cocoop.backbones.device import AUTO, DEVICES, Precision, choose_device, choose_precision
from cocoop.data import DATASETS, is_source, open_dataset
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.experiments import dry_run as dry
from cocoop.experiments.cell import Cell
from cocoop.experiments.estimate import estimate as seconds_of
from cocoop.experiments.plan import check_data, plan_cells, summarize
from cocoop.experiments.processes import run_in_processes
from cocoop.experiments.progress import progress_bar
from cocoop.experiments.protocols import PAPER_METHODS, PAPER_SHOTS, PROTOCOLS, Settings
from cocoop.experiments.ray import run_on_ray
from cocoop.experiments.record import Record
from cocoop.experiments.run_cell import Setup
from cocoop.experiments.run_cells import assist, run_cells
from cocoop.experiments.status import survey
from cocoop.experiments.store import Store
from cocoop.experiments.tracking import choose_tracker
from cocoop.methods import baseline
from cocoop.methods._settings import choose
from cocoop.training.distributed import SINGLE, Group, join_group
from cocoop.training.modes import checked_mode
from cocoop.utils.files import default_cache, sweep

FAILURES_SHOWN = 5


def run(
    protocols: str | Sequence[str],
    *,
    datasets: Sequence[str],
    methods: Sequence[str] = PAPER_METHODS,
    seeds: Sequence[int] = (1, 2, 3),
    shots: int = PAPER_SHOTS,
    source: str | None = None,
    sample: int = 0,
    backbone: str = EMBEDDED,
    folder: str | Path = Path("runs"),
    presets: Sequence[str] = (),
    overrides: Sequence[str] = (),
    device: str = AUTO,
    precision: str = AUTO,
    memory_budget: int | None = None,
    root: str | Path | None = None,
    workers: int | str = 1,
    threads: int | None = None,
    track: str | None = None,
    testing: str = "exact",
    command: str | None = None,
    dry_run: bool = False,
    estimate: bool = False,
    console: Console | None = None,
    report: Callable[[Sequence[Record]], None] = lambda records: None,
) -> list[Record]:
    """Run protocols and return their records; finished cells are not run again.

    Args:
        protocols: registered names, or one, e.g. "base-to-new".
        datasets: registered names.
        methods: registered names; zero-shot CLIP, which the others are measured by, is always among them.
        seeds: one training each.
        shots: training images a class; a class with fewer gives all it has.
        source: the dataset that cross-dataset and domain-generalization train on; None for their own choice.
        sample: test images of every test, drawn at random, for a first look; 0 for all.
        backbone: name for `load_backbone`.
        folder: the run folder.
        presets: names of presets, at most one a method; the others take their first.
        overrides: "METHOD.FIELD=VALUE" words.
        device: where to compute; see `load_backbone`.
        precision: of the frozen towers; see `load_backbone`.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        root: the folder of the datasets, as for `open_dataset`.
        workers: processes that share the cells out, or "ray" or "ray:ADDRESS" for a Ray cluster.
        threads: of each process on the CPU; None shares the processors out. The last bits of a result may
            depend on it.
        track: where the curves of the fits go: "tensorboard" or "none"; None for TensorBoard where it is
            installed.
        testing: how methods are tested whose contexts depend on the image: "exact", "screened" or "linear",
            with labels that say so; see `cocoop.training.screening`.
        command: the command line that asks for the same, kept for `cocoop status`.
        dry_run: only print what would be run.
        estimate: say first about how long it will take; that is measured, in a few steps.
        console: where progress goes; None for nowhere.
        report: called with the records before an error for the cells that failed is raised.

    Raises:
        UsageError: an unknown name, an impossible setting, or a method that a protocol cannot use.
        CocoopError: cells failed; the others were run all the same.

    Examples:
        >>> import cocoop
        >>> records = cocoop.run("base-to-new", datasets=["emoji/food"], methods=["zeroshot"], seeds=[1])
        >>> for record in records:
        ...     print(record.cell.testing.subset, record.correct, "of", record.total)
        base 65 of 88
        new 68 of 88
    """
    group, device = join_group(device)
    if group.size > 1 and str(workers) != "1":
        raise UsageError("--workers runs many fits, and a launcher one fit on many devices: leave one out")
    console = Console(quiet=True) if group.rank or not console else console
    tracker = choose_tracker(track)
    protocols = [protocols] if isinstance(protocols, str) else protocols
    for protocol in protocols:
        PROTOCOLS.get(protocol)
    choices = choose(tuple(dict.fromkeys((baseline(), *methods))) if methods else (), presets, overrides)
    named = dict.fromkeys((*datasets, *([source] if source else ())))
    for dataset in named:
        if not is_source(dataset):
            DATASETS.get(dataset)
    store = Store(Path(folder))
    where, bits = _place(device, precision, str(workers))
    here = str(workers) == "1"  # else this process only needs the weights' digest and the sizes
    clip = load_backbone(backbone, where, bits) if here else load_backbone(backbone, "cpu", "fp32")
    settings = Settings(
        datasets=tuple(datasets),
        methods=choices,
        seeds=tuple(seeds),
        shots=shots,
        backbone=backbone,
        weights=clip.weights_digest,
        precision=bits,
        source=source,
        sample=sample,
        summaries={name: summarize(open_dataset(name, root), clip) for name in named},
    )
    cells = plan_cells(protocols, settings, clip, root, checked_mode(testing))
    check_data([cell for cell in cells if not store.has(cell)], root)
    dry.print_few_shots(settings, console)
    if estimate and (missing := [cell for cell in cells if not store.has(cell)]):
        words = dry.duration(seconds_of(missing, store, clip, root, memory_budget))
        console.print(f"{len(missing)} cells to run, about {words} of one process like this one")
    if dry_run:
        dry.print_plan(settings, cells, store, clip, root, console)
        return []
    setup = Setup(store.folder, default_cache(), backbone, where, bits, memory_budget, threads, root, tracker)
    if group.rank:
        assist(setup, group)
        return []
    _execute(cells, setup, clip if here else None, console, str(workers), command, group)
    group.call(None)  # where this process fails instead, the launcher ends the others
    wanted = {cell.key for cell in cells}
    records = [record for record in store.records() if record.cell.key in wanted]
    report(records)
    _raise_for_failures(cells, store)
    return records


def _place(device: str, precision: str, workers: str) -> tuple[str, Precision]:
    """Settle "auto" once for all workers; a cluster has devices that this machine need not have."""
    if not workers.startswith("ray"):
        where = choose_device(device)
    elif device.partition(":")[0] in DEVICES:
        where = torch.device("cpu" if device == AUTO else device)
    else:
        raise unknown("device", device, DEVICES)
    return str(where), choose_precision(precision, where)


def _execute(
    cells: Sequence[Cell],
    setup: Setup,
    backbone: Backbone | None,
    console: Console,
    workers: str,
    command: str | None,
    group: Group = SINGLE,
) -> None:
    """Run the cells that have no record yet; those that failed before are tried again.

    Raises:
        UsageError: `workers` is neither a number nor a Ray cluster.
        CocoopError: the folder cannot be written, or worker processes ended early.
    """
    count, address = _parse_workers(workers)
    store = Store(setup.folder)
    missing = [cell for cell in cells if not store.has(cell)]
    if not missing:
        words = f"all {len(cells)} cells are finished in {store.folder}; nothing to run"
        console.print(words, soft_wrap=True)
        return
    start = time.monotonic()
    try:
        sweep(store.folder)
        store.claims.request(cells, command)
        for cell in missing:
            store.claims.clear_failure(cell)
        with progress_bar(missing, store, console) as bar:
            if not count:
                run_on_ray(missing, setup, address, bar.look)
            elif count == 1:
                run_cells(missing, setup, bar.tell, backbone, group)
            else:
                codes = run_in_processes(missing, setup, count, bar.look)
                if any(codes) and not all(map(store.settled, missing)):
                    raise CocoopError(
                        f"worker processes ended early, with exit codes {codes} (-9: killed, often for want "
                        "of memory); what was finished is kept, and the same command goes on from there"
                    )
    except OSError as error:
        raise CocoopError(f"cannot write to {store.folder}: {error}; what was finished is kept") from error
    done, took = sum(map(store.has, missing)), time.monotonic() - start
    words = f"{done} of {len(cells)} cells run in {took:.0f} s, records in {store.folder}"
    console.print(words, soft_wrap=True)


def _raise_for_failures(cells: Sequence[Cell], store: Store) -> None:
    """Raise CocoopError, naming what failed and why, where cells have no record."""
    left = [standing for standing in survey(cells, store) if standing.state != "done"]
    if not left:
        return
    lines = [
        f"{standing.cell.title}: {standing.note or standing.state}" for standing in left[:FAILURES_SHOWN]
    ]
    more = [f"and {len(left) - FAILURES_SHOWN} more"] if len(left) > FAILURES_SHOWN else []
    raise CocoopError(
        "\n  ".join([f"{len(left)} of {len(cells)} cells have no record:", *lines, *more])
        + f"\nThe same command tries them again; all about them: cocoop status {store.folder}"
    )


def _parse_workers(workers: str) -> tuple[int, str | None]:
    """Return the number of processes, or 0 and the address of a Ray cluster, if one is named."""
    kind, _, address = workers.partition(":")
    if kind == "ray":
        return 0, address or None
    if not (workers.isdecimal() and int(workers)):
        raise UsageError(f"--workers takes a number of processes, ray or ray:ADDRESS, not {workers!r}")
    return int(workers), None
