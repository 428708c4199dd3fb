"""The fused ops, typed and checked.

Each runs the kernel of the tensors' device: compiled where there is one, else the reference, with
the same results. Shapes: B samples, K classes, x of shape [B, ...]. dtypes: float64, float32,
bfloat16, float16; the ops compute in the *accumulation dtype*, float64 for float64 and float32 for
the rest. Contiguous and channels-last inputs are taken as they lie, others are copied. None is
differentiable: outputs are detached. None waits for the device, so a CUDA graph can capture all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rrfast import _native, _schema
from rrfast.checks import (
    check_batch,
    check_device,
    check_logits,
    check_number,
    check_per_sample,
    check_same,
    describe,
    is_number,
)
from rrfast.reading import is_on_host
from rrfast.reference import accumulate_dtype

__all__ = [
    "Bounds",
    "Mode",
    "Scale",
    "bisection_step_",
    "channel_bounds",
    "channel_scale",
    "check_mode",
    "direction_seed",
    "fgsm_step",
    "linear_radius",
    "perturb",
    "plane_distance",
    "probability_margin",
    "rat_perturb",
    "search_step_",
]

assert _schema.OPS  # the schemas must be there before a library registers kernels for them
_native.load()

#: A number, or one value per channel (dimension 1 of x).
Values = float | Tensor | npt.NDArray[Any] | Sequence[float]
#: The box inputs are clamped to: (lower, upper), each a number or one value per channel; or both as
#: a tensor [2, C].
Bounds = tuple[Values, Values] | Tensor
#: The unit of a step, in x's units: a number or one value per channel.
Scale = Values
#: How the inner step of training is aimed; see `rat_perturb`.
Mode = Literal["rat", "at", "reverse_at"]

_SIGNS: dict[str, tuple[float, float]] = {
    "rat": (1.0, -1.0),
    "at": (1.0, 1.0),
    "reverse_at": (-1.0, -1.0),
}


# ------------------------------------------------------------------------------------ box and scale


def _channels(x: Tensor) -> int:
    return x.shape[1] if x.dim() > 1 else 1


def _numbers_of(values: Any) -> Tensor | None:
    """A list or an array of numbers as a tensor; None of anything else in it, such as text."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        return None
    return torch.tensor(array.astype(np.float64)) if array.dtype.kind in "iuf" else None


def _channel_values(name: str, value: Any, x: Tensor) -> Tensor:
    """[1] or [C], in the accumulation dtype, where the values are; a number is put where x is."""
    dtype = accumulate_dtype(x.dtype)
    if is_number(value):
        # Beyond the dtype's range is infinite, as a cast has it and `full` has not.
        number = float(value) if abs(value) <= torch.finfo(dtype).max else value * math.inf
        return torch.full((1,), number, dtype=dtype, device=x.device)
    if isinstance(value, (list, tuple, np.ndarray)):
        value = _numbers_of(value)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a number or a tensor with one value per channel (an array or a list "
            f"will do), got {describe(value)}"
        )
    if value.numel() not in (1, _channels(x)):
        raise ValueError(
            f"{name} must be a number or hold one value for each of the {_channels(x)} channels "
            f"(dimension 1) of x, got {describe(value)}"
        )
    return value.detach().to(dtype).reshape(-1)


def check_options(box: Tensor | None, units: Tensor | None) -> None:
    """Raise a ValueError unless they are a box and units; waits for the device that they lie on.

    `channel_bounds` and `channel_scale`, whose results these are, look at numbers and at what they
    have to convert, and not at a tensor in the form that they give: an op is called with it at
    every step. So this is for where options come in.
    """
    if box is not None:
        _check_ends(*box.tolist())
    if units is not None:
        _check_units(units.tolist())


def _check_ends(lower: list[float], upper: list[float]) -> None:
    for channel, (low, high) in enumerate(zip(lower, upper, strict=True)):
        if not low <= high:
            where = f" in channel {channel}" if len(lower) > 1 else ""
            raise ValueError(f"bounds must have lower <= upper, got ({low:g}, {high:g}){where}")


def _check_units(scale: list[float]) -> None:
    for channel, unit in enumerate(scale):
        if not 0 < unit < math.inf:
            where = f" in channel {channel}" if len(scale) > 1 else ""
            raise ValueError(f"scale must be finite and greater than 0, got {unit:g}{where}")


def channel_bounds(bounds: Bounds | None, x: Tensor) -> Tensor | None:
    """`bounds` in the form the ops take: [2, C] or [2, 1] on x's device, in its accumulation dtype.

    Do this once where many steps share the bounds.

    Args:
        bounds: None, or (lower, upper), each a number or one value per channel of `x` (a tensor, an
            array or a list), or both as a tensor [2, C].
        x: The inputs, [B, C, ...].

    Raises:
        TypeError, ValueError: `bounds` is no pair, does not fit the channels, or has lower > upper
            or NaN. Not looked at, see `check_options`: a tensor [2, C], which is that form, and
            what is not on the CPU.

    Example:
        >>> channel_bounds((0, 1), torch.rand(4, 3, 8, 8))
        tensor([[0.],
                [1.]])
    """
    if bounds is None:
        return None
    pair = isinstance(bounds, (tuple, list)) or (isinstance(bounds, Tensor) and bounds.dim() > 0)
    if not pair or len(bounds) != 2:
        raise TypeError(f"bounds must be None or a pair (lower, upper), got {describe(bounds)}")
    if isinstance(bounds, Tensor) and bounds.shape in ((2, 1), (2, _channels(x))):
        return bounds.detach().to(x.device, accumulate_dtype(x.dtype))
    lower, upper = bounds[0], bounds[1]
    low, high = (_channel_values("bounds", end, x) for end in (lower, upper))
    if is_number(lower) and is_number(upper):
        if not lower <= upper:
            raise ValueError(f"bounds must have lower <= upper, got ({lower!r}, {upper!r})")
        return torch.stack((low, high))
    if low.device != high.device:
        low, high = low.to(x.device), high.to(x.device)
    box = torch.stack(torch.broadcast_tensors(low, high))
    if is_on_host(box):
        _check_ends(*box.tolist())
    return box.to(x.device)


def channel_scale(scale: Scale | None, x: Tensor) -> Tensor | None:
    """`scale` in the form the ops take: [C] or [1] on x's device, in its accumulation dtype.

    Args:
        scale: None, a number, or one value per channel of `x` (a tensor, an array or a list).
        x: The inputs, [B, C, ...].

    Raises:
        TypeError, ValueError: `scale` is neither, does not fit the channels, or is not finite and
            greater than 0, also in the accumulation dtype. Tensors are not looked at, see
            `check_options`.

    Example:
        >>> channel_scale(torch.tensor([4.0, 2.0, 1.0]), torch.rand(4, 3, 8, 8))
        tensor([4., 2., 1.])
    """
    if scale is None:
        return None
    if is_number(scale):
        check_number("scale", scale)
        finfo = torch.finfo(accumulate_dtype(x.dtype))
        if not finfo.tiny <= scale <= finfo.max:
            raise ValueError(
                f"scale must be from {finfo.tiny:g} to {finfo.max:g}, the numbers of "
                f"{finfo.dtype}, got {scale!r}"
            )
        return _channel_values("scale", scale, x)
    units = _channel_values("scale", scale, x)
    if not isinstance(scale, Tensor):
        _check_units(units.tolist())
    return units.to(x.device)


# ---------------------------------------------------------------------------------------------- ops

_direction_seed: Callable[[Tensor, float], tuple[Tensor, Tensor, Tensor, Tensor]]
_fgsm_step: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]
_perturb: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
_linear_radius: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
_rat_perturb: Callable[
    [Tensor, Tensor, Tensor, Tensor, float, float, Tensor | None, Tensor | None],
    tuple[Tensor, Tensor],
]
_plane_distance: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
_probability_margin: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
_direction_seed = torch.ops.rrfast.direction_seed.default
_fgsm_step = torch.ops.rrfast.fgsm_step.default
_perturb = torch.ops.rrfast.perturb.default
_linear_radius = torch.ops.rrfast.linear_radius.default
_bisection_step_ = torch.ops.rrfast.bisection_step_.default
_rat_perturb = torch.ops.rrfast.rat_perturb.default
_plane_distance = torch.ops.rrfast.plane_distance.default
_search_step_ = torch.ops.rrfast.search_step_.default
_probability_margin = torch.ops.rrfast.probability_margin.default


def direction_seed(
    logits: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prediction, margin, the cotangent whose backward is the worst-case direction, and runner-up.

    With y = argmax_k h_k, the cotangent is that of logsumexp_{k != y}(h_k / T) - h_y / T, times T:

        seed_k = exp(h_k / T) / sum_{j != y} exp(h_j / T)  for k != y,    seed_y = -1.

    Its input gradient is the cross-entropy's at the predicted label times 1 / (1 - p_y) > 0: the
    same direction in exact arithmetic, and never lost to rounding (errata 4). T -> 0 puts all
    weight on the runner-up.

    Args:
        logits: [B, K], K >= 2.
        temperature: T >= 0.

    Returns:
        prediction [B] int64, the lowest index among equals, NaN above all, as `torch.argmax`;
        margin [B], h_y - max_{k != y} h_k in the accumulation dtype, or its largest number where
        that is less; seed [B, K] in the dtype of `logits`; runner_up [B] int64, the class that the
        margin is to, the best besides the prediction in the same order. Logits that say nothing
        make margin NaN: one is NaN or +infinity, or all are -infinity. Where all but one are, it is
        infinite.

    Raises:
        TypeError: `logits` is not a floating-point tensor, `temperature` not a number.
        ValueError: `logits` is not [B, K >= 2], `temperature` is negative or not finite.

    Source: RAT Eq. 3; errata 4. Cost: reads and writes B * K once.

    Example:
        >>> prediction, margin, seed, runner_up = direction_seed(torch.tensor([[1.0, 3.0, 1.0]]))
        >>> prediction.item(), margin.item(), seed.tolist(), runner_up.item()
        (1, 2.0, [[0.5, -1.0, 0.5]], 0)
    """
    check_logits("logits", logits)
    check_number("temperature", temperature, zero=True)
    return _direction_seed(logits, temperature)


def fgsm_step(
    x: Tensor, grad: Tensor, step: Tensor, bounds: Bounds | None = None, scale: Scale | None = None
) -> tuple[Tensor, Tensor]:
    """One step along the sign of the gradient, and the direction for the steps that follow.

        perturbed = clamp(x + step_b * scale_c * sign(grad), lower_c, upper_c)

    Args:
        x: [B, ...].
        grad: [B, ...], dtype and shape of `x`.
        step: [B], accumulation dtype, in units of `scale`; may be negative.
        bounds: The box, see `channel_bounds`; None for no clamp.
        scale: The unit of a step, see `channel_scale`; None for 1.

    Returns:
        perturbed, shape, dtype and layout of `x`; direction, int8 of the same shape: -1, 0, 1, and
        -128 where the gradient is NaN, which makes the perturbed element NaN.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape or device than said here.

    Source: RAT Eq. 3. Cost: reads x and grad, writes x and one byte per element.

    Example:
        >>> x, grad = torch.tensor([[0.25, 0.5]]), torch.tensor([[-3.0, 0.0]])
        >>> fgsm_step(x, grad, torch.tensor([0.5]), bounds=(0, 1))
        (tensor([[0.0000, 0.5000]]), tensor([[-1,  0]], dtype=torch.int8))
    """
    check_batch(x)
    check_same("grad", grad, "x", x)
    check_per_sample("step", step, accumulate_dtype(x.dtype), "x", x)
    return _fgsm_step(
        x, grad, step.contiguous(), channel_bounds(bounds, x), channel_scale(scale, x)
    )


def perturb(
    x: Tensor,
    direction: Tensor,
    step: Tensor,
    bounds: Bounds | None = None,
    scale: Scale | None = None,
) -> Tensor:
    """A step along a direction that `fgsm_step` returned.

        perturbed = clamp(x + step_b * scale_c * direction, lower_c, upper_c)

    Args:
        x: [B, ...].
        direction: [B, ...], int8: -1, 0, 1, or -128 for NaN.
        step: [B], accumulation dtype, in units of `scale`; may be negative.
        bounds: The box, see `channel_bounds`; None for no clamp.
        scale: The unit of a step, see `channel_scale`; None for 1.

    Returns:
        perturbed, shape, dtype and layout of `x`.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape or device than said here.

    Source: RAT Eq. 4. Cost: reads x and one byte per element, writes x.

    Example:
        >>> direction = torch.tensor([[-1, 0]], dtype=torch.int8)
        >>> perturb(torch.tensor([[0.25, 0.5]]), direction, torch.tensor([0.125]))
        tensor([[0.1250, 0.5000]])
    """
    check_batch(x)
    if not isinstance(direction, Tensor) or direction.dtype != torch.int8:
        raise TypeError(
            f"direction must be an int8 tensor, as fgsm_step returns it, got {describe(direction)}"
        )
    if direction.shape != x.shape:
        raise ValueError(
            f"direction must have the shape of x, {list(x.shape)}, got {describe(direction)}"
        )
    check_device("direction", direction, "x", x)
    check_per_sample("step", step, accumulate_dtype(x.dtype), "x", x)
    return _perturb(
        x, direction, step.contiguous(), channel_bounds(bounds, x), channel_scale(scale, x)
    )


def linear_radius(
    h0: Tensor, h1: Tensor, prediction: Tensor, alpha: float = 0.01
) -> tuple[Tensor, Tensor]:
    """The radius at which logits that are lines change the prediction, and to which class.

    The closed form of RR-Fast:

        radius = min_{i != y} q_i,    q_i = alpha * gap_i(0) / (gap_i(0) - gap_i(alpha)),
        rival = argmin_{i != y} q_i,    gap_i(t) = h_y(t) - h_i(t)

    q_i is infinite where class i does not gain on y, and 0 at a tie (or if y is not the largest).

    Args:
        h0: Logits at x, [B, K].
        h1: Logits at x + alpha * direction, [B, K], dtype of `h0`.
        prediction: y, [B] int64.
        alpha: The step between the two, > 0.

    Returns:
        radius [B], accumulation dtype. Infinite if no class gains; NaN if a logit is NaN or
        +infinity, all of a row or y's alone are -infinity, or y is no class. rival [B] int64, the
        lowest index among equals; -1 where the radius is infinite or NaN.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape or device than said here,
            or alpha is not positive.

    Source: RAT Eq. 6 to 8; errata 2 (the printed sign is wrong) and 3. Cost: reads 2 * B * K once.

    Example:
        >>> h0, h1 = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.5, 1.0, 0.5]])
        >>> linear_radius(h0, h1, torch.tensor([0]), alpha=0.25)
        (tensor([0.5000]), tensor([1]))
    """
    check_logits("h0", h0)
    check_same("h1", h1, "h0", h0)
    check_per_sample("prediction", prediction, torch.int64, "h0", h0)
    check_number("alpha", alpha)
    return _linear_radius(h0, h1, prediction, alpha)


def bisection_step_(
    logits: Tensor,
    prediction: Tensor,
    lower: Tensor,
    upper: Tensor,
    radius: Tensor,
    rival: Tensor | None = None,
) -> None:
    """One step of RR-BS for every sample at once, in place: the bracket and the next radius to try.

    A sample that still predicts y at `radius` gets lower = radius, one that flipped upper = radius;
    then radius = min((lower + upper) / 2, 2 * lower): doubling until something flips, bisection
    from there.

    Args:
        logits: Logits at x + radius * direction, [B, K].
        prediction: y, [B] int64.
        lower: Largest radius seen to keep the prediction, [B], accumulation dtype of `logits`.
            Changed in place.
        upper: Smallest radius seen to flip it, infinite if none, likewise.
        radius: The radius just tried, then the next one, likewise.
        rival: None, or [B] int64, the class predicted at `upper`: changed in place where `upper`
            has become less.

    Logits that say nothing make a sample's three numbers NaN for good: one is NaN or +infinity, or
    all are -infinity.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape, device or layout than
            said here.

    Source: RAT Algorithm 1; errata 5. Cost: reads B * K once; returns nothing to the host.

    Example:
        >>> lower, upper, radius = torch.tensor([[1.0], [torch.inf], [2.0]])
        >>> flipped, rival = torch.tensor([[0.0, 5.0]]), torch.tensor([-1])
        >>> bisection_step_(flipped, torch.tensor([0]), lower, upper, radius, rival)
        >>> lower.item(), upper.item(), radius.item(), rival.item()
        (1.0, 2.0, 1.5, 1)
    """
    check_logits("logits", logits)
    check_per_sample("prediction", prediction, torch.int64, "logits", logits)
    for name, value in (("lower", lower), ("upper", upper), ("radius", radius)):
        check_per_sample(name, value, accumulate_dtype(logits.dtype), "logits", logits)
        _check_in_place(name, value)
    _check_rival(rival, logits)
    _bisection_step_(logits, prediction, lower, upper, radius, rival)


def _check_rival(rival: Tensor | None, logits: Tensor) -> None:
    if rival is not None:
        check_per_sample("rival", rival, torch.int64, "logits", logits)
        _check_in_place("rival", rival)


def _check_in_place(name: str, value: Tensor) -> None:
    if not value.is_contiguous():
        raise ValueError(
            f"{name} must be contiguous, because it is changed in place, got strides "
            f"{value.stride()}"
        )


def search_step_(
    logits: Tensor,
    prediction: Tensor,
    state: Tensor,
    nudge: float = 0.0,
    rival: Tensor | None = None,
) -> None:
    """One probe of a safeguarded root search for every sample at once, in place.

    The root is that of margin(r) = h_y - max_{k != y} h_k along the ray, and the state of a sample

        lower, upper, lower_margin, upper_margin, side, radius:

    the bracket, the margins at its ends as the interpolation weighs them, the end that moved last
    (-1 lower, 1 upper, 0 none), and the radius that was just tried, then the next one. To start:
    (0, infinity, the margin at 0, anything, 0, the first radius to try).

    A sample that still predicts y at `radius` gets lower = radius, one that flipped upper = radius.
    Until something flips, the next radius is 1.05 times the root of the secant through the last two
    probes, within [1.02, 2] lower; from then on it is that of regula falsi, where an end that stays
    for a second time counts half (Illinois), or the middle where a margin is not finite.

    Args:
        logits: Logits at x + radius * direction, [B, K].
        prediction: y, [B] int64.
        state: [6, B], accumulation dtype of `logits`, contiguous. Changed in place. A bracket
            without inside (0, 0: a tie) stays as it is.
        nudge: In [0, 0.5): the next radius stays lower + nudge * upper or more, and upper - nudge *
            upper or less, so that both ends move.
        rival: None, or [B] int64: the class predicted at `upper`, changed in place where `upper`
            has become less; until something flips, the best of the others at `radius`.

    Logits that say nothing make a sample's numbers NaN for good: one is NaN or +infinity, or all
    are -infinity. So does a y that is no class.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape, device or layout than
            said here.

    Source: ours; Dowell & Jarratt 1971 for the weights. Cost: reads B * K once; returns nothing to
    the host.

    Example:
        >>> state = torch.tensor([[0.0], [torch.inf], [1.0], [0.0], [0.0], [2.0]])
        >>> h, rival = torch.tensor([[0.0, 3.0]]), torch.tensor([-1])
        >>> search_step_(h, torch.tensor([0]), state, rival=rival)
        >>> state.squeeze(1).tolist()  # from margin 1 at 0 to -3 at 2: the root is at 0.5
        [0.0, 2.0, 1.0, -3.0, 1.0, 0.5]
        >>> rival
        tensor([1])
    """
    check_logits("logits", logits)
    check_per_sample("prediction", prediction, torch.int64, "logits", logits)
    dtype = accumulate_dtype(logits.dtype)
    if not isinstance(state, Tensor) or state.dtype != dtype:
        raise TypeError(
            f"state must be a {str(dtype).removeprefix('torch.')} tensor, got {describe(state)}"
        )
    if state.shape != (6, logits.shape[0]):
        raise ValueError(
            f"state must have shape [6, B], [6, {logits.shape[0]}], got {describe(state)}"
        )
    check_device("state", state, "logits", logits)
    _check_in_place("state", state)
    check_number("nudge", nudge, zero=True)
    if nudge >= 0.5:
        raise ValueError(f"nudge must be less than 0.5, got {nudge!r}")
    _check_rival(rival, logits)
    _search_step_(logits, prediction, state, nudge, rival)


def check_mode(mode: object) -> None:
    """Raise a ValueError unless `mode` is a `Mode`."""
    if not isinstance(mode, str) or mode not in _SIGNS:
        raise ValueError(f"mode must be one of {', '.join(map(repr, _SIGNS))}, got {mode!r}")


def rat_perturb(
    x: Tensor,
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    eps: float,
    mode: Mode = "rat",
    bounds: Bounds | None = None,
    scale: Scale | None = None,
) -> tuple[Tensor, Tensor]:
    """The inner step of RAT: samples that are right move up the loss, those that are wrong down.

        perturbed = clamp(x + s_b * eps * scale_c * sign(grad), lower_c, upper_c)

    with s = +1 where argmax(logits) == label and -1 elsewhere for `"rat"`, +1 for `"at"`, -1 for
    `"reverse_at"`.

    Args:
        x: [B, ...].
        grad: Gradient of the loss with respect to `x`: dtype and shape of `x`. Where it is NaN,
            `x` is not moved: under a gradient scaler overflow is an ordinary event, and inputs of
            NaN would stay in BatchNorm's running statistics. The parameters' gradients carry it.
        logits: Logits at x, [B, K]; any floating dtype.
        labels: [B] int64.
        eps: Length of the step, >= 0, in units of `scale`.
        mode: `"rat"` (RAT Eq. 11), `"at"` (Eq. 9) or `"reverse_at"` (Eq. 10).
        bounds: The box, see `channel_bounds`; None for no clamp.
        scale: The unit of a step, see `channel_scale`; None for 1.

    Returns:
        perturbed, shape, dtype and layout of `x`; correct [B] bool.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape or device than said here,
            or `mode` is unknown.

    Source: RAT Eq. 9 to 11. Cost: reads x, grad and the logits, writes x.

    Example:
        >>> x, grad = torch.zeros(2, 1), torch.tensor([[3.0], [3.0]])
        >>> logits, labels = torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1])
        >>> rat_perturb(x, grad, logits, labels, eps=0.5)
        (tensor([[ 0.5000],
                [-0.5000]]), tensor([ True, False]))
    """
    check_batch(x)
    check_same("grad", grad, "x", x)
    check_logits("logits", logits)
    check_device("logits", logits, "x", x)
    if logits.shape[0] != x.shape[0]:
        raise ValueError(
            f"logits must have one row per sample of x, {x.shape[0]}, got {describe(logits)}"
        )
    check_per_sample("labels", labels, torch.int64, "logits", logits)
    check_number("eps", eps, zero=True)
    check_mode(mode)
    correct, wrong = _SIGNS[mode]
    return _rat_perturb(
        x,
        grad,
        logits,
        labels,
        correct * eps,
        wrong * eps,
        channel_bounds(bounds, x),
        channel_scale(scale, x),
    )


def plane_distance(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    bounds: Bounds | None = None,
    scale: Scale | None = None,
) -> Tensor:
    """How far a hyperplane is from each sample in the L-infinity norm, inside a box.

    The distance from x_b to {z: normal_b . (z - x_b) = gap_b} is the smallest t >= 0 with

        sum_i scale_c |normal_i| min(t, room_i) = |gap_b|,

    where room_i is the way to the face of the box in the direction sign(gap) sign(normal_i) that
    the element moves in, in units of scale. Without bounds: |gap| / sum_i scale_c |normal_i|. The
    nearest point is `fgsm_step(x, normal, sign(gap) * distance, bounds, scale)`.

    Args:
        x: [B, ...]. Read only with `bounds`, in which it must lie; an element outside does not
            move further out.
        normal: [B, ...], dtype and shape of `x`.
        gap: [B], accumulation dtype.
        bounds: The box, see `channel_bounds`; None for none.
        scale: The unit of the distance, see `channel_scale`; None for 1.

    Returns:
        [B], accumulation dtype, in units of `scale`. 0 where gap is 0, infinite where the box ends
        before the plane or normal is zero, NaN where something that is read is NaN or the sum is
        beyond the range of the dtype. The distance to a plane whose gap is off by a few units in
        the last place.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape or device than said here.

    Source: the dual norm of L-infinity, and the box of FAB (Croce & Hein 2020, Eq. 7), solved by
    Newton's method in place of a sort. Cost: reads x and normal once from memory, and a few times
    from cache where many elements meet their faces.

    Example:
        >>> x, normal, gap = torch.tensor([[0.5, 0.75]]), torch.tensor([[1.0, 2.0]]), torch.ones(1)
        >>> plane_distance(x, normal, gap)
        tensor([0.3333])
        >>> plane_distance(x, normal, gap, bounds=(0, 1))  # the second stops after 0.25
        tensor([0.5000])
    """
    check_batch(x)
    check_same("normal", normal, "x", x)
    check_per_sample("gap", gap, accumulate_dtype(x.dtype), "x", x)
    return _plane_distance(
        x, normal, gap.contiguous(), channel_bounds(bounds, x), channel_scale(scale, x)
    )


def probability_margin(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What instance-reweighted adversarial training weighs a sample by, from one pass over a row.

    With p = softmax(logits), y the label and p' = p with p_y set to 0:

        margin     = max_{k != y} p_k - p_y, in [-1, 1]: larger = worse
        top2_ratio = max_{k != y} p_k / (1 - p_y), in [1 / (K - 1), 1]
        similarity = <p, p'> / (|p| |p'|) = sqrt(sum_{k != y} p_k^2 / sum_k p_k^2), in [0, 1]
        entropy    = -sum_k p_k log p_k, in nats, in [0, log K]

    All keep a small relative error where p_y is within rounding of 0 or 1: no probability is ever
    subtracted from another. `rrfast.reference.probability_margin` has the forms, and is
    differentiable, where weights are not detached.

    Args:
        logits: [B, K], K >= 2. A class at -infinity is masked: its probability is 0.
        labels: y, [B] int64.

    Returns:
        margin, top2_ratio, similarity, entropy, each [B], accumulation dtype. All four are NaN
        where a logit is NaN or +infinity, all are -infinity, or y is no class. Where every class
        but y is masked, top2_ratio is 1, as with a single class left; what it then weighs, the
        similarity, is 0.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape or device than said here.

    Source: IRAT Eq. 4 (errata 14), Eq. 6 to 8, Eq. 11 and 12 (errata 18); the entropy is EWAT's.
    Errata 15 and 16 are about the weights made of these. Cost: reads B * K once, writes 4 * B.

    Example:
        >>> logits, labels = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([1])
        >>> margin, top2_ratio, similarity, entropy = probability_margin(logits, labels)
        >>> margin.item(), round(top2_ratio.item(), 4), round(similarity.item(), 4)
        (0.25, 0.6667, 0.9129)
        >>> round(entropy.item(), 4)  # 1.5 bits
        1.0397
    """
    check_logits("logits", logits)
    check_per_sample("labels", labels, torch.int64, "logits", logits)
    return _probability_margin(logits, labels)
