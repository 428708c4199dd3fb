"""The diagnostics of ODIN's §5 and App. E: logits, gradients and distances of sets of images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast._checks import check_count, check_finite, check_logits, check_number
from rrfast.engine import Engine, Model, check_input
from rrfast.evaluate.ood.distance import energy_distance, mmd
from rrfast.evaluate.ood.sets import evenly
from rrfast.scores import MSR
from rrfast.scores.batches import of_each

#: The two temperatures of ODIN's Fig. 5, 8 and 9.
HIGH, ONE = 1000.0, 1.0
#: Bins of a histogram: a few hundred images do not fill more.
BINS = 20
#: Images of each set for distances, which are those of all pairs.
NEAREST = 2000


class Separation(NamedTuple):
    """The distance of the largest logit from the others."""

    u1: Tensor  #: [B] float64, the mean of f_y - f_i over i != y
    u2: Tensor  #: [B] float64, the mean of (f_y - f_i)^2


class Conditional(NamedTuple):
    """The mean of one number for each bin of another."""

    edges: Tensor  #: [bins + 1] float64, ascending
    mean: Tensor  #: [bins] float64; NaN for an empty bin
    samples: Tensor  #: [bins] int64, number of samples


def separation(logits: Tensor) -> Separation:
    """U_1 and U_2: the first and the second moment of the largest logit minus the others.

        U_1 = 1/(K - 1) sum_{i != y} (f_y - f_i),    U_2 = 1/(K - 1) sum_{i != y} (f_y - f_i)^2

    At a high temperature 1/S = K - (K - 1) U_1 / T + (K - 1) U_2 / (2 T^2) + O(T^-3): U_1
    dominates, and U_2 is of second order. U_2 = U_1^2 + the variance of the differences.

    Args:
        logits: [B, K >= 2]. Widened to float64.

    Returns:
        Separation(u1, u2), NaN if a logit is NaN.

    Raises:
        TypeError, ValueError: `logits` is not floating point or not [B, K >= 2].

    Source: ODIN Eq. (4), App. B and D.

    Example:
        >>> u1, u2 = separation(torch.tensor([[3.0, 1.0, 0.0]]))
        >>> float(u1), float(u2)
        (2.5, 6.5)
    """
    check_logits("logits", logits)
    h = logits.detach().double()
    # The difference of the largest logit to itself is 0 and adds nothing.
    difference = h.amax(dim=1, keepdim=True) - h
    others = h.shape[1] - 1
    return Separation(difference.sum(dim=1) / others, difference.square().sum(dim=1) / others)


def gradient_norm(model: Model, x: Tensor, temperature: float = 1000.0) -> Tensor:
    """|grad_x log S(x; T)|_1, S the largest softmax probability: the gain of ODIN's step per eps.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2]. Runs in eval mode; its mode is restored.
        x: [B, ...], floating point.
        temperature: T > 0.

    Returns:
        [B] float64.

    Raises:
        TypeError, ValueError: `x` is not floating point, the model gives no logits, or T is out of
            range.

    Cost: 1 forward, 1 backward.

    Source: ODIN §5.2, Fig. 5 (c) to (e).

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> gradient_norm(model, torch.tensor([[1.0, 1.0]]), temperature=2.0)
        tensor([0.5000], dtype=torch.float64)
    """
    check_number("temperature", temperature)
    x = check_input(x)
    if len(x) == 0:
        return x.new_empty(0, dtype=torch.float64)
    with Engine(model) as engine:
        recorded = engine.record(x)
        h = recorded.logits.double() / temperature
        p = h.softmax(dim=1)
        y = h.argmax(dim=1, keepdim=True)
        # 1 - p_y as the sum of the others underflows far later than the difference to 1.
        rest = p.scatter(1, y, 0.0)
        cotangent = (-rest).scatter(1, y, rest.sum(dim=1, keepdim=True)) / temperature
        # Scaled to 1, so that a backward in 16 or 32 bits does not underflow.
        largest = cotangent.abs().amax(dim=1, keepdim=True)
        scaled = cotangent / torch.where(largest == 0, 1.0, largest)
        grad = recorded.grad(scaled.to(recorded.logits.dtype), last=True)
        return grad.double().flatten(1).abs().sum(dim=1) * largest.squeeze(1)


def conditional_mean(of: Tensor, given: Tensor, *, bins: int = BINS) -> Conditional:
    """E[of | given], in bins of equal width over the range of `given`.

    Args:
        of: [n], such as U_2.
        given: [n] finite, such as U_1.
        bins: Number of bins; the last one is closed on both sides.

    Raises:
        ValueError: Lengths differ or are 0, `given` is not finite, or `bins` is not an integer of
            at least 1.

    Source: ODIN Fig. 5 (b), 7, 8.

    Example:
        >>> given = torch.tensor([0.0, 1.0, 3.0, 4.0])
        >>> conditional_mean(given**2, given, bins=2).mean
        tensor([ 0.5000, 12.5000], dtype=torch.float64)
    """
    check_count("bins", bins)
    if of.shape != given.shape or of.dim() != 1 or len(of) == 0:
        raise ValueError(
            f"of and given must be [n >= 1], got {list(of.shape)} and {list(given.shape)}"
        )
    check_finite("given", given[:, None])
    of, given = of.detach().double(), given.detach().double()
    low, high = float(given.min()), float(given.max())
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64, device=given.device)
    place = torch.bucketize(given, edges[1:-1].contiguous(), right=True)
    samples = torch.bincount(place, minlength=bins)
    total = torch.zeros(bins, dtype=torch.float64, device=of.device).index_add_(0, place, of)
    return Conditional(edges, total / samples, samples)


# --------------------------------------------------------------------------------- of one set


def diagnose(model: Model, batches: Iterable[Any]) -> dict[str, Any]:
    """The numbers of ODIN's Fig. 5 and 7 to 9 for one set, and logits as in its Fig. 5 (f, g).

    Args:
        model: As for `gradient_norm`.
        batches: As for `of_each`: images, or pairs with labels, which are not used.

    Returns:
        Histograms `u1` and `norm` (of the gradient at T = 1000); `u2_given_u1`, `norm_given_s` (at
        T = 1000) and `norm_given_s1` (at T = 1), as from `conditional_mean`; the means `u1_mean`,
        `u2_mean` and `norm_mean`; `outputs`, the logits of one image: of the images whose U1 is the
        median of their batch, the one nearest to the median of the set; `nan`, the number of images
        with a number that is not finite, which are left out. If all are left out, only `nan`.

    Cost: 3 forwards, 2 backwards.
    """

    def asked(x: Tensor, _: Tensor | None) -> tuple[Tensor, list[tuple[float, list[float]]]]:
        with Engine(model) as engine:
            logits = engine.forward(x)
        part = torch.stack(
            [
                *separation(logits),
                *(MSR(t).of_logits(logits).sigmoid() for t in (HIGH, ONE)),
                *(gradient_norm(model, x, t) for t in (HIGH, ONE)),
            ]
        ).cpu()
        # One image per batch: the logits of all images would be large with many classes.
        places = part.isfinite().all(dim=0).nonzero().flatten()
        if not len(places):
            return part, []
        place = places[part[0, places].median(dim=0).indices]
        return part, [(part[0, place].item(), logits[place].tolist())]

    parts, middles = zip(*of_each(asked, model, batches), strict=True)
    middle = [each for few in middles for each in few]
    found = torch.cat(parts, dim=1)
    finite = found.isfinite().all(dim=0)
    said: dict[str, Any] = {"nan": int((~finite).sum())}
    if not finite.any():
        return said
    u1, u2, high, one, norm, norm_one = found[:, finite]
    return said | {
        "u1": _histogram(u1),
        "norm": _histogram(norm),
        "u2_given_u1": _conditional(u2, u1),
        "norm_given_s": _conditional(norm, high),
        "norm_given_s1": _conditional(norm_one, one),
        "u1_mean": u1.mean().item(),
        "u2_mean": u2.mean().item(),
        "norm_mean": norm.mean().item(),
        "outputs": min(middle, key=lambda each: abs(each[0] - u1.median().item()))[1],
    }


def distances(inside: Tensor, outside: Tensor) -> dict[str, float]:
    """MMD^2 and energy distance of two sets of images, from at most `NEAREST` of each.

    Returns:
        `mmd` and `energy`; `mmd` is NaN if all images are the same.

    Source: ODIN §4.4, App. E.
    """
    a, b = (x[evenly(len(x), NEAREST)] for x in (inside, outside))
    same = bool((torch.cat([a, b]) == a[:1]).all())
    return {"mmd": math.nan if same else mmd(a, b), "energy": energy_distance(a, b)}


def _histogram(x: Tensor) -> dict[str, list[float]]:
    """A density in bins of equal width over the range of x."""
    low, high = x.min().item(), x.max().item()
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = torch.histogram(x, BINS, range=(low, high), density=True)
    return {"edges": edges.tolist(), "density": counts.tolist()}


def _conditional(of: Tensor, given: Tensor) -> dict[str, list[Any]]:
    return {key: value.tolist() for key, value in conditional_mean(of, given)._asdict().items()}
