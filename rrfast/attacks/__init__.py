"""Attacks: the worst input near each given one, in the L-infinity ball.

Contract: `attack(model, x, y)` gives an `Attacked`: the points, the loss there, and whether they
are misclassified; `attack.run(engine, x, y)` is the same inside another loop. `ATTACKS` names them;
a new one is a file and a line here. What they climb is in `LOSSES`, where they begin in `STARTS`.
`Distal` and `distal_examples` need no labels: the most confident points near images of noise.

    >>> sorted(ATTACKS)
    ['cw_pgd', 'fgsm', 'pgd']
    >>> ATTACKS["fgsm"](eps=0.1).steps
    1
"""

from collections.abc import Callable
from functools import partial

from rrfast.attacks.attack import Attack, Attacked
from rrfast.attacks.ball import Ball
from rrfast.attacks.distal import Distal, DistalExamples, distal_examples, distal_noise
from rrfast.attacks.loss import LOSSES, Loss
from rrfast.attacks.pgd import PGD
from rrfast.attacks.start import STARTS

__all__ = [
    "ATTACKS",
    "LOSSES",
    "PGD",
    "STARTS",
    "Attack",
    "Attacked",
    "Ball",
    "Distal",
    "DistalExamples",
    "Loss",
    "distal_examples",
    "distal_noise",
]

ATTACKS: dict[str, Callable[..., Attack]] = {
    "fgsm": partial(PGD, steps=1, step_size=1.0),
    "pgd": PGD,
    "cw_pgd": partial(PGD, loss="cw"),
}
