"""The format of a record, from the JSON schema of its pydantic model."""

from collections.abc import Iterator
from typing import Any

from docs_tables import table

from cocoop.experiments import cell, record
from cocoop.utils.docstrings import attributes

MODELS = {model.__name__: model for model in (record.Record, cell.Cell, cell.Training, cell.Testing)}
WORDS = {"string": "text", "null": "null"}


def reference() -> str:
    """Return every field of a record as Markdown."""
    schema = record.Record.model_json_schema()
    return table(("field", "type", "what it is"), _fields("Record", schema, schema["$defs"]))


def _fields(
    name: str, schema: dict[str, Any], models: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield (path, type, description) of the fields of a model and of the models in it."""
    words = attributes(MODELS[name])
    for field, kind in schema["properties"].items():
        if "$ref" in kind:
            inner = kind["$ref"].rpartition("/")[2]
            yield from _fields(inner, models[inner], models, f"{path}{field}.")
        else:
            yield f"`{path}{field}`", _name(kind), words[field]


def _name(kind: dict[str, Any]) -> str:
    """Return a type of JSON schema in words."""
    if "enum" in kind:
        return ", ".join(f'`"{value}"`' for value in kind["enum"])
    if "anyOf" in kind:
        return " or ".join(map(_name, kind["anyOf"]))
    if kind["type"] == "array":
        return f"list of {_name(kind['items'])}s"
    inner = kind.get("additionalProperties")
    return f"object of {_name(inner)}s" if isinstance(inner, dict) else WORDS.get(kind["type"], kind["type"])
