"""What a run folder holds, without what any two runs differ in: to compare runs byte by byte."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

MEASURED = ('"created"', '"seconds_', '"peak_memory_mb"', '"sha256"', '"commit"')


def contents(folder: Path) -> dict[str, bytes]:
    """Return all results by name, without time stamps, timings, memory and the digests over them."""
    files = {path.name: path.read_bytes() for path in folder.glob("predictions/*")}
    for path in folder.glob("records/*/*/*.json"):
        lines = path.read_text().splitlines()
        files[path.name] = "\n".join(line for line in lines if not line.strip().startswith(MEASURED)).encode()
    for path in folder.glob("prompts/*.unfinished"):
        files[path.name] = b"left over"
    for path in folder.glob("prompts/[!.]*.safetensors"):
        with safe_open(path, "pt") as file:
            card = json.loads(file.metadata()["cocoop"])["card"] | {"seconds": 0}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        files[path.name] = save(tensors, {"cocoop": json.dumps(card)})
    return files
