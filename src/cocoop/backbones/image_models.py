"""Image towers as modules from pixels to features, whatever else they return."""

from collections.abc import Callable
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn


class FirstOutput(nn.Module):
    """An image tower that may return more than features, of which these are the first.

    Args:
        tower: pixels to features, or to features and more.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the features of images."""
        out: Any = self.tower(images)
        return cast(Tensor, out[0] if isinstance(out, tuple) else out)


class Pooled(nn.Module):
    """An image tower of transformers: what it pools, projected where the model projects.

    Args:
        tower: pixels to an output with `pooler_output`.
        projection: of what is pooled; None where there is none.
        inputs: makes the tower's arguments of pixels; the pixels alone where None.
    """

    def __init__(
        self,
        tower: nn.Module,
        projection: nn.Module | None = None,
        inputs: Callable[[Tensor], dict[str, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.tower, self.projection, self.inputs = tower, projection, inputs

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the features of images."""
        given = self.inputs(images) if self.inputs else {"pixel_values": images}
        pooled: Tensor = self.tower(**given).pooler_output
        return cast(Tensor, self.projection(pooled) if self.projection else pooled)
