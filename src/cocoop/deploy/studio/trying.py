"""Any names, tried on some of the images; nothing is kept of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from cocoop.deploy.serve.limits import Refused
from cocoop.deploy.studio.names import Name, clean
from cocoop.deploy.studio.studio import Studio
from cocoop.deploy.studio.suggest import softmax
from cocoop.errors import UsageError

By = Literal["zero-shot", "model"]
SAMPLE = 24  # images
LIKELIEST = 5  # names of an image


def try_names(
    studio: Studio, words: Sequence[str], places: Sequence[int] | None, by: By | None
) -> dict[str, Any]:
    """Return the likeliest of some names for images, or for a sample that is spread over the folder.

    Args:
        studio: with the images and maybe a model.
        words: names, or "name=phrase|phrase".
        places: of images; None for the sample.
        by: who answers; None for the model where it answers for any names, else zero-shot CLIP.

    Raises:
        Refused: there are no features yet, or no names or too many.
        UsageError: a name that cannot be read, or that the model cannot answer for.
    """
    features, texts, limit = studio.features, studio.texts, studio.options.limits.classes
    if features is None or texts is None:
        raise Refused(
            409, studio.loading.error or "the backbone is still being loaded; try again in a few seconds"
        )
    if len(words) > limit:
        raise Refused(422, f"{len(words)} names are too many; give at most {limit}")
    names = _named(words)
    learned = studio.learned
    if by is None:
        by = "model" if learned and learned.open else "zero-shot"
    if by == "model" and learned is None:
        raise Refused(409, "there is no model yet; train one first")
    chosen = _sample(features.known) if places is None else [p for p in places if features.known[p]]
    raw = features.raw[chosen]
    if by == "model" and learned is not None:
        chances = learned.among(names)(raw)
    else:
        logits, problems = texts.logits(raw, names)
        if problems:
            raise UsageError(next(iter(problems.values())))
        chances = softmax(logits)
    order = np.argsort(-chances, axis=1, kind="stable")[:, :LIKELIEST].tolist()
    items = [
        {
            "id": studio.folder.ids[place],
            "names": [{"name": names[each].name, "p": float(row[each])} for each in best],
        }
        for place, row, best in zip(chosen, chances, order, strict=True)
    ]
    return {"by": by, "items": items}


def _named(words: Sequence[str]) -> list[Name]:
    from cocoop.estimator.inputs import with_phrases  # the page is there before torch is loaded

    given = with_phrases([clean(word) for word in words])
    if not given:
        raise Refused(422, "there is no name to try; give one")
    if isinstance(given, Mapping):
        return [Name(name, tuple(phrases)) for name, phrases in given.items()]
    return [Name(str(name)) for name in given]


def _sample(known: np.ndarray) -> list[int]:
    places = np.flatnonzero(known)
    spread = np.linspace(0, len(places) - 1, min(SAMPLE, len(places))).astype(int)
    found: list[int] = places[spread].tolist()
    return found
