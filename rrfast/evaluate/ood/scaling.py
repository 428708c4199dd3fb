"""The factor by which an input has to be scaled up to reach a confidence (ACET Table 2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast._processes import shared
from rrfast._seeds import Stream, derive_seed
from rrfast.attacks.loss import confidence as odds_of
from rrfast.data import uniform_noise
from rrfast.engine import Engine, check_input
from rrfast.engine import logits as logits_of
from rrfast.methods.search import before_probes
from rrfast.ops import accumulate_dtype, per_channel

if TYPE_CHECKING:
    from rrfast.engine import Model
    from rrfast.evaluate.ood.measurements import ModelWithSets

#: The confidences for scaled noise to reach, without a box and in it.
SURE, SURE_IN_BOX, BOX = 0.999, 0.95, (0.0, 1.0)
#: Forwards for the second one: compared with 2,000 factors, they miss fewer than 1 in 100 images.
FORWARDS = 48
#: log(alpha) of the first probe, and the largest, at which float32 still holds alpha times a pixel.
FIRST, LAST = 0.05, 80.0


class Scaling(NamedTuple):
    """The factor at which each input reaches the confidence."""

    alpha: Tensor  #: [B] float64, >= 1; infinite if no probe reached it
    lower: Tensor  #: [B] float64, the largest probed factor below the confidence
    upper: Tensor  #: [B] float64, the smallest probed factor that reaches it
    confidence: Tensor  #: [B] float64, the highest confidence of any probe

    @property
    def found(self) -> Tensor:
        """[B] bool: some factor reaches the confidence."""
        return self.upper.isfinite()


def confidence_scaling(
    model: Model,
    x: Tensor,
    confidence: float = 0.999,
    *,
    budget: int = 32,
    bounds: ops.Bounds | None = None,
) -> Scaling:
    """The factor alpha >= 1 at which the model reaches the confidence on alpha x.

        max_k softmax(f(alpha x))_k = confidence

    A ReLU network becomes arbitrarily confident along almost every ray (Theorem 3.1), so without
    `bounds` almost every x has such a factor. Like the robust radius, it is a root on a ray, and
    the same op finds it: `rrfast.ops.search_step_` on log alpha, with the log-odds of the
    confidence in place of the margin. If the confidence rises and falls along the ray, the search
    may find any of the crossings, and may miss one between two probes.

    With `bounds`, the confidence may never be reached, or may be reached only on part of the ray,
    so that a doubling search skips it. Therefore two thirds of the budget form an even grid of log
    alpha, from 0 to the point where the clipped input no longer changes, separately for each input.
    The rest is spread evenly over the first crossing found, or around the most confident point if
    there is none. The root is interpolated. A peak between the points may be missed.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2]. Runs in eval mode; its mode is restored.
        x: [B, ...], floating point; ACET takes uniform noise in [0, 1].
        confidence: In (1/2, 1): 0.999 in the first row of Table 2, 0.95 in the second.
        budget: Forwards, at least 2; with 32, any alpha up to e^80 is bracketed and 16 are left for
            the root.
        bounds: The box to which alpha x is clipped, as in the second row; None for no box. See
            `rrfast.ops.channel_bounds`.

    Returns:
        Scaling(alpha, lower, upper, confidence); NaN if a logit is NaN.

    Raises:
        TypeError, ValueError: `x` is not floating point, or a number is out of range.

    Cost: `budget` forwards, without synchronizing with the device.

    Source: ACET Theorem 3.1, App. B and F, Table 2; errata 36.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> found = confidence_scaling(model, torch.tensor([[1.0, 0.0]]))
        >>> round(float(found.alpha), 3), round(math.log(0.999 / 0.001), 3)
        (6.907, 6.907)
    """
    check_number("confidence", confidence, above=0.5, below=1)
    check_count("budget", budget, least=2)
    x = check_input(x)
    wanted = math.log(confidence / (1 - confidence))
    box = ops.channel_bounds(bounds, x)
    with Engine(model) as engine:

        def missing(log_alpha: Tensor) -> Tensor:
            """The target log-odds minus the log-odds at these factors, [B]."""
            z = scaled_up(x, log_alpha, box)
            return wanted - odds_of(engine.forward(z), None).to(accumulate_dtype(x.dtype))

        if box is None:
            least, root, lower, upper = _search(missing, x, budget)
        else:
            least, root, lower, upper = _grid(missing, _saturation(x, box), budget)
    reached = upper.isfinite() | upper.isnan()
    lower, upper, root = (end.double().clamp(max=LAST).exp() for end in (lower, upper, root))
    return Scaling(
        torch.where(reached, root, math.inf),
        lower,
        torch.where(reached, upper, math.inf),
        (wanted - least.double()).sigmoid(),
    )


def scaled_up(x: Tensor, log_alpha: Tensor, box: Tensor | None) -> Tensor:
    """The input times alpha, which is at most e^80, clipped to a box of `channel_bounds`."""
    alpha = log_alpha.clamp(max=LAST).exp().view(-1, *[1] * (x.dim() - 1))
    z = (x * alpha).to(x.dtype)
    if box is None:
        return z
    lower, upper = (per_channel(end, x).to(x.dtype) for end in box)
    return torch.clamp(z, lower, upper)


#: Maps log alpha to the log-odds still missing there.
_Missing = Callable[[Tensor], Tensor]


def _search(missing: _Missing, x: Tensor, budget: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The smallest lack over all probes, the root and its bracket, as log alpha, [B] each."""
    lack = missing(x.new_zeros(len(x), dtype=accumulate_dtype(x.dtype)))
    least = lack
    prediction = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    # An input that is already confident has its crossing at alpha = 1: a tie for the search.
    state = before_probes(lack.clamp(min=0), torch.full_like(lack, FIRST))
    for _ in range(budget - 1):
        lack = missing(state[5])
        least = torch.fmin(least, lack)
        logits = torch.stack((lack, torch.zeros_like(lack)), dim=1)
        ops.search_step_(logits, prediction, state)
    return least, state[5], state[0], state[1]


def _grid(missing: _Missing, last: Tensor, budget: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_search`, for the first crossing found between 0 and `last`."""

    def asked(points: Tensor) -> Tensor:
        return torch.stack([missing(log_alpha) for log_alpha in points])

    def at(place: Tensor, values: Tensor) -> Tensor:
        return values.gather(0, place.clamp(0, len(values) - 1)[None])[0]

    def first(lack: Tensor) -> tuple[Tensor, Tensor]:
        met = lack <= 0
        return met.any(dim=0), met.int().argmax(dim=0)

    fine = budget // 3
    points = last * _evenly(budget - fine, last)
    lack = asked(points)
    crossed, place = first(lack)
    place = torch.where(crossed, place, lack.argmin(dim=0))
    low, high = at(place - 1, points), at(place + (~crossed).int(), points)
    if fine:
        closer = low + (high - low) * _evenly(fine + 2, last)[1:-1]
        lack = torch.cat([lack, asked(closer)])
        points, order = torch.cat([points, closer]).sort(dim=0)
        lack = lack.gather(0, order)
    crossed, place = first(lack)
    # The largest probed factor below it: the last of all if nothing reaches it.
    place = torch.where(crossed, place, len(points))
    low, high = at(place - 1, points), at(place, points)
    below, above = at(place - 1, lack), at(place, lack)
    share = torch.where(below > above, below / (below - above), 1.0)
    nan = lack.isnan().any(dim=0)
    ends = (low + (high - low) * share, low, torch.where(crossed, high, math.inf))
    root, low, high = (end.masked_fill(nan, math.nan) for end in ends)
    return lack.amin(dim=0), root, low, high


def _evenly(n: int, like: Tensor) -> Tensor:
    """From 0 to 1, [n, 1]."""
    return torch.linspace(0, 1, n, dtype=like.dtype, device=like.device)[:, None]


def _saturation(x: Tensor, box: Tensor) -> Tensor:
    """Just above the log alpha [B] from which alpha x, clipped to the box, no longer changes."""
    wide = x.to(accumulate_dtype(x.dtype))
    lower, upper = (per_channel(end, x) for end in box)
    ratio = torch.where(wide > 0, upper, lower) / torch.where(wide == 0, 1.0, wide)
    # An element that is zero, or that starts on the side of the box, never moves.
    ratio = torch.where(wide == 0, 1.0, ratio).clamp(min=1)
    last = ratio.flatten(1).amax(dim=1).log()
    # Otherwise e^log a times x rounds to just below the side of the box.
    return torch.where(last > 0, last + 1e-6 * (1 + last), last).clamp(max=LAST)


def scaled(on: ModelWithSets, trials: int) -> dict[str, Any]:
    """The factor by which uniform noise has to be scaled up to reach a high confidence.

    Returns `trials`, the number of noise images, which are drawn batch by batch; `alpha`, the
    median factor that reaches `SURE`, infinite if half of the images never reach it;
    `overconfident`, the share of images that reach `SURE_IN_BOX` at some factor when clipped to
    [0, 1]; `overconfident_at_alpha`, the share that reaches it at the image's own factor for `SURE`
    (an image without such a factor does not count); `nan`, the number of images with NaN logits at
    a factor, which count as not reaching it.

    Cost: 81 forwards per image.

    Source: ACET Theorem 3.1, App. B and F, Table 2; errata 36.
    """
    shape = tuple(on.division.test.data[0][0].shape)
    odds = math.log(SURE_IN_BOX / (1 - SURE_IN_BOX))

    def one(i: int, start: int) -> tuple[Tensor, Tensor, Tensor]:
        n = min(on.batch, trials - start)
        x = uniform_noise(n, shape, seed=derive_seed(on.seed, Stream.SCALED_NOISE, i)).to(on.device)
        alpha = confidence_scaling(on.model, x, SURE).alpha
        found = confidence_scaling(on.model, x, SURE_IN_BOX, bounds=BOX, budget=FORWARDS).found
        there = scaled_up(x, alpha.log(), ops.channel_bounds(BOX, x))
        sure_there = odds_of(logits_of(on.model, there), None) >= odds
        return alpha.cpu(), found.cpu(), (sure_there & alpha.isfinite()).cpu()

    parts = zip(*shared(one, range(0, trials, on.batch)), strict=True)
    alpha, boxed, at_alpha = (torch.cat(part) for part in parts)
    ordered = alpha.masked_fill(alpha.isnan(), math.inf).sort().values
    return {
        "trials": trials,
        "alpha": ordered[(len(ordered) - 1) // 2].item(),
        "overconfident": boxed.double().mean().item(),
        "overconfident_at_alpha": at_alpha.double().mean().item(),
        "nan": int(alpha.isnan().sum()),
    }
