"""CCAT: confidence that decreases with the distance of an adversarial example from its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_number
from rrfast.attacks import PGD
from rrfast.engine.box import within
from rrfast.objectives.inner_maximization import worst
from rrfast.objectives.objective import Objective, check_pair
from rrfast.ops import accumulate_dtype, per_channel

if TYPE_CHECKING:
    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class CCAT(Objective):
    """Confidence-calibrated adversarial training.

        L   = 1/B sum_i CE(f(x_i + d_i), t_i),    CE(h, t) = -sum_k t_k log p_k
        t_i = (1 - g_i) onehot(y_i) + g_i / K,    g_i = 1 - (1 - min(1, |d_i| / eps))^rho

    with |.| the L-infinity norm in units of `scale` and p = softmax(f). d = 0 in the first part of
    the batch, so that t is the label there. In the last floor(fraction B + 1/2) samples PGD in eval
    mode chooses d in the ball of eps so that the best class other than the label has the largest
    probability. The two parts have weights in proportion to their sizes. (The released code
    exchanges the two weights, which is the same at one half.) Both parts go through the model as
    one batch, so BatchNorm sees both. Each process of a distributed training divides its own batch.
    A class with t_k = 0 is left out of CE: its logit may be -inf; for any other class -inf makes
    the loss infinite.

    Cost: 1 forward and 1 backward of the batch, and `steps` + 1 forwards and `steps` backwards,
    without gradients of the weights, of its adversarial part.

    Source: Stutz, Hein & Schiele (2020), "Confidence-Calibrated Adversarial Training: Generalizing
    to Unseen Attacks", Eq. 4 to 7, Alg. 1 and 2, App. B; the article on distal adversarial examples
    takes its models from there.

    Attributes:
        eps: Radius of the ball, in units of `scale`, > 0; 0.03 as in the released code.
        rho: How fast t becomes uniform, > 0: 10 in the paper, 12 in the released examples.
        fraction: Adversarial fraction of the batch, in (0, 1].
        steps: Number of PGD steps, >= 1; 40 for CIFAR-10 as in the released code.
        step_size: Length of a step in units of eps, > 0; the released 0.005 at eps 0.03.
        momentum: Momentum of PGD, in [0, 1).
        backtracking: Backtracking of PGD, > 1; None for none.
        starts: Names in `rrfast.attacks.STARTS`; one is drawn for each batch. The released code has
            a uniform point with a uniform norm, a Gaussian one, or the image; "gaussian" here has
            deviation 0.001.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none. x must lie in it, see
            `rrfast.engine.box.within`.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> CCAT(eps=0.1, steps=5).backward(model, x, y).shape
        torch.Size([])
    """

    eps: float = 0.03
    rho: float = 10.0
    fraction: float = 0.5
    steps: int = 40
    step_size: float = 1 / 6
    momentum: float = 0.9
    backtracking: float | None = 1.5
    starts: Sequence[str] = ("uniform_norm", "gaussian", "input")
    bounds: ops.Bounds | None = (0.0, 1.0)
    scale: ops.Scale | None = None
    _attacks: list[PGD] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_number("eps", self.eps)
        check_number("rho", self.rho)
        check_number("fraction", self.fraction, most=1)
        several = isinstance(self.starts, Sequence) and not isinstance(self.starts, str)
        if not several or not self.starts:
            raise ValueError(f"starts must be a list of at least one name, got {self.starts!r}")
        attacks = [
            PGD(
                eps=self.eps,
                steps=self.steps,
                step_size=self.step_size,
                loss="other",
                start=start,
                keep="loss",
                momentum=self.momentum,
                backtracking=self.backtracking,
                bounds=self.bounds,
                scale=self.scale,
            )
            for start in self.starts
        ]
        object.__setattr__(self, "_attacks", attacks)

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        del epoch
        x, y = check_pair(x, y)
        x = within(x, self.bounds, self.scale, model)
        clean = len(x) - int(self.fraction * len(x) + 0.5)
        attack = self._attacks[int(torch.randint(len(self._attacks), (), device="cpu"))]
        attacked = worst(attack, model, x[clean:], y[clean:], batch_y=y)
        moved = torch.cat([x[:clean], attacked])
        logits = self._logits(model, moved, y)
        log_p = logits.to(accumulate_dtype(logits.dtype)).log_softmax(dim=1)
        uniform = (1 - (1 - self._share(x, moved.detach())) ** self.rho).to(log_p.dtype)
        of_label = log_p.gather(1, y[:, None]).squeeze(1)
        # Leave out classes with target 0 before multiplying: 0 times infinity is NaN.
        of_all = torch.where(uniform[:, None] > 0, log_p, 0.0).mean(dim=1)
        of_label = torch.where(uniform < 1, of_label, 0.0)
        return -((1 - uniform) * of_label + uniform * of_all).mean()

    def _share(self, x: Tensor, moved: Tensor) -> Tensor:
        """min(1, |d| / eps): [B]."""
        dtype = accumulate_dtype(x.dtype)
        distance = (moved.to(dtype) - x.detach().to(dtype)).abs()
        scale = ops.channel_scale(self.scale, x)
        if scale is not None:
            distance = distance / per_channel(scale, x)
        return (distance.unsqueeze(1).flatten(1).amax(dim=1) / self.eps).clamp_max(1)
