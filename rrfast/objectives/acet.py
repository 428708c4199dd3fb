"""ACET: low confidence on noise and in its neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from rrfast import ops
from rrfast.attacks import PGD
from rrfast.objectives.ceda import CEDA
from rrfast.objectives.inner_maximization import worst

if TYPE_CHECKING:
    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class ACET(CEDA):
    """Adversarial confidence enhanced training.

        L = loss(f(x), y) + weight 1/B sum_j max_{|u - z_j| <= eps} log max_k p_k(u)

    with |.| the L-infinity norm; without the maximum it is `CEDA`, whose docstring describes the
    factors and penalty of the released code. The maximum is found by PGD on the confidence in eval
    mode: the most confident of all iterates, the random starts and z itself.

    Cost: one forward and one backward of twice the batch; and, for the noise only, 1 + `restarts`
    (`steps` + 1) forwards and `restarts` `steps` backwards without gradients of the weights.

    Source: Hein, Andriushchenko & Bitterwolf (2019), Eq. 3 and appendix F; errata 19.

    Attributes:
        noise, weight, criterion: See `CEDA`.
        eps: Radius of the ball around the noise, in units of `scale`, >= 0.
        steps: Number of PGD steps, >= 1.
        step_size: Length of a step in units of eps, > 0; the default is the paper's 0.0075 at eps
            0.3.
        start: A name in `rrfast.attacks.STARTS`.
        bounds: The box for u, see `rrfast.ops.channel_bounds`; None for none. The noise must lie in
            it, see `rrfast.engine.box.within`.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for the noise's own.
        restarts: Number of attacks, each from its own start, whose most confident point counts; 1
            with "input". The paper has "potentially a few", its released code one.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> ACET(torch.rand_like, steps=5).backward(model, x, y).shape
        torch.Size([])
    """

    eps: float = 0.3
    steps: int = 40
    step_size: float = 1 / 40
    start: str = "uniform_norm"
    bounds: ops.Bounds | None = (0.0, 1.0)
    scale: ops.Scale | None = None
    restarts: int = 1
    _attack: PGD = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        attack = PGD(
            eps=self.eps,
            steps=self.steps,
            step_size=self.step_size,
            loss="confidence",
            start=self.start,
            keep="loss",
            restarts=self.restarts,
            origin=True,
            bounds=self.bounds,
            scale=self.scale,
        )
        object.__setattr__(self, "_attack", attack)

    def _near(self, model: Model, noise: Tensor) -> Tensor:
        return worst(self._attack, model, noise, None, name="noise")
