"""Confidence scores: how much to trust each prediction.

Every score is `score(model, x) -> Tensor [B]`, larger = more confident. `SCORES` names them all;
a new one is a file and a line here. The radius is one of them, once per estimator.

    >>> import torch
    >>> model, x = torch.nn.Linear(4, 3), torch.rand(2, 4)
    >>> sorted(SCORES)
    ['msr', 'radius_bs', 'radius_deepfool', 'radius_fab', 'radius_fast', 'radius_grad',
     'radius_pgd', 'radius_refined', 'radius_search']
    >>> SCORES["msr"](model, x).shape
    torch.Size([2])
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from rrfast.radius import METHODS, radius
from rrfast.scores.msr import msr

if TYPE_CHECKING:
    from collections.abc import Callable

    from rrfast.engine import Model

__all__ = ["SCORES", "msr"]

SCORES: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "msr": msr,
    **{f"radius_{method}": partial(radius, method=method) for method in METHODS},
}
