"""Write the names of open_clip's weights to where `cocoop list` reads them without importing it.

.venv/bin/python tools/open_clip_names.py
"""

import importlib.metadata

from cocoop.backbones.pretrained import STORED, ask
from cocoop.utils.files import write_json

if __name__ == "__main__":
    version = importlib.metadata.version("open_clip_torch")
    write_json(STORED, {"open_clip_torch": version, "pretrained": ask()})
