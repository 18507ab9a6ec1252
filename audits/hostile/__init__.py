"""Inputs made to do harm, given to the library: none may crash it, run, leave its folder, or cost much.

    python -m audits.hostile
    python -m audits.hostile --kind images

Every input comes to a result, or to a `CocoopError` with a message that a person can read.
"""

from audits.hostile.run import KINDS, Outcome, run

__all__ = ["KINDS", "Outcome", "run"]
