"""The conventions of metrics in the field, each as a sentence to print beside the number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from rrfast._checks import check_one_of

#: The class to detect; "errors" everywhere, unless a convention says otherwise.
Positive = Literal["errors", "correct"]

_Metric = TypeVar("_Metric", bound=Callable[..., float])
_SENTENCES: dict[str, Mapping[str, str]] = {}


def convention(metric: str | Callable[..., float], name: str = "rat") -> str:
    """A sentence that defines `metric(..., convention=name)`, to print beside the number.

    Args:
        metric: A metric of this package, or its name.
        name: The convention's name: "rat", or another one of `metric`.

    Returns:
        The sentence, without a full stop.

    Raises:
        ValueError: There is no such metric, or it has no such convention.

    Source: errata 11: "the convention is printed beside every number".

    Example:
        >>> convention("fpr_at_tpr")
        'errors positive; FPR at the first threshold with TPR >= tpr'
        >>> convention("fpr_at_tpr", "openmix")
        'right predictions positive; FPR where TPR is nearest to tpr'
    """
    key = metric if isinstance(metric, str) else metric.__name__
    check_one_of("metric", key, _SENTENCES)
    return _SENTENCES[key][known(key, name)]


def known(metric: str, name: str) -> str:
    """`name`, if `metric` has such a convention; else a ValueError."""
    check_one_of(f"convention of {metric}", name, _SENTENCES[metric])
    return name


def conventions(sentences: Mapping[str, str]) -> Callable[[_Metric], _Metric]:
    """A decorator that registers a metric's conventions by name; "rat" is the default."""

    def note(metric: _Metric) -> _Metric:
        named: Any = metric
        _SENTENCES[named.__name__] = dict(sentences)
        return metric

    return note
