"""Training objectives, one file each.

Contract: `objective.backward(model, x, y, epoch=epoch)` adds the gradient and returns the loss;
`objective(model, x, y, epoch=epoch)` is the loss with its graph. `Objective` says all of it.
`OBJECTIVES` names them; a new one is a file and a line here.

    >>> sorted(OBJECTIVES)
    ['at', 'mixup', 'openmix', 'rat', 'regmixup', 'reverse_at', 'standard']
    >>> OBJECTIVES["at"](eps=0.1).mode
    'at'
"""

from collections.abc import Callable
from functools import partial

from rrfast.objectives.mixup import Mixup
from rrfast.objectives.objective import Backward, Criterion, NoSync, Objective, Scaler
from rrfast.objectives.openmix import OpenMix
from rrfast.objectives.rat import RAT
from rrfast.objectives.regmixup import RegMixup
from rrfast.objectives.standard import Standard

__all__ = [
    "OBJECTIVES",
    "RAT",
    "Backward",
    "Criterion",
    "Mixup",
    "NoSync",
    "Objective",
    "OpenMix",
    "RegMixup",
    "Scaler",
    "Standard",
]

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "standard": Standard,
    "rat": RAT,
    "at": partial(RAT, mode="at"),
    "reverse_at": partial(RAT, mode="reverse_at"),
    "mixup": Mixup,
    "regmixup": RegMixup,
    "openmix": OpenMix,
}
