"""Shared by DeepFool and FAB: the boundaries of the linearised model, and distances walked."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast.engine import Recorded
from rrfast.ops import accumulate_dtype, is_undefined, per_channel, unchecked

#: Stands for the infinite step to a plane out of reach; it ends at the face of any box. Infinity
#: times a gradient of zero would be NaN.
FAR = 1e18


class Plane(NamedTuple):
    """The hyperplane {z: normal . (z - x) = gap}, one per sample."""

    normal: Tensor  #: [B, ...]
    gap: Tensor  #: [B], accumulation dtype of x
    distance: Tensor  #: [B], L-infinity, in units of scale


def contenders(logits: Tensor, prediction: Tensor, count: int | None) -> Tensor:
    """The classes other than the prediction, [B, K - 1]; or those with the largest logits.

    Example:
        >>> contenders(torch.tensor([[5.0, 1.0, 3.0, 2.0]]), torch.tensor([0]), 2)
        tensor([[2, 3]])
    """
    classes = logits.shape[1]
    if count is None or count >= classes - 1:
        others = torch.arange(1, classes, device=logits.device)
        return (prediction[:, None] + others) % classes
    # One more, for the prediction may be among them: from there on, each has the place of the next.
    likely = logits.topk(count + 1, dim=1).indices
    behind = (likely == prediction[:, None])[:, :count].cumsum(dim=1) > 0
    return torch.where(behind, likely[:, 1:], likely[:, :count])


def nearest_plane(
    recorded: Recorded,
    x: Tensor,
    prediction: Tensor,
    classes: Tensor,
    bounds: Tensor | None,
    scale: Tensor | None,
) -> Plane:
    """The nearest of the planes on which the linearised model ties the prediction with a class.

    For class k with d = h_k - h_y it is {z: grad d . (z - x) = -d}. Only the best plane so far is
    kept, so memory does not grow with the classes. A NaN in any gradient makes the plane NaN, and
    so do undefined logits (`rrfast.ops.is_undefined`).

    Args:
        recorded: The forward at `x`; its graph is freed.
        x: [B, ...].
        prediction: y, [B].
        classes: k, [B, C].
        bounds: The box that distances are measured in, as `rrfast.ops.channel_bounds` gives it.
        scale: Their unit, as `rrfast.ops.channel_scale` gives it.

    Cost: C backwards.
    """
    nearest = None
    for column in range(classes.shape[1]):
        last = column == classes.shape[1] - 1
        normal, gap = linearised(recorded, prediction, classes[:, column], last=last)
        plane = Plane(normal, gap, unchecked.plane_distance(x, normal, gap, bounds, scale))
        nearest = plane if nearest is None else _nearer(plane, nearest)
    assert nearest is not None  # there are at least two classes
    return nearest


def linearised(
    recorded: Recorded, prediction: Tensor, target: Tensor, *, last: bool
) -> tuple[Tensor, Tensor]:
    """The gradient of h_k - h_y, [B, ...], and h_y - h_k, [B], in the accumulation dtype of x.

    Both in the unit of `rrfast.ops.plane_seed`. The plane is the same.

    Cost: 1 backward.

    Args:
        recorded: The forward.
        prediction: y, [B].
        target: k, [B].
        last: Free the forward's graph.
    """
    seed, gap = unchecked.plane_seed(recorded.logits, prediction, target)
    normal = recorded.grad(seed, last=last)
    return normal, gap.to(accumulate_dtype(normal.dtype))


def _nearer(plane: Plane, than: Plane) -> Plane:
    choice = (plane.distance < than.distance) | plane.distance.isnan()
    return Plane(
        torch.where(of_samples(choice, plane.normal), plane.normal, than.normal),
        torch.where(choice, plane.gap, than.gap),
        torch.where(choice, plane.distance, than.distance),
    )


def step_to(
    plane: Plane,
    x: Tensor,
    overshoot: float,
    bounds: Tensor | None,
    scale: Tensor | None,
    out: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The point of the box nearest to `x` on the plane, or beyond it by a factor of `overshoot`.

    A step that would not change `x` is lengthened to the smallest that does. A plane out of reach
    is approached as far as the box allows. `out` is as for `rrfast.ops.fgsm_step`, whose first
    result this is.
    """
    unit = torch.ones_like(plane.distance[:1]) if scale is None else scale
    largest = (x.to(unit.dtype).abs() / per_channel(unit, x)).reshape(len(x), -1).amax(dim=1)
    length = (overshoot * plane.distance).maximum(torch.finfo(x.dtype).eps * largest)
    length = torch.where(plane.gap < 0, -length, length)
    return ops.fgsm_step(x, plane.normal, length.clamp(-FAR, FAR), bounds, scale, out=out)[0]


def distance_between(x: Tensor, z: Tensor, scale: Tensor | None) -> Tensor:
    """max_i |z_i - x_i| / scale_c, [B]; NaN if any of it is.

    Example:
        >>> distance_between(torch.zeros(1, 2), torch.tensor([[3.0, -4.0]]), torch.tensor([2.0]))
        tensor([2.])
    """
    dtype = accumulate_dtype(x.dtype)
    way = (z.to(dtype) - x.to(dtype)).abs()
    if scale is not None:
        way = way / per_channel(scale, x)
    return way.reshape(len(x), -1).amax(dim=1)


def lead_of(logits: Tensor, prediction: Tensor) -> Tensor:
    """h_y - max_{k != y} h_k, [B]: negative where another class is ahead.

    NaN for undefined logits (`rrfast.ops.is_undefined`).

    Example:
        >>> lead_of(torch.tensor([[1.0, 3.0, 2.5]]), torch.tensor([0]))
        tensor([-2.])
    """
    top = prediction[:, None]
    h = logits.to(accumulate_dtype(logits.dtype))
    lead = h.gather(1, top) - h.scatter(1, top, -torch.inf).amax(dim=1, keepdim=True)
    return lead.squeeze(1).masked_fill(is_undefined(h), math.nan)


def flipped_to(logits: Tensor, prediction: Tensor) -> Tensor:
    """The class that is predicted where it is another one, [B]; else, or of no meaning, -1.

    Example:
        >>> flipped_to(torch.tensor([[1.0, 3.0], [1.0, 3.0], [math.nan, 3.0]]), torch.zeros(3))
        tensor([ 1,  1, -1])
    """
    first = logits.argmax(dim=1)
    return first.masked_fill((first == prediction) | is_undefined(logits), -1)


def of_samples(values: Tensor, x: Tensor) -> Tensor:
    """[B] values shaped so that they broadcast over the samples of `x`."""
    return values.reshape(-1, *[1] * (x.dim() - 1))
