"""Inputs made to do harm, given to the library: none may crash it, run, leave its folder, or cost much.

    python -m benchmarks.hostile
    python -m benchmarks.hostile --kind images

Every input comes to a result, or to a `CocoopError` with a message that a person can read.
"""

from benchmarks.hostile.run import KINDS, Outcome, run

__all__ = ["KINDS", "Outcome", "run"]
