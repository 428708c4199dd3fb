"""FAB: a walk along the decision boundary towards x, as an attack within a ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_number
from rrfast.attacks.attack import Attack, Attacked, judged, nothing, pick, unseen
from rrfast.attacks.ball import Ball
from rrfast.attacks.loss import cw
from rrfast.engine import Engine
from rrfast.methods import fab


@dataclass(frozen=True, eq=False)
class FAB(Attack):
    """The nearest point that FAB finds, projected onto the ball: `rrfast.methods.FAB` with an eps.

    The walk leads away from the prediction at x, which is the label for every sample that is right;
    a sample that is wrong at x stays there. The point found is projected onto the ball, and counts
    as wrong if it is still wrong there. Nothing waits for the device.

    Cost: with T targets 2 `steps` T + 4 forwards and `steps` T backwards; for all classes at once
    2 `steps` + 4 forwards and (K - 1) `steps` backwards.

    Source: Croce & Hein (ICML 2020), Alg. 1; FAB-T of the package `autoattack`, which has no final
    search between x and the point, and stops a sample at its first point within eps.

    Attributes:
        eps: Radius of the ball, in units of `scale`, >= 0.
        steps: Linearisations per target.
        targets: FAB-T with the T largest logits at x besides the label, at most K - 1; None for all
            classes at once.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> model = torch.nn.Linear(4, 5)
        >>> x, y = torch.rand(8, 4), torch.randint(5, (8,))
        >>> found = FAB(eps=0.1, steps=10, targets=2)(model, x, y)
        >>> bool(((found.x - x).abs() <= 0.1).all()), found.wrong.shape
        (True, torch.Size([8]))
    """

    eps: float = 8 / 255
    steps: int = 100
    targets: int | None = 9
    bounds: ops.Bounds | None = (0.0, 1.0)
    scale: ops.Scale | None = None

    def __post_init__(self) -> None:
        check_number("eps", self.eps, least=0)
        self._estimator()  # checks the other options

    def run(  # noqa: D102 - see `Attack`
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        del generator
        if len(x) == 0:
            return nothing(x)
        assert labels is not None  # checked by `Attack`
        walked = self._estimator().walk(engine, x)
        ball = Ball(x, self.eps, self.bounds, self.scale)
        z = ball.nearest(pick(walked.prediction != labels, x, walked.seen.point))
        logits = engine.forward(z)
        return unseen(ball.nearest(x)).or_better(judged(z, logits, labels, cw(logits, labels)))

    def _estimator(self) -> fab.FAB:
        return fab.FAB(steps=self.steps, targets=self.targets, bounds=self.bounds, scale=self.scale)
