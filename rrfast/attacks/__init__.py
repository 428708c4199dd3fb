"""Adversarial attacks in the L-infinity ball.

Interface: `attack(model, x, y)` returns an `Attacked`: the points, the loss there, and whether they
are misclassified; `attack.run(engine, x, y)` is the same with an open engine. `ATTACKS` has them by
name; a new one is a file and a line here. `LOSSES` has the losses that they maximise, `STARTS`
their starting points. `Distal` and `distal_examples` need no labels: they find the most confident
points near images of noise.

    >>> list(ATTACKS)[:4]
    ['fgsm', 'pgd', 'cw_pgd', 'apgd_ce']
    >>> ATTACKS["fgsm"](eps=0.1).steps
    1
"""

from collections.abc import Callable
from functools import partial

from rrfast.attacks.apgd import APGD
from rrfast.attacks.attack import Attack, Attacked
from rrfast.attacks.autoattack_package import AutoAttackPackage
from rrfast.attacks.ball import Ball
from rrfast.attacks.distal import (
    DISTAL,
    Distal,
    DistalExamples,
    distal_examples,
    distal_noise,
)
from rrfast.attacks.ensemble import Ensemble, autoattack
from rrfast.attacks.fab import FAB
from rrfast.attacks.loss import LOSSES, Loss
from rrfast.attacks.pgd import PGD
from rrfast.attacks.sanity_checks import beyond_gradients, sanity
from rrfast.attacks.square import Square
from rrfast.attacks.start import STARTS

__all__ = [
    "APGD",
    "ATTACKS",
    "DISTAL",
    "FAB",
    "LOSSES",
    "PGD",
    "STARTS",
    "Attack",
    "Attacked",
    "AutoAttackPackage",
    "Ball",
    "Distal",
    "DistalExamples",
    "Ensemble",
    "Loss",
    "Square",
    "autoattack",
    "beyond_gradients",
    "distal_examples",
    "distal_noise",
    "sanity",
]

ATTACKS: dict[str, Callable[..., Attack]] = {
    "fgsm": partial(PGD, steps=1, step_size=1.0),
    "pgd": PGD,
    "cw_pgd": partial(PGD, loss="cw"),
    "apgd_ce": APGD,
    "apgd_dlr": partial(APGD, loss="dlr"),
    "apgd_t": partial(APGD, loss="dlr", targets=9),
    "fab_t": FAB,
    "square": Square,
    "autoattack": autoattack,
    "autoattack_package": AutoAttackPackage,
}
