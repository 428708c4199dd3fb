"""Adversarial training on PGD examples."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from rrfast import ops
from rrfast.attacks import PGD
from rrfast.objectives.inner_maximization import worst
from rrfast.objectives.objective import Criterion, Objective, check_pair, loss_of, model_logits

if TYPE_CHECKING:
    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class Adversarial(Objective, ABC):
    """Base of objectives that train on x^, the last iterate of PGD on the cross-entropy of x.

    PGD maximises `rrfast.attacks.loss.ce`, whose gradient has the direction of the cross-entropy's.
    It runs in eval mode, as in GAIRAT, MAIL and TRADES, so that BatchNorm in training mode sees
    only x^; WMMR's released code attacks in training mode. If the model is a function, the modules
    that `rrfast.engine.modules_inside.modules_of` finds in it are in eval mode.

    Attributes:
        eps: Radius of the L-infinity ball, in units of `scale`, >= 0.
        steps: Number of PGD steps, >= 1.
        step_size: Length of a step in units of eps, > 0.
        start: A name in `rrfast.attacks.STARTS`. "uniform" as in Madry et al. and GAIRAT; MAIL and
            WMMR start at "gaussian", noise of deviation 0.001.
        bounds: The box for x^, see `rrfast.ops.channel_bounds`; None for none. x must lie in it,
            see `rrfast.engine.box.within`; for normalised inputs give the box in normalised units.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own. With inputs
            normalised by `std`, 1 / std makes eps a pixel step.
    """

    eps: float = 8 / 255
    steps: int = 10
    step_size: float = 0.25
    start: str = "uniform"
    bounds: ops.Bounds | None = (0.0, 1.0)
    scale: ops.Scale | None = None
    _attack: PGD = field(init=False, repr=False)

    def __post_init__(self) -> None:
        attack = PGD(
            eps=self.eps,
            steps=self.steps,
            step_size=self.step_size,
            start=self.start,
            keep="last",
            bounds=self.bounds,
            scale=self.scale,
        )
        object.__setattr__(self, "_attack", attack)

    def _worst(
        self, model: Model, x: Tensor, y: Tensor, each: Callable[[Tensor], object] | None = None
    ) -> Tensor:
        """x^, which requires a gradient if x does."""
        return worst(self._attack, model, x, y, each=each).requires_grad_(x.requires_grad)


@dataclass(frozen=True, eq=False)
class AdversarialTraining(Adversarial):
    """Adversarial training with PGD, "Standard" in the tables of IRAT.

        L = loss(f(x^), y)

    with x^ of `Adversarial`. x itself is not trained on. In contrast `at` in `OBJECTIVES`, the
    ablation of RAT, has the loss of x and that of x', which is found in training mode, starting
    from x.

    Cost: `steps` + 1 forwards and backwards; only the last backward computes gradients of the
    weights.

    Source: Madry et al. (2018), "Towards Deep Learning Models Resistant to Adversarial Attacks",
    Eq. 2.1; IRAT Eq. 2 and 3, section 4.1.

    Attributes:
        eps, steps, step_size, start, bounds, scale: See `Adversarial`.
        criterion: The loss of logits and labels, a scalar; the attack always uses the
            cross-entropy. Default: `cross_entropy`, the mean over the batch.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> AdversarialTraining(eps=0.1).backward(model, x, y).shape
        torch.Size([])
    """

    criterion: Criterion = nn.functional.cross_entropy

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        del epoch
        x, y = check_pair(x, y)
        return loss_of(self.criterion, model_logits(model, self._worst(model, x, y)), y)
