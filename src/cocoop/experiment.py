"""From names to finished runs and their report, with progress: what the commands and `cocoop.run` share."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from cocoop.backbone import load_backbone
from cocoop.cells import Cell
from cocoop.data import DATASETS, is_source, open_dataset
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.execution import complain, execute
from cocoop.files import default_cache
from cocoop.precision import AUTO, DEVICES, Precision, choose_device, choose_precision
from cocoop.preflight import check_data
from cocoop.protocols import PROTOCOLS, Settings
from cocoop.report import html, tables
from cocoop.runs import Setup
from cocoop.settings import MethodChoice, parse_overrides, resolve
from cocoop.settings import presets as all_presets
from cocoop.store import Record, Store
from cocoop.weights import EMBEDDED

ALL_SHOTS = 16  # the paper's; more than the embedded classes have, so all of theirs are used


def run(
    protocol: str,
    *,
    datasets: Sequence[str],
    methods: Sequence[str] = ("zeroshot", "coop", "cocoop"),
    seeds: Sequence[int] = (1, 2, 3),
    shots: int = ALL_SHOTS,
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
    command: str | None = None,
    dry_run: bool = False,
    console: Console | None = None,
) -> list[Record]:
    """Run a protocol and return its records; finished cells are not run again.

    Args:
        protocol: registered name, e.g. "base-to-new".
        datasets: registered names.
        methods: registered names.
        seeds: one training each.
        shots: training images a class; a class with fewer gives all it has.
        backbone: name for `load_backbone`.
        folder: the run folder.
        presets: names of presets, at most one a method; the others take their first.
        overrides: "METHOD.FIELD=VALUE" words.
        device: where to compute; see `load_backbone`.
        precision: of the frozen towers; see `load_backbone`.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        root: the folder of the datasets, as for `open_dataset`.
        workers: processes that share the cells out.
        threads: of each process on the CPU; None shares the processors out. The last bits of a result may
            depend on it.
        command: the command line that asks for the same, kept for `cocoop status`.
        dry_run: only print what would be run.
        console: where progress and tables go; None for nowhere.

    Raises:
        UsageError: an unknown name or an impossible setting.
        CocoopError: cells failed; the others were run all the same.
    """
    console = console or Console(quiet=True)
    plan = PROTOCOLS.get(protocol)
    choices = choose(methods, presets, overrides)
    for dataset in datasets:
        if not is_source(dataset):
            DATASETS.get(dataset)
    store = Store(Path(folder))
    where, bits = _place(device, precision, str(workers))
    here = str(workers) == "1"  # else this process only needs the digest of the weights
    clip = load_backbone(backbone, where, bits) if here else load_backbone(backbone, "cpu", "fp32")
    settings = Settings(tuple(datasets), choices, tuple(seeds), shots, backbone, clip.weights_digest, bits)
    cells = plan.cells(settings)
    check_data([cell for cell in cells if not store.has(cell)], root)
    _say_few(settings, root, console)
    if dry_run:
        _say_plan(settings, cells, store, console)
        return []
    setup = Setup(store.folder, default_cache(), backbone, where, bits, memory_budget, threads, root)
    execute(cells, setup, clip if here else None, console, str(workers), command)
    wanted = {cell.key for cell in cells}
    records = [record for record in store.records() if record.cell.key in wanted]
    _show(protocol, records, console)
    complain(cells, store)
    return records


def demo(folder: Path, full: bool, console: Console) -> None:
    """Run base-to-new with the three methods on all embedded groups, show the table, write the report."""
    names = [name for name in DATASETS.names() if name.startswith("emoji/")]
    quick = () if full else ("coop-quick", "cocoop-quick")
    seeds = (1, 2, 3) if full else (1, 2)
    run("base-to-new", datasets=names, seeds=seeds, folder=folder, presets=quick, console=console)
    console.print(f"report: {html.write(Store(folder))}", soft_wrap=True, highlight=False)


def report(folder: Path, format: str, console: Console, root: str | Path | None = None) -> None:
    """Print the tables of a run folder, or write its page and print where it is.

    Raises:
        CocoopError: there is nothing in the folder to report.
    """
    store = Store(folder)
    records = list(store.records())
    if not records:
        raise CocoopError(
            f"{folder} holds no finished runs; make some with: cocoop run base-to-new --out {folder}"
        )
    if format == "html":
        console.print(f"report: {html.write(store, root)}", soft_wrap=True, highlight=False)
        return
    for protocol in sorted({record.cell.protocol for record in records}):
        of_protocol = [record for record in records if record.cell.protocol == protocol]
        if format == "table":
            _show(protocol, of_protocol, console)
            continue
        frame = tables.in_order(PROTOCOLS.get(protocol).table(of_protocol))
        words = tables.markdown(frame) if format == "md" else frame.to_csv(index=False)
        console.print(words, soft_wrap=True, highlight=False, markup=False)


def choose(
    methods: Sequence[str], presets: Sequence[str], overrides: Sequence[str]
) -> tuple[MethodChoice, ...]:
    """Resolve method names, preset names and "METHOD.FIELD=VALUE" words. Raises UsageError."""
    known = all_presets()
    chosen: dict[str, str] = {}
    for name in presets:
        if name not in known:
            raise unknown("preset", name, known)
        method = known[name][0]
        if method not in methods:
            raise UsageError(f"preset {name!r} is for {method}, which is not among the methods")
        if method in chosen:
            raise UsageError(f"two presets for {method}: {chosen[method]} and {name}")
        chosen[method] = name
    values = parse_overrides(overrides)
    if stray := set(values) - set(methods):
        raise unknown("method in --set", sorted(stray)[0], methods)
    return tuple(resolve(method, chosen.get(method), values.get(method)) for method in methods)


def _place(device: str, precision: str, workers: str) -> tuple[str, Precision]:
    """Settle "auto" once for all workers; a cluster has devices that this machine need not have."""
    if not workers.startswith("ray"):
        where = choose_device(device)
    elif device.partition(":")[0] in DEVICES:
        where = torch.device("cpu" if device == AUTO else device)
    else:
        raise unknown("device", device, DEVICES)
    return str(where), choose_precision(precision, where)


def _show(protocol: str, records: Sequence[Record], console: Console) -> None:
    plan = PROTOCOLS.get(protocol)
    frame = tables.in_order(plan.table(records))
    if frame.empty:
        console.print(f"{plan.title}: no complete rows yet")
        return
    console.print(tables.terminal(frame, plan.title))
    for line in tables.notes(frame, records):
        console.print(line, highlight=False)


def _say_few(settings: Settings, root: str | Path | None, console: Console) -> None:
    """Say where classes have fewer images than the shots asked for."""
    few = []
    for name in settings.datasets:
        train = open_dataset(name, root).splits.get("train", ())
        least = min(Counter(item.label for item in train).values(), default=settings.shots)
        if least < settings.shots:
            few.append(f"{name} ({least})")
    if few:
        console.print(
            f"fewer than {settings.shots} training images in some classes, all of theirs are used: "
            f"{', '.join(few)}",
            highlight=False,
        )


def _say_plan(settings: Settings, cells: Sequence[Cell], store: Store, console: Console) -> None:
    missing = sum(not store.has(cell) for cell in cells)
    console.print(f"{len(cells)} cells, {missing} to run, into {store.folder}; shots {settings.shots}")
    for choice in settings.methods:
        console.print(f"{choice.label}: preset {choice.preset}", highlight=False)
        console.print(f"  {choice.config}", highlight=False)
        console.print(f"  {choice.recipe or 'nothing is learned'}", highlight=False)
