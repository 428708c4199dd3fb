"""`redirect_`: a ray aimed anew, from the plane that was seen on it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_batch, check_device, check_per_sample, check_same, describe
from rrfast.ops import _fgsm_step, _perturb, _plane_distance
from rrfast.ops._define import define, nothing
from rrfast.ops._out import check_written
from rrfast.ops.box import Bounds, Scale, channel_bounds, channel_scale
from rrfast.ops.layout import accumulate_dtype


def reference(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    state: Tensor,
    rival: Tensor,
    step: Tensor,
    aim: Tensor,
    z: Tensor,
    direction: Tensor,
    nearest: Tensor,
    nearest_direction: Tensor,
    flipped_to: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> None:
    """A ray aimed anew, from the plane that was seen on it; see `rrfast.ops.redirect_`."""
    way = _inner(normal, _perturb.reference(x, direction, step, bounds, scale) - x)
    of_x = gap + way
    crossing = _crossing(step, of_x, way)
    probe = torch.where(crossing < math.inf, crossing, state[5])

    nearer = ~(crossing >= nearest[6])  # NaN is no crossing yet
    flips = state[1] < nearest[7]
    ray = torch.cat((state[:5], probe[None], crossing[None]))
    nearest[:7] = torch.where(nearer, ray, nearest[:7])
    nearest[7] = torch.where(flips, state[1], nearest[7])
    flipped_to.copy_(torch.where(flips, rival, flipped_to))
    chosen = nearer.reshape(-1, *[1] * (x.dim() - 1))
    nearest_direction.copy_(torch.where(chosen, direction, nearest_direction))

    count = torch.full_like(gap, math.prod(x.shape[1:]))
    factor = _plane_distance.reference(normal, normal, count, None, scale)
    factor = factor.masked_fill(factor.isinf(), 0.0).reshape(chosen.shape)
    aim.copy_(aim - (aim - normal.to(aim.dtype) * factor) * 0.5)
    look, sign = _fgsm_step.reference(x, aim.to(x.dtype), probe, bounds, scale)
    reach = _crossing(probe, of_x, _inner(normal, look - x))
    at = torch.where(reach < math.inf, reach, probe).minimum(nearest[7])
    z.copy_(_perturb.reference(x, sign, at, bounds, scale))
    direction.copy_(sign)
    step.copy_(at)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner products, [B], summed in float64 and rounded to the accumulation dtype."""
    products = (a.double() * b.double()).reshape(a.shape[0], math.prod(a.shape[1:]))
    return products.sum(dim=1).to(accumulate_dtype(a.dtype))


def _crossing(step: Tensor, gap: Tensor, way: Tensor) -> Tensor:
    """Where a ray that closes `way` of the gap with a step closes all of it; infinite if never."""
    at = step * gap / way
    return torch.where(at > 0, at, math.inf)


_op = define(
    "redirect_",
    """(Tensor x, Tensor normal, Tensor gap, Tensor state, Tensor rival, Tensor(a!) step,
        Tensor(b!) aim, Tensor(c!) z, Tensor(d!) direction, Tensor(e!) nearest,
        Tensor(f!) nearest_direction, Tensor(g!) flipped_to, Tensor? bounds=None,
        Tensor? scale=None) -> ()""",
    reference,
    nothing,
)


def redirect_(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    state: Tensor,
    rival: Tensor,
    step: Tensor,
    aim: Tensor,
    z: Tensor,
    direction: Tensor,
    nearest: Tensor,
    nearest_direction: Tensor,
    flipped_to: Tensor,
    bounds: Bounds | None = None,
    scale: Scale | None = None,
) -> None:
    """Aim each ray anew at the plane that was seen on it, in place: a round of method `refined`.

    A ray x + t d was looked at in z = x + step d, inside the box: there `search_step_` left `state`
    and `rival`, and the linearised model has the boundary {z + v: normal . v = gap}. First the
    nearest ray learns: this one takes its place if it crosses the plane at a smaller t. Then the
    ray is turned, half towards the normal, and z becomes the point where the new one crosses:

        aim <- aim / 2 + normal / (2 mean_i scale_c |normal_i|),    d = sign(aim).

    A ray crosses the plane at t = s (gap + w) / (w of the point at s), with w = normal . (z - x),
    as far as the box bends it on the way to s: of the old ray s = step, of the new one the old
    one's crossing. If that t is not positive and finite, there is no crossing, and the old ray's is
    replaced by `state`'s next radius, the new one's by s. No new step is longer than the smallest
    one that flipped.

    Args:
        x: [B, ...].
        normal: The gradient at z of the lead of the rival, [B, ...], dtype and shape of `x`.
        gap: What the rival lacks at z, [B], accumulation dtype, in the unit of `normal`.
        state: [6, B], accumulation dtype of `x`: of `search_step_`, after z.
        rival: [B] int64, likewise.
        step: [B], accumulation dtype: where z is on the ray. Changed in place, as all that follows.
        aim: [B, ...], accumulation dtype.
        z: [B, ...], dtype of `x`: written, not read.
        direction: [B, ...] int8: d, as `fgsm_step` packs it.
        nearest: [8, B], accumulation dtype, contiguous: of the nearest ray the state, with its
            crossing for the radius, and the crossing, NaN before the first ray; the smallest step
            that flipped on any ray.
        nearest_direction: [B, ...] int8: d of the nearest ray.
        flipped_to: [B] int64: the class at the smallest step that flipped.
        bounds: The box, see `channel_bounds`; None for none.
        scale: The unit of a step, see `channel_scale`; None for 1.

    `aim`, `z` and both directions have the layout of `x`: channels-last if that is, else
    contiguous. A normal of zeros leaves half of the aim; where numbers are NaN, so are the results.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape, device or layout, or one
            that is changed shares memory with another.

    Source: ours, see `rrfast.methods.Refined`. Cost: reads x and normal twice, aim and direction;
    writes aim, direction and z, and of samples with a nearer ray its direction.

    Example:
        >>> x, normal = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]])
        >>> state = torch.tensor([[1.0], [torch.inf], [2.0], [0.0], [-1.0], [2.0]])
        >>> step, aim, z = torch.ones(1), torch.tensor([[1.0, -0.25]]), torch.empty(1, 2)
        >>> direction = torch.tensor([[1, -1]], dtype=torch.int8)
        >>> nearest = torch.tensor([[torch.nan]] * 7 + [[torch.inf]])
        >>> rival, rest = torch.tensor([1]), (nearest, direction.clone(), torch.tensor([-1]))
        >>> redirect_(x, normal, torch.ones(1), state, rival, step, aim, z, direction, *rest)
        >>> nearest[6]  # the old ray: 3 - 1 closed at step 1, and 1 to go
        tensor([1.5000])
        >>> aim, step, z  # the new one: 3 to close, 4 with a step of 1
        (tensor([[1.2500, 0.1250]]), tensor([0.7500]), tensor([[0.7500, 0.7500]]))
    """
    check_batch(x)
    dtype = accumulate_dtype(x.dtype)
    check_same("normal", normal, "x", x)
    for name, values, kind in (("gap", gap, dtype), ("rival", rival, torch.int64)):
        check_per_sample(name, values, kind, "x", x)
    _check_table("state", state, 6, x)
    box = channel_bounds(bounds, x), channel_scale(scale, x)
    seen = [t for t in (x, normal, gap, state, rival, *box) if t is not None]
    for name, value, like_name, like, kind in (
        ("step", step, "gap", gap, dtype),
        ("aim", aim, "x", x, dtype),
        ("z", z, "x", x, x.dtype),
        ("direction", direction, "x", x, torch.int8),
        ("nearest_direction", nearest_direction, "x", x, torch.int8),
        ("flipped_to", flipped_to, "gap", gap, torch.int64),
    ):
        check_written(name, value, like_name, like, kind, seen)
        seen.append(value)
    _check_table("nearest", nearest, 8, x)
    check_written("nearest", nearest, "itself", nearest, dtype, seen)
    changed = step, aim, z, direction, nearest, nearest_direction, flipped_to
    seen_at_z = gap.contiguous(), state.contiguous(), rival.contiguous()
    _op(x, normal, *seen_at_z, *changed, *box)


def _check_table(name: str, value: object, rows: int, x: Tensor) -> None:
    """Raise unless it is so many rows of one number for each sample."""
    dtype = accumulate_dtype(x.dtype)
    if not isinstance(value, Tensor) or value.dtype != dtype:
        raise TypeError(
            f"{name} must be a {str(dtype).removeprefix('torch.')} tensor, got {describe(value)}"
        )
    if value.shape != (rows, x.shape[0]):
        raise ValueError(
            f"{name} must have shape [{rows}, B], [{rows}, {x.shape[0]}], got {describe(value)}"
        )
    check_device(name, value, "x", x)
