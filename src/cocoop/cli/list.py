"""What there is to choose from, as tables made from the registries."""

from rich.table import Table

from cocoop.backbones.family import FAMILIES
from cocoop.backbones.pretrained import SHIPPED, pretrained, read_config, text_path
from cocoop.data.benchmark.catalog import entries
from cocoop.methods import facts_of, ordered
from cocoop.methods._settings import all_presets


def table(kind: str, full: bool) -> Table:
    """Return the table of one kind; `full` where it was asked for alone."""
    return {
        "methods": _methods,
        "presets": _presets,
        "datasets": _datasets,
        "protocols": _protocols,
        "backbones": lambda: _backbones(full),
    }[kind]()


def _table(title: str, *columns: str) -> Table:
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        shown.add_column(name)
    return shown


def _methods() -> Table:
    shown = _table("Methods", "name", "what it is", "needs, learns, selects")
    shown.columns[0].no_wrap = True
    shown.columns[1].overflow = "fold"
    shown.show_lines = True
    for name in ordered():
        facts = facts_of(name)
        paper, code = facts.paper, facts.paper.code.removeprefix("https://")
        about = (f"{facts.name} {facts.summary}.", f"{paper.authors}, {paper.venue}", code)
        learns = {"none": "learns nothing", "steps": "learns by steps"}.get(facts.training, facts.training)
        others = "for its own names only" if facts.bound else "for any names"
        details = (
            f"needs {facts.needs or 'nothing'}; {learns}",
            "image tower frozen" + ("" if facts.cut == "feature" else f" up to its {facts.cut}"),
            f"selects on {facts.selects_on}",
            f"{others}{', sees the new ones' if facts.sees_new_names else ''}",
            *([f"adapts to {facts.adaptation}"] if facts.sees_test_images else []),
        )
        shown.add_row(name, "\n".join(filter(None, about)), "\n".join(details))
    shown.caption = "All settings of one: cocoop list presets NAME"
    shown.caption_justify = "left"
    return shown


def _presets() -> Table:
    shown = _table("Presets", "name", "method", "epochs", "batch", "lr", "source")
    for name, (method, preset) in all_presets().items():
        recipe = preset.recipe
        cells = (recipe.length, str(recipe.batch_size), f"{recipe.lr:g}") if recipe else ("", "", "")
        shown.add_row(name, method, *cells, preset.source)
    return shown


def _datasets() -> Table:
    shown = _table("Datasets", "name", "classes", "images", "template")
    for entry in entries():
        shown.add_row(entry.name, str(entry.classes), entry.images, entry.template)
    return shown


def _protocols() -> Table:
    from cocoop.experiments.protocols import PROTOCOLS  # with pandas, which the others need not wait for

    shown = _table("Protocols", "name", "what it is", "in the paper")
    for name in PROTOCOLS.names():
        shown.add_row(name, PROTOCOLS.get(name).title, PROTOCOLS.get(name).paper)
    return shown


def _backbones(full: bool) -> Table:
    shown = _table("Backbones", "name", "text path", "sizes", "languages, needs, weights")
    for column in shown.columns:
        column.overflow = "fold"
    for name, shipped in SHIPPED.items():
        sizes = ", ".join(map(str, shipped.sizes))
        shown.add_row(name, "token tree", sizes, f"English; in the package, {shipped.about}")
    for family in FAMILIES.names():
        about = FAMILIES.get(family).about
        needs = f"; needs cocoop[{about.extra}]" if about.extra else ""
        shown.add_row(f"{about.name}\n{about.example}", about.text, "", f"{about.languages}{needs}")
    known = pretrained()
    if not full:
        shown.add_row("ARCHITECTURE/TAG", "", "", f"{len(known)} of open_clip: cocoop list backbones")
        return shown
    for architecture, tags in known.items():
        config = read_config(architecture)
        text, size = config["text_cfg"], config["vision_cfg"]["image_size"]
        extra = ["needs cocoop[hf]"] if {"hf_model_name", "hf_tokenizer_name"} & text.keys() else []
        sizes = f"{size}, {text.get('width', '?')}, {config['embed_dim']}"
        shown.add_row(f"{architecture}/TAG", text_path(config), sizes, "; ".join([*extra, ", ".join(tags)]))
    shown.caption = "Sizes of image, text and embedding. More about one: cocoop backbones show NAME"
    shown.caption_justify = "left"
    return shown
