"""APGD: PGD with an automatic step size and restarts from the best point."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number, check_one_of
from rrfast.attacks.attack import Attack, Attacked, nothing, pick, seen, unseen
from rrfast.attacks.ball import Ball
from rrfast.attacks.loss import LOSSES, TARGETED, UNLABELLED, Loss, check_loss
from rrfast.attacks.start import STARTS, check_restarts, check_start
from rrfast.engine import Engine
from rrfast.methods.boundary import contenders


@dataclass(frozen=True, eq=False)
class APGD(Attack):
    """Auto-PGD in L-infinity, for all samples at once, each with its own step size.

        z  <- P(x_k + eta sign(grad loss(f(x_k), y)))
        x_k+1 <- P(x_k + alpha (z - x_k) + (1 - alpha) (x_k - x_k-1)),    x_1 <- z

    with P the projection onto the ball and the box, and eta = 2 eps at first. At the steps w_j of
    `checkpoints`, a sample's eta is halved and it returns to its best point, if

        1. fewer than rho (w_j - w_j-1) of the steps since w_j-1 raised its loss, or
        2. eta was not halved at w_j-1, and its best loss has not grown since.

    Both conditions only compare losses, and steps only use a gradient's sign, so any increasing
    function of a loss gives the same path. So "ce", the odds, gives the path of the cross-entropy
    (APGD-CE) as long as that does not round to 0.

    With `targets` (APGD-T, APGD-DLR towards a class) there is a run for each of the likeliest
    classes at x besides the label; the returned loss is that of the run that found the point.

    Nothing waits for the device.

    Cost per run: `steps` + 1 forwards, `steps` backwards. There are `restarts` runs, times the
    targets; with targets one forward more, once.

    Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks" (ICML 2020), Alg. 1 and Sec. 3. We follow the paper where the released
    code differs. That code stretches a random start to the ball's faces; rounds the checkpoints
    down; also halves at exactly rho; never halves by 2. at the first checkpoint; compares the first
    step after a return with the point that was left, not with the best one; adds 1e-12 to the
    denominator of the DLR. In one point we follow the code: the conditions are checked as soon as
    x_w_j, the last point that they use, is known, not one step later, as that step would be undone.

    Attributes:
        eps: Radius of the ball, in units of `scale`, >= 0.
        steps: >= 1.
        loss: A name in `LOSSES`, or such a function; the paper has "ce" and "dlr".
        targets: None, or T for a run towards each of the T (at most K - 1) classes with the largest
            logits at x besides the label; needs a loss in `TARGETED`.
        start: A name in `STARTS`; the paper has "uniform".
        keep: Which iterate is the result. "error": a wrong one if there is any, among equals the
            one with the largest loss. "loss": the one with the largest loss. NaN counts as the
            least loss.
        restarts: Number of runs, each from its own random start, of which the best counts; 1 with
            "input".
        alpha: Weight of the new step against the last one, in (0, 1].
        rho: In (0, 1].
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own.

    When it runs, it raises a ValueError if "dlr" has fewer than three classes, or four with
    targets.

    Example:
        >>> model = torch.nn.Linear(4, 5)
        >>> x, y = torch.rand(8, 4), torch.randint(5, (8,))
        >>> found = APGD(eps=0.1, steps=10, loss="dlr", targets=2)(model, x, y)
        >>> bool(((found.x - x).abs() <= 0.1).all()), found.wrong.shape
        (True, torch.Size([8]))
    """

    eps: float = 8 / 255
    steps: int = 100
    loss: str | Loss = "ce"
    targets: int | None = None
    start: str = "uniform"
    keep: Literal["error", "loss"] = "error"
    restarts: int = 1
    alpha: float = 0.75
    rho: float = 0.75
    bounds: ops.Bounds | None = (0.0, 1.0)
    scale: ops.Scale | None = None
    #: Whether labels are needed.
    labelled: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        check_number("eps", self.eps, least=0)
        check_count("steps", self.steps)
        check_loss(self.loss)
        if self.targets is not None:
            check_count("targets", self.targets)
            check_one_of("loss with targets", self.loss, TARGETED)
        check_start(self.start)
        check_one_of("keep", self.keep, ("error", "loss"))
        check_restarts(self.restarts, self.start)
        check_number("alpha", self.alpha, most=1)
        check_number("rho", self.rho, most=1)
        object.__setattr__(self, "labelled", callable(self.loss) or self.loss not in UNLABELLED)

    def run(  # noqa: D102 - see `Attack`
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        if len(x) == 0:
            return nothing(x)
        ball, begin = Ball(x, self.eps, self.bounds, self.scale), STARTS[self.start]
        best = unseen(ball.nearest(x))
        losses = self._losses(engine, x, labels)
        for _ in range(self.restarts):
            for loss in losses:
                best = self._climb(engine, ball, begin(ball, generator), labels, loss, best)
        return best

    def _losses(self, engine: Engine, x: Tensor, labels: Tensor | None) -> list[Loss]:
        """The loss of each run."""
        if callable(self.loss):
            return [self.loss]
        if self.targets is None:
            return [LOSSES[self.loss]]
        assert labels is not None  # a targeted loss needs labels
        classes = contenders(engine.forward(x), labels, self.targets)
        return [partial(TARGETED[self.loss], targets=target) for target in classes.unbind(1)]

    def _climb(
        self,
        engine: Engine,
        ball: Ball,
        z: Tensor,
        labels: Tensor | None,
        loss: Loss,
        best: Attacked,
    ) -> Attacked:
        """One run; `best` is the best result of earlier runs."""
        recorded = engine.record(z)
        at, seed = seen(z, recorded.logits, labels, loss)
        gradient = recorded.grad(seed, last=True)
        best = self._better(at, best)

        before, top, top_gradient = at.x, at, gradient
        length = ball.lengths(2 * self.eps)
        rises, halved, top_then = torch.zeros_like(at.loss), torch.zeros_like(at.wrong), top.loss
        windows = dict(checkpoints(self.steps))
        for step in range(1, self.steps + 1):
            z = ball.step(at.x, gradient, length)
            if step > 1:
                z = z.sub_(at.x).mul_(self.alpha).add_(at.x)
                z = ball.nearest(z.add_((at.x - before).mul_(1 - self.alpha)))
            if step == self.steps:
                return self._better(seen(z, engine.forward(z), labels, loss)[0], best)
            recorded = engine.record(z)
            new, seed = seen(z, recorded.logits, labels, loss)
            gradient = recorded.grad(seed, last=True)
            best = self._better(new, best)
            rises = rises + (new.loss > at.loss)
            before, at = at.x, new
            higher = (new.loss > top.loss) | (top.loss.isnan() & ~new.loss.isnan())
            top, top_gradient = _pick(higher, new, top), pick(higher, gradient, top_gradient)
            if step in windows:
                idle = ~halved & ~(top.loss > top_then)
                halved = (rises < self.rho * windows[step]) | idle
                length = torch.where(halved, length / 2, length)
                at, gradient = _pick(halved, top, at), pick(halved, top_gradient, gradient)
                rises, top_then = torch.zeros_like(rises), top.loss
        raise AssertionError("there is at least one step")

    def _better(self, new: Attacked, best: Attacked) -> Attacked:
        return best.or_better(new, errors_first=self.keep == "error")


def checkpoints(steps: int) -> list[tuple[int, int]]:
    """The steps at which APGD checks its progress, and the number of steps since the last check.

        w_j = ceil(p_j steps),  p_0 = 0,  p_1 = 0.22,  p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06)

    Computed exactly in hundredths: 0.22 + 0.19 is more than 0.41 in float64. If two of them
    coincide because there are few steps, they count as one.

    Example:
        >>> checkpoints(100)
        [(22, 22), (41, 19), (57, 16), (70, 13), (80, 10), (87, 7), (93, 6), (99, 6)]
    """
    found, share, stretch, last = [], 22, 22, 0
    while share <= 100:
        step = -(-share * steps // 100)
        if step > last:
            found.append((step, step - last))
        last, stretch = step, max(stretch - 3, 6)
        share += stretch
    return found


def _pick(which: Tensor, a: Attacked, b: Attacked) -> Attacked:
    return Attacked(*(pick(which, new, old) for new, old in zip(a, b, strict=True)))
