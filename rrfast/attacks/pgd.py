"""PGD: steps along the sign of the gradient, each followed by a projection onto the ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number, check_one_of
from rrfast.attacks.ascent import ascent
from rrfast.attacks.attack import Attack, Attacked, nothing, pick, seen, unseen
from rrfast.attacks.ball import Ball
from rrfast.attacks.loss import LOSSES, UNLABELLED, Loss, check_loss
from rrfast.attacks.start import STARTS, check_restarts, check_start
from rrfast.engine import Engine

#: Which iterate is the attack's result.
Keep = Literal["error", "loss", "last"]


@dataclass(frozen=True, eq=False)
class PGD(Attack):
    """Projected gradient ascent in the L-infinity ball, for all samples at once.

        z <- nearest point of the ball and the box to z + step_size eps sign(grad_z loss(f(z), y))

    With `momentum` the sign is averaged: v <- momentum v + (1 - momentum) sign(grad), and the step
    goes along v. With `backtracking` a step that does not raise a sample's loss is undone, and that
    sample's step size is divided by this number from then on. The gradient at the old point is
    reused (CCAT's released code runs the model twice as often).

    Cost per restart: `steps` + 1 forwards and `steps` backwards; `origin` takes one more forward in
    all.

    Source: Madry et al. (2018), Eq. 3 of IRAT; Stutz et al. (2020), Alg. 1 and App. B, for momentum
    and backtracking.

    Attributes:
        eps: Radius of the ball, in units of `scale`, >= 0.
        steps: Number of steps, >= 1.
        step_size: Length of a step in units of eps, > 0.
        loss: A name in `LOSSES`, or such a function: "ce", "cw", "confidence", "other".
        start: A name in `STARTS`: "input", "uniform", "uniform_norm", "gaussian", "smoothed",
            "article".
        keep: Which iterate is the result. "error": a wrong one if there is any, among equals the
            one with the largest loss. "loss": the one with the largest loss. "last": the last one,
            as in adversarial training; its loss costs one more forward, which `run` leaves out:
            there the loss is NaN and wrong is False. In the other two cases NaN counts as the least
            loss.
        restarts: Number of runs, each from its own random start, of which the best counts; 1 with
            "input".
        origin: Whether x itself counts as an iterate, besides a random start.
        momentum: Weight of the average of earlier signs, in [0, 1).
        backtracking: Divisor of the step size, > 1; None for no backtracking.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> found = PGD(eps=0.1, steps=5)(model, x, y)
        >>> bool(((found.x - x).abs() <= 0.1).all()), found.wrong.shape
        (True, torch.Size([8]))
    """

    eps: float = 8 / 255
    steps: int = 10
    step_size: float = 0.25
    loss: str | Loss = "ce"
    start: str = "input"
    keep: Keep = "error"
    restarts: int = 1
    origin: bool = False
    momentum: float = 0.0
    backtracking: float | None = None
    bounds: ops.Bounds | None = (0.0, 1.0)
    scale: ops.Scale | None = None
    #: Whether labels are needed.
    labelled: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        check_number("eps", self.eps, least=0)
        check_count("steps", self.steps)
        check_number("step_size", self.step_size)
        check_loss(self.loss)
        check_start(self.start)
        check_one_of("keep", self.keep, ("error", "loss", "last"))
        check_restarts(self.restarts, self.start)
        check_number("momentum", self.momentum, least=0, below=1)
        if self.backtracking is not None:
            check_number("backtracking", self.backtracking, above=1)
        if self.keep == "last" and (self.restarts > 1 or self.origin or self.backtracking):
            raise ValueError(
                "keep must be 'error' or 'loss' where points are compared: with restarts, origin "
                "or backtracking; got 'last'"
            )
        object.__setattr__(self, "labelled", callable(self.loss) or self.loss not in UNLABELLED)

    def run(
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        each: Callable[[Tensor], object] | None = None,
    ) -> Attacked:
        """Run the attack; see `Attack`.

        Args:
            engine: An open engine.
            x: As for `Attack.__call__`.
            labels: As for `Attack.__call__`.
            generator: As for `Attack.__call__`.
            each: Called with the logits of every iterate from which a step starts.
        """
        if len(x) == 0:
            return nothing(x)
        ball = Ball(x, self.eps, self.bounds, self.scale)
        begin, ascend = STARTS[self.start], self._search if self.backtracking else self._climb
        best = unseen(ball.nearest(x))
        if self.origin:
            best = seen(best.x, engine.forward(best.x), labels, self._loss)[0]
        for _ in range(self.restarts):
            best = ascend(engine, ball, begin(ball, generator), labels, best, each)
        return best

    def known(self, engine: Engine, found: Attacked, labels: Tensor | None) -> Attacked:
        """The result; with `keep="last"` its loss is computed here."""
        if self.keep != "last" or len(found.x) == 0:
            return found
        return seen(found.x, engine.forward(found.x, copy=False), labels, self._loss)[0]

    def _climb(
        self,
        engine: Engine,
        ball: Ball,
        z: Tensor,
        labels: Tensor | None,
        best: Attacked,
        each: Callable[[Tensor], object] | None,
    ) -> Attacked:
        """Steps without backtracking: every step is taken."""
        length, velocity = ball.lengths(self.step_size * self.eps), None
        for _ in range(self.steps):
            recorded = engine.record(z, copy=each is not None)
            if each is not None:
                each(recorded.logits)
            if self.keep == "last":
                _, seed = ascent(self._loss, recorded.logits, labels)
            else:
                here, seed = seen(z, recorded.logits, labels, self._loss)
                best = self._better(here, best)
            gradient = recorded.grad(seed, last=True)
            if self.momentum:
                velocity = self._velocity(gradient, velocity)
                z = ball.walk(z, velocity, length)
            else:
                # Its graph is gone, and who keeps a point keeps a copy.
                z = ball.step(z, gradient, length, out=z)
        if self.keep == "last":
            return unseen(z)  # its loss would cost a forward, which training does not need
        here, _ = seen(z, engine.forward(z, copy=False), labels, self._loss)
        return self._better(here, best)

    def _search(
        self,
        engine: Engine,
        ball: Ball,
        z: Tensor,
        labels: Tensor | None,
        best: Attacked,
        each: Callable[[Tensor], object] | None,
    ) -> Attacked:
        """Steps with backtracking: taken if they raise the loss, else shortened from then on."""
        assert self.backtracking is not None
        length, velocity = ball.lengths(self.step_size * self.eps), None
        recorded = engine.record(z)
        if each is not None:
            each(recorded.logits)
        at, seed = seen(z, recorded.logits, labels, self._loss)
        best = self._better(at, best)
        gradient = recorded.grad(seed, last=True)
        for step in range(self.steps):
            velocity = self._velocity(gradient, velocity)
            z = ball.walk(at.x, velocity, length)
            if step == self.steps - 1:
                return self._better(seen(z, engine.forward(z), labels, self._loss)[0], best)
            recorded = engine.record(z)
            if each is not None:
                each(recorded.logits)
            trial, seed = seen(z, recorded.logits, labels, self._loss)
            best = self._better(trial, best)
            up = trial.loss > at.loss
            at = Attacked(*(pick(up, new, old) for new, old in zip(trial, at, strict=True)))
            length = torch.where(up, length, length / self.backtracking)
            gradient = pick(up, recorded.grad(seed, last=True), gradient)
        raise AssertionError("there is at least one step")

    def _velocity(self, gradient: Tensor, velocity: Tensor | None) -> Tensor:
        sign = gradient.sign()
        if velocity is None:
            return sign * (1 - self.momentum) if self.momentum else sign
        return torch.lerp(sign, velocity, self.momentum) if self.momentum else sign

    @property
    def _loss(self) -> Loss:
        return self.loss if callable(self.loss) else LOSSES[self.loss]

    def _better(self, new: Attacked, old: Attacked) -> Attacked:
        """The better of two points for each sample, by `keep`."""
        return old.or_better(new, errors_first=self.keep == "error")
