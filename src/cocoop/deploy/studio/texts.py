"""The text features of names, each computed once: typing a further name costs that name alone."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from cocoop.backbones.clip import Backbone
from cocoop.deploy.studio.names import Name, called
from cocoop.errors import UsageError
from cocoop.estimator import ZeroShot
from cocoop.text.scripts import doubt


class NameTexts:
    """Zero-shot text features by name and phrases.

    Args:
        backbone: the frozen CLIP.
        template: the zero-shot prompt, with `{}` for the class name.
        memory_budget: bytes for the text encoder; None for what the machine allows.
    """

    def __init__(self, backbone: Backbone, template: str, memory_budget: int | None = None) -> None:
        self._model = ZeroShot(backbone, template=template, memory_budget=memory_budget)
        self._backbone = backbone
        self._known: dict[Name, Tensor | str] = {}

    def of(self, names: Sequence[Name]) -> tuple[Float[Tensor, "c d"], dict[str, str]]:
        """Return unit text features of the names that CLIP can read, and by name why others cannot be."""
        if fresh := [each for each in dict.fromkeys(names) if each not in self._known]:
            self._known |= self._encoded(fresh)
        found = [(each, self._known[each]) for each in names]
        problems = {each.name: known for each, known in found if isinstance(known, str)}
        rows = [known for _, known in found if isinstance(known, Tensor)]
        return torch.stack(rows) if rows else torch.empty(0, self._backbone.embed_dim), problems

    def doubts(self, names: Sequence[Name]) -> dict[str, str]:
        """Return by name why CLIP makes little of it, though it can be read."""
        said = {each.name: doubt(self._backbone, called([each])[each.name]) for each in names}
        return {name: words for name, words in said.items() if words}

    def logits(
        self, raw: Float[np.ndarray, "n d"], names: Sequence[Name]
    ) -> tuple[Float[np.ndarray, "n c"], dict[str, str]]:
        """Return the zero-shot logits of image features, and why some names have none."""
        texts, problems = self.of(names)
        logits = self._backbone.logit_scale * normalize(torch.from_numpy(raw), dim=-1) @ texts.T
        return logits.numpy(), problems

    def _encoded(self, names: Sequence[Name]) -> dict[Name, Tensor | str]:
        try:
            classifier = self._model.classifier(called(names))
        except UsageError as error:
            if len(names) == 1:
                return {names[0]: str(error)}
            return {name: each for one in names for name, each in self._encoded([one]).items()}
        nothing = torch.zeros(1, self._backbone.embed_dim)
        with torch.no_grad():
            features = classifier.encode(classifier.contexts(nothing.to(classifier.device)))[0]
        return dict(zip(names, normalize(features, dim=-1).float().cpu(), strict=True))
