"""What scikit-learn asks of an estimator beside fit and predict: its parameters by name, and its tags."""

import inspect
from collections.abc import Mapping
from typing import Any

from cocoop.errors import unknown

# what a model folder tells of the parameters
SAVED = ("method", "preset", "epochs", "settings", "template", "phrases", "seed")


def params_of(estimator: object) -> dict[str, Any]:
    """Return what an estimator was made with, by name."""
    return {name: getattr(estimator, name) for name in inspect.signature(type(estimator)).parameters}


def set_params(estimator: object, params: Mapping[str, Any]) -> None:
    """Change what an estimator was made with. Raises UsageError for an unknown name."""
    for name, value in params.items():
        if name not in (known := params_of(estimator)):
            raise unknown("parameter", name, known)
        setattr(estimator, name, value)


def shown(estimator: object) -> str:
    """Return an estimator as Python: its method, and what is not as it is by default."""
    defaults = inspect.signature(type(estimator)).parameters
    given = {k: v for k, v in params_of(estimator).items() if k == "method" or v != defaults[k].default}
    return f"{type(estimator).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"


def tags() -> Any:
    """Return scikit-learn's tags of a classifier of images."""
    from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

    target, inputs = TargetTags(required=True), InputTags(two_d_array=False)
    kinds = ClassifierTags(multi_label=True)
    return Tags("classifier", target, classifier_tags=kinds, input_tags=inputs)
