"""Training objectives, one file each.

Interface: `objective.backward(model, x, y, epoch=epoch)` adds the gradient and returns the loss;
`objective(model, x, y, epoch=epoch)` is the loss with its graph; see `Objective`. `OBJECTIVES` has
them by name; a new one is a file and a line here.

    >>> list(OBJECTIVES)[:4]
    ['standard', 'rat', 'at', 'reverse_at']
    >>> OBJECTIVES["at"](eps=0.1).mode
    'at'
"""

from collections.abc import Callable
from functools import partial

from rrfast.objectives.acet import ACET
from rrfast.objectives.adversarial import AdversarialTraining
from rrfast.objectives.ccat import CCAT
from rrfast.objectives.ceda import CEDA
from rrfast.objectives.ewat import EWAT
from rrfast.objectives.gairat import GAIRAT
from rrfast.objectives.incorrect_rate import incorrect_rate_correlation
from rrfast.objectives.mail import MAIL
from rrfast.objectives.mixup import Mixup
from rrfast.objectives.objective import Backward, Criterion, NoSync, Objective, Scaler
from rrfast.objectives.openmix import OpenMix
from rrfast.objectives.rat import RAT
from rrfast.objectives.regmixup import RegMixup
from rrfast.objectives.standard import Standard
from rrfast.objectives.wmmr import WMMR

__all__ = [
    "ACET",
    "CCAT",
    "CEDA",
    "EWAT",
    "GAIRAT",
    "MAIL",
    "OBJECTIVES",
    "RAT",
    "WMMR",
    "AdversarialTraining",
    "Backward",
    "Criterion",
    "Mixup",
    "NoSync",
    "Objective",
    "OpenMix",
    "RegMixup",
    "Scaler",
    "Standard",
    "incorrect_rate_correlation",
]

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "standard": Standard,
    "rat": RAT,
    "at": partial(RAT, mode="at"),
    "reverse_at": partial(RAT, mode="reverse_at"),
    "mixup": Mixup,
    "regmixup": RegMixup,
    "openmix": OpenMix,
    "pgd_at": AdversarialTraining,
    "gairat": GAIRAT,
    "mail": MAIL,
    "wmmr": WMMR,
    "ewat": EWAT,
    "ceda": CEDA,
    "acet": ACET,
    "ccat": CCAT,
}
