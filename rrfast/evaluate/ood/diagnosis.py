"""The diagnostics of ODIN's §5 on one set of images: logits, gradients and distances."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rrfast.engine import Engine, Model
from rrfast.evaluate.ood.diagnostics import conditional_mean, gradient_norm, separation
from rrfast.evaluate.ood.distance import energy_distance, mmd
from rrfast.evaluate.ood.outside import evenly
from rrfast.scores import MSR
from rrfast.scores.batches import of_each

#: The two temperatures of ODIN's Fig. 5, 8 and 9.
HIGH, ONE = 1000.0, 1.0
#: Bins of a histogram, as for `conditional_mean`: a few hundred images do not fill more.
BINS = 20
#: Images of each set for distances, which go through all pairs four times.
NEAREST = 2000


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
    found = conditional_mean(of, given)
    return {key: value.tolist() for key, value in found._asdict().items()}
