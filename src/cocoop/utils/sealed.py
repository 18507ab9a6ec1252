"""JSON files that carry their own digest: one that was changed or cut off is never taken for a result."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cocoop.utils.files import digest

SEAL = "sha256"  # the last field of a sealed file: a digest over all others

Model = TypeVar("Model", bound=BaseModel)


def seal(value: BaseModel) -> str:
    """Return a value as indented JSON with its digest."""
    body = value.model_dump(mode="json")
    return json.dumps(body | {SEAL: _digest(body)}, indent=2, ensure_ascii=False) + "\n"


def unseal(kind: type[Model], data: bytes) -> Model:
    """Read back what `seal` wrote.

    Raises:
        ValueError: it was changed or cut off since, or is no `kind`; the message says which, in a few words.
    """
    try:
        body = json.loads(data)
        whole = body.pop(SEAL, None) == _digest(body)
    except (ValueError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError("was changed or cut off since it was written")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"is not of this version of cocoop ({where}: {first['msg']})") from None


def _digest(body: dict[str, Any]) -> str:
    return digest(json.dumps(body, sort_keys=True))
