"""From names to finished runs and their tables, with progress: what the commands and `cocoop.run` share."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import AUTO, DEVICES, Precision, choose_device, choose_precision
from cocoop.backbones.names import EMBEDDED
from cocoop.data import DATASETS, is_source, open_dataset
from cocoop.errors import UsageError, unknown
from cocoop.experiments import dry_run as dryrun
from cocoop.experiments.cell import Cell
from cocoop.experiments.cost import estimate
from cocoop.experiments.execute import complain, execute
from cocoop.experiments.plan import facts, plan
from cocoop.experiments.preflight import check_data
from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.experiments.run_cell import Setup
from cocoop.experiments.run_cells import assist
from cocoop.experiments.store import Record, Store
from cocoop.experiments.tracking import choose_tracker
from cocoop.methods._settings import MethodChoice, parse_overrides, resolve
from cocoop.methods._settings import presets as all_presets
from cocoop.report.page import html
from cocoop.report.show import show
from cocoop.report.tables.results import results
from cocoop.training.distributed import join
from cocoop.utils.files import default_cache

ALL_SHOTS = 16  # the paper's; more than the embedded classes have, so all of theirs are used


def run(
    protocols: str | Sequence[str],
    *,
    datasets: Sequence[str],
    methods: Sequence[str] = ("zeroshot", "coop", "cocoop"),
    seeds: Sequence[int] = (1, 2, 3),
    shots: int = ALL_SHOTS,
    source: str | None = None,
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
    command: str | None = None,
    dry_run: bool = False,
    console: Console | None = None,
) -> list[Record]:
    """Run protocols and return their records; finished cells are not run again.

    Args:
        protocols: registered names, or one, e.g. "base-to-new".
        datasets: registered names.
        methods: registered names; zero-shot CLIP, which the others are measured by, is always among them.
        seeds: one training each.
        shots: training images a class; a class with fewer gives all it has.
        source: the dataset that cross-dataset and domain-generalization train on; None for their own choice.
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
        track: where the curves of the fits go: a tracker that accelerate knows, or "none"; None for
            TensorBoard where it is installed.
        command: the command line that asks for the same, kept for `cocoop status`.
        dry_run: only print what would be run.
        console: where progress and tables go; None for nowhere.

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
    team, device = join(device)
    if team.size > 1 and str(workers) != "1":
        raise UsageError("--workers runs many fits, and a launcher one fit on many devices: leave one out")
    console = Console(quiet=True) if team.rank or not console else console
    tracker = choose_tracker(track)
    protocols = [protocols] if isinstance(protocols, str) else protocols
    for protocol in protocols:
        PROTOCOLS.get(protocol)
    choices = choose(tuple(dict.fromkeys(("zeroshot", *methods))) if methods else (), presets, overrides)
    known = dict.fromkeys((*datasets, *([source] if source else ())))
    for dataset in known:
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
        facts={name: facts(open_dataset(name, root), clip) for name in known},
    )
    cells = plan(protocols, settings, clip)
    check_data([cell for cell in cells if not store.has(cell)], root)
    _say_few(settings, console)
    if dry_run:
        _say_plan(settings, cells, store, clip, root, memory_budget, console)
        return []
    setup = Setup(store.folder, default_cache(), backbone, where, bits, memory_budget, threads, root, tracker)
    if team.rank:
        assist(setup, team)
        return []
    execute(cells, setup, clip if here else None, console, str(workers), command, team)
    team.call(None)  # where this process fails instead, the launcher ends the others
    wanted = {cell.key for cell in cells}
    records = [record for record in store.records() if record.cell.key in wanted]
    for each in results(records):
        show(each, console)
    complain(cells, store)
    return records


def demo(folder: Path, full: bool, console: Console) -> None:
    """Run base-to-new with the three methods on all embedded groups, show the table, write the report."""
    names = [name for name in DATASETS.names() if name.startswith("emoji/")]
    quick = () if full else ("coop-quick", "cocoop-quick")
    seeds = (1, 2, 3) if full else (1, 2)
    run("base-to-new", datasets=names, seeds=seeds, folder=folder, presets=quick, console=console)
    console.print(f"report: {html.write(Store(folder))}", soft_wrap=True, highlight=False)


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


def _say_few(settings: Settings, console: Console) -> None:
    """Say where classes have fewer images than the shots asked for."""
    few = [
        f"{name} ({found.fewest})"
        for name, found in settings.facts.items()
        if 0 < found.fewest < settings.shots
    ]
    if few:
        console.print(
            f"fewer than {settings.shots} training images in some classes, all of theirs are used: "
            f"{', '.join(few)}",
            highlight=False,
        )


def _say_plan(
    settings: Settings,
    cells: Sequence[Cell],
    store: Store,
    clip: Backbone,
    root: str | Path | None,
    budget: int | None,
    console: Console,
) -> None:
    """Say what would be run, with every setting resolved and an estimate of the work."""
    missing = [cell for cell in cells if not store.has(cell)]
    console.print(f"{len(cells)} cells, {len(missing)} to run, into {store.folder}", soft_wrap=True)
    sections = {"all methods": dryrun.common(clip, settings.seeds, settings.shots)}
    sections |= {choice.label: dryrun.resolved(choice, clip) for choice in settings.methods}
    for title, values in sections.items():
        console.print(Text(f"\n{title}", style="bold"))
        for name, value in values.items():
            console.print(Text(f"  {name:14} {value}"), soft_wrap=True)
    if missing:
        console.print("")
        for line in dryrun.in_words(estimate(missing, store, clip, root, budget)):
            console.print(line, soft_wrap=True, highlight=False)
