"""In how many bits the frozen towers compute; apart from `device`, as records name it without torch."""

from typing import Literal

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
