"""The backbone of a classifier: loaded once for all, and the embedded one where none is named."""

import warnings
from functools import lru_cache

from cocoop.backbones.clip import EMBEDDED, Backbone, load_backbone


@lru_cache(maxsize=2)
def shared_backbone(name: str, device: str, precision: str) -> Backbone:
    """Load a backbone once for all classifiers: it is frozen."""
    return load_backbone(name, device, precision)


def warn_unnamed(stacklevel: int) -> None:
    """Warn that the embedded backbone is used because none was named."""
    warnings.warn(
        f"no backbone was named, so the embedded {EMBEDDED} is used. It knows drawings, not photographs: for "
        "photographs pass backbone='ViT-B-16/openai', which is fetched once; for drawings pass "
        f"backbone={EMBEDDED!r}.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )
