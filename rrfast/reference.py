"""The specification: every op and both algorithms of RAT in plain PyTorch, slow and obvious.

The compiled kernels are tested against these functions, and these functions run wherever no kernel
is. What decides a doubtful case is here. Shapes: B samples, K classes, x of shape [B, ...].
"accumulation dtype" is float64 for float64 and float32 for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

#: Code of the sign of NaN in a packed direction.
NAN_DIRECTION = -128


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which the ops compute: float64 for float64, float32 for the others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def memory_format(x: Tensor) -> torch.memory_format:
    """The layout of an elementwise op's result: channels-last if `x` lies so, else contiguous."""
    if not x.is_contiguous():
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
        if x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
            return torch.channels_last_3d
    return torch.contiguous_format


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """[C] or [1] values shaped so that they broadcast over dimension 1 of `x`."""
    return values.reshape(1, -1, *[1] * (x.dim() - 2)) if x.dim() > 1 else values


# ---------------------------------------------------------------------------------------------- ops


def is_undefined(logits: Tensor) -> Tensor:
    """Whether a row of logits says nothing, [B].

    NaN is among them, one has overflowed to infinity, and how far is not known, or all classes are
    masked with -infinity.

    Example:
        >>> is_undefined(torch.tensor([[1.0, math.inf], [1.0, -math.inf], [-math.inf, -math.inf]]))
        tensor([ True, False,  True])
    """
    return ~logits.amax(dim=1).isfinite()


def best_other(logits: Tensor, prediction: Tensor) -> Tensor:
    """The class with the largest logit besides the prediction, [B] int64: the lowest among equals.

    Example:
        >>> best_other(torch.tensor([[2.0, 1.0, 1.0], [0.0, 3.0, 0.0]]), torch.tensor([0, 1]))
        tensor([1, 0])
    """
    other = logits.scatter(1, prediction[:, None], -math.inf).argmax(dim=1)
    # Where all others are masked with -inf it is class 0, and that may be the prediction.
    return torch.where(other == prediction, 1, other)


def direction_seed(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prediction, margin, cotangent (errata 4) and runner-up; see `rrfast.ops.direction_seed`."""
    h = logits.to(accumulate_dtype(logits.dtype))
    prediction = h.argmax(dim=1, keepdim=True)
    second = best_other(h, prediction.squeeze(1))
    others = h.scatter(1, prediction, -math.inf)
    best = others.amax(dim=1, keepdim=True)
    finfo = torch.finfo(h.dtype)
    if temperature <= finfo.tiny * finfo.eps / 2:  # 0 in that precision; torch.compile reads this
        one_hot = torch.zeros_like(h).scatter(1, second[:, None], 1.0)
        weights = one_hot.masked_fill(best.isnan(), math.nan)
    else:
        weights = torch.exp((others - best) / temperature)
    seed = (weights / weights.sum(dim=1, keepdim=True)).scatter(1, prediction, -1.0)
    margin = h.gather(1, prediction) - best
    margin = torch.where(best > -math.inf, margin.clamp(max=finfo.max), margin).squeeze(1)
    margin = margin.masked_fill(is_undefined(h), math.nan)
    return prediction.squeeze(1), margin, seed.to(logits.dtype), second


def naive_direction_seed(
    logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same from the cross-entropy at the predicted label, as in RAT Eq. 3 and as released.

    In floating point its term 1 - p of the prediction vanishes from a margin of about 17 in
    float32 and 10 in bfloat16, and the direction is then wrong (errata 4). Kept for comparison and
    for `compat="released"`.
    """
    prediction, margin, _, runner_up = direction_seed(logits, temperature)
    h = logits / temperature
    seed = torch.softmax(h, dim=1)
    seed = seed - torch.nn.functional.one_hot(prediction, h.shape[1]).to(seed.dtype)
    return prediction, margin, seed, runner_up


def _moved(
    x: Tensor, length: Tensor, sign: Tensor, bounds: Tensor | None, scale: Tensor | None
) -> Tensor:
    """clamp(x + length_b * scale_c * sign), in the dtype and layout of `x`."""
    step = length.reshape(-1, *[1] * (x.dim() - 1))
    if scale is not None:
        step = step * per_channel(scale, x)
    value = x.to(accumulate_dtype(x.dtype)) + step * sign
    if bounds is not None:
        value = value.clamp(per_channel(bounds[0], x), per_channel(bounds[1], x))
    return torch.empty(
        x.shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x)
    ).copy_(value)


def _sign(grad: Tensor) -> Tensor:
    """-1, 0, +1; NaN stays NaN, unlike in `torch.sign`."""
    value = grad.to(accumulate_dtype(grad.dtype))
    return value.sign().masked_fill(value.isnan(), math.nan)


def fgsm_step(
    x: Tensor, grad: Tensor, step: Tensor, bounds: Tensor | None = None, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step along sign(grad), and that sign packed in int8; see `rrfast.ops.fgsm_step`."""
    sign = _sign(grad)
    packed = sign.nan_to_num(nan=NAN_DIRECTION)
    direction = torch.empty(
        x.shape, dtype=torch.int8, device=x.device, memory_format=memory_format(x)
    ).copy_(packed)
    return _moved(x, step, sign, bounds, scale), direction


def perturb(
    x: Tensor,
    direction: Tensor,
    step: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """A step along a packed direction; see `rrfast.ops.perturb`."""
    sign = direction.to(accumulate_dtype(x.dtype)).masked_fill(direction == NAN_DIRECTION, math.nan)
    return _moved(x, step, sign, bounds, scale)


def linear_radius(
    h0: Tensor, h1: Tensor, prediction: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """The closed form of RR-Fast (RAT Eq. 8, errata 2 and 3); see `rrfast.ops.linear_radius`."""
    dtype = accumulate_dtype(h0.dtype)
    known = (prediction >= 0) & (prediction < h0.shape[1])
    top = prediction.clamp(0, h0.shape[1] - 1)[:, None]
    # A quarter of the logits is exact, and no difference of differences overflows.
    quarter0, quarter1 = 0.25 * h0.to(dtype), 0.25 * h1.to(dtype)
    gap0 = quarter0.gather(1, top) - quarter0
    gap1 = quarter1.gather(1, top) - quarter1
    q = torch.where(gap1 < gap0, alpha * (gap0 / (gap0 - gap1)), math.inf)
    q = q.masked_fill(gap0 <= 0, 0.0).scatter(1, top, math.inf)
    masked = gap0.minimum(gap1).scatter(1, top, 0.0).amin(dim=1) == -math.inf  # y, and not all
    undefined = is_undefined(h0) | is_undefined(h1) | masked | ~known
    radius, rival = q.min(dim=1)  # the lowest index among equals
    radius = radius.masked_fill(undefined, math.nan)
    return radius, rival.masked_fill(~radius.isfinite(), -1)


def bisection_step_(
    logits: Tensor,
    prediction: Tensor,
    lower: Tensor,
    upper: Tensor,
    radius: Tensor,
    rival: Tensor | None = None,
) -> None:
    """One step of RR-BS (RAT Algorithm 1, errata 5); see `rrfast.ops.bisection_step_`."""
    first = logits.argmax(dim=1)
    flipped = first != prediction
    undefined = is_undefined(logits) | radius.isnan()
    new_lower = torch.where(flipped, lower, radius).masked_fill(undefined, math.nan)
    new_upper = torch.where(flipped, radius, upper).masked_fill(undefined, math.nan)
    if rival is not None:
        rival.copy_(torch.where(new_upper < upper, first, rival))
    lower.copy_(new_lower)
    upper.copy_(new_upper)
    radius.copy_(torch.minimum((lower + upper) / 2, 2 * lower))


def rat_perturb(
    x: Tensor,
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    eps_correct: float,
    eps_wrong: float,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The perturbation of RAT, AT and ReverseAT (RAT Eq. 9 to 11); see `rrfast.ops.rat_perturb`."""
    correct = logits.argmax(dim=1) == labels
    dtype = accumulate_dtype(x.dtype)
    # From Python floats, not from a tensor on the host: nothing to copy to the device.
    eps = torch.full_like(correct, eps_wrong, dtype=dtype).masked_fill(correct, eps_correct)
    # `torch.sign` of NaN is 0: where the gradient overflowed, x stays where it is.
    return _moved(x, eps, grad.to(dtype).sign(), bounds, scale), correct


def plane_distance(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """The distance to a hyperplane inside a box; see `rrfast.ops.plane_distance`.

    The t with sum_i w_i min(t, room_i) = |gap|: w_i = scale_c |n_i|, and room_i is the way to the
    face ahead in units of scale. The left side is concave and piecewise linear in t with its
    corners at the rooms: sort them, find the piece. In float64, because what is left of the weights
    past a corner is a difference of sums.
    """
    unit = torch.ones(1, dtype=torch.float64, device=x.device) if scale is None else scale.double()
    unit = per_channel(unit, x)
    weight = (normal.double().abs() * unit).reshape(x.shape[0], math.prod(x.shape[1:]))
    wanted = gap.double().abs()[:, None]
    # A sum beyond the range of the accumulation dtype is not to be had.
    undefined = gap.isnan() | ~weight.sum(dim=1).to(gap.dtype).isfinite()
    if bounds is None or weight.shape[1] == 0:
        distance = wanted / weight.sum(dim=1, keepdim=True)
    else:
        lower, upper = (per_channel(bound.double(), x) for bound in bounds)
        rising = (normal > 0) == (gap.reshape(-1, *[1] * (x.dim() - 1)) > 0)
        face = torch.where(rising, upper - x, x - lower).clamp(min=0)
        room = (face / unit).reshape(weight.shape)
        undefined |= room.isnan().any(dim=1) | bounds.isnan().any()
        room, order = room.sort(dim=1)
        weight = weight.gather(1, order)
        # Before corner j: the weight still moving, and the gap closed by what has met its face.
        # Rooms may be infinite; no product with a weight of zero may become NaN of that.
        moving = weight.flip(1).cumsum(dim=1).flip(1)
        closed = torch.where(weight > 0, weight * room, 0.0)
        spent = torch.cat((torch.zeros_like(closed[:, :1]), closed[:, :-1].cumsum(dim=1)), dim=1)
        reached = (moving > 0) & (spent + room * moving >= wanted)
        first = reached.int().argmax(dim=1, keepdim=True)
        distance = (wanted - spent.gather(1, first)) / moving.gather(1, first)
        distance = torch.where(reached.any(dim=1, keepdim=True), distance, math.inf)
    distance = distance.squeeze(1).masked_fill(gap == 0, 0.0).masked_fill(undefined, math.nan)
    return distance.to(accumulate_dtype(x.dtype))


def search_step_(
    logits: Tensor,
    prediction: Tensor,
    state: Tensor,
    nudge: float = 0.0,
    rival: Tensor | None = None,
) -> None:
    """One probe of the safeguarded root search; see `rrfast.ops.search_step_`."""
    h = logits.to(state.dtype)
    known = (prediction >= 0) & (prediction < h.shape[1])
    first = h.argmax(dim=1)
    flipped = first != prediction
    ahead = torch.where(flipped, first, best_other(h, first))
    top = prediction.clamp(0, h.shape[1] - 1)[:, None]
    margin = (h.gather(1, top) - h.gather(1, ahead[:, None])).squeeze(1)

    old_lower, old_upper, old_lower_margin, old_upper_margin, old_side, radius = state.clone()
    undefined = is_undefined(h) | ~known | radius.isnan()
    side = torch.where(flipped, 1.0, -1.0).to(state.dtype)
    weight = torch.where(old_side == side, 0.5, 1.0).to(state.dtype)
    lower = torch.where(flipped, old_lower, radius)
    upper = torch.where(flipped, radius, old_upper)
    lower_margin = torch.where(flipped, weight * old_lower_margin, margin)
    upper_margin = torch.where(flipped, margin, weight * old_upper_margin)

    fall = old_lower_margin - margin
    secant = 1.05 * (lower + margin * (lower - old_lower) / fall)
    beyond = torch.where((fall > 0) & (secant < 2 * lower), secant, 2 * lower)
    beyond = torch.where(beyond > 1.02 * lower, beyond, 1.02 * lower)
    drop = lower_margin - upper_margin
    root = lower + (upper - lower) * (lower_margin / drop)
    inside = (drop < math.inf) & (root >= lower) & (root <= upper)
    between = torch.where(inside, root, (lower + upper) / 2)
    least, most = lower + nudge * upper, upper - nudge * upper
    between = torch.where(between < least, least, between)
    between = torch.where(between > most, most, between)
    found = torch.where(upper == math.inf, beyond, between)

    new = torch.stack((lower, upper, lower_margin, upper_margin, side, found))
    nan = torch.full_like(side, math.nan)
    new = torch.where(undefined, torch.stack((nan, nan, nan, nan, old_side, nan)), new)
    new = torch.where((old_upper <= old_lower) & ~undefined, state, new)
    if rival is not None:
        learned = (new[1] < old_upper) | (new[1] == math.inf)
        rival.copy_(torch.where(learned, ahead, rival))
    state.copy_(new)


def probability_margin(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the instance weights of IRAT are made of; see `rrfast.ops.probability_margin`.

    Unlike the op, differentiable in `logits` by autograd; where the best of the other classes is
    tied, by the subgradient of the lowest index.

    With p = softmax(h), h_2 = max_{k != y} h_k, d = h_y - h_2, a_k = h_k - h_2 <= 0 and the sums
    over k != y

        S = sum e^a_k,    W = sum |a_k| e^a_k,    Q = sum e^2a_k,

    nothing overflows in t = e^-|d|, and only terms of one sign are added:

        top2_ratio = 1 / S
        where d >= 0:  margin = expm1(-d) / (1 + t S)
                       similarity = t sqrt(Q / (1 + t^2 Q))
                       entropy = log1p(t S) + t (d S + W) / (1 + t S)
        where d < 0:   margin = -expm1(d) / (S + t)
                       similarity = sqrt(Q / (Q + t^2))
                       entropy = log1p(S - 1 + t) + (W + |d| t) / (S + t)

    S - 1 is the sum without the best class's own 1. So the relative error is of the order of K
    roundings, and |d| more where t is a factor of the result, because h_y - h_2 is rounded.
    """
    h = logits.to(accumulate_dtype(logits.dtype))
    known = (labels >= 0) & (labels < h.shape[1])
    label = labels.clamp(0, h.shape[1] - 1)[:, None]
    others = h.scatter(1, label, -math.inf)
    second = others.argmax(dim=1, keepdim=True)
    h_y, h_2 = h.gather(1, label), others.gather(1, second)
    away = h_2 - others
    gone = ~(away < math.inf)  # the label's own column, and classes that are ruled out
    away = away.masked_fill(gone, 0.0)
    weights = torch.exp(-away).masked_fill(gone, 0.0).scatter(1, second, 0.0)
    rest = weights.sum(dim=1, keepdim=True)
    spread = (away * weights).sum(dim=1, keepdim=True)
    total, squares = 1 + rest, 1 + weights.square().sum(dim=1, keepdim=True)

    d = h_y - h_2
    ahead = d >= 0
    gap = torch.where(ahead, d, -d)  # not d.abs(), whose gradient at a tie is neither branch's
    t = torch.exp(-gap)
    lost = torch.where(gap < math.inf, gap, 0.0) * t
    mass = torch.where(ahead, 1 + t * total, total + t)
    margin = torch.expm1(-gap) / mass
    margin = torch.where(ahead, margin, -margin)
    length = torch.where(ahead, 1 + squares * t.square(), squares + t.square())
    similarity = torch.where(ahead, t, 1.0) * (squares / length).sqrt()
    entropy = torch.log1p(torch.where(ahead, t * total, rest + t))
    entropy = entropy + torch.where(ahead, lost * total + t * spread, lost + spread) / mass

    undefined = is_undefined(h) | ~known
    results = (margin, 1 / total, similarity, entropy)
    margin, ratio, similarity, entropy = (
        value.squeeze(1).masked_fill(undefined, math.nan) for value in results
    )
    return margin, ratio, similarity, entropy


# --------------------------------------------------------------------------------------- algorithms

Numerics = Literal["stable", "naive"]


def _direction(
    model: Callable[[Tensor], Tensor], x: Tensor, temperature: float, numerics: Numerics
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean logits, prediction and the worst-case direction sign(grad) (RAT Eq. 3)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(x)
        seed_of = direction_seed if numerics == "stable" else naive_direction_seed
        prediction, _, seed, _ = seed_of(logits.detach(), temperature)
        (grad,) = torch.autograd.grad(logits, x, seed)
    return logits.detach(), prediction, _sign(grad)


def _at(x: Tensor, radius: Tensor, sign: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    moved = x.detach() + radius.reshape(-1, *[1] * (x.dim() - 1)) * sign
    return moved if bounds is None else moved.clamp(*bounds)


def radius_fast(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 0.01,
    bounds: tuple[float, float] | None = None,
    numerics: Numerics = "stable",
) -> tuple[Tensor, Tensor]:
    """RR-Fast, RAT Algorithm 2, sample by sample: radius and rival, each [B].

    The model must be in eval mode and its parameters need no gradient. `numerics="naive"` takes the
    direction from the cross-entropy as printed.
    """
    rows = []
    for sample in x.split(1):
        logits, prediction, sign = _direction(model, sample, temperature, numerics)
        with torch.no_grad():
            moved = model(
                _at(sample, torch.full_like(prediction, alpha, dtype=sample.dtype), sign, bounds)
            )
        h0, h1, y = logits[0], moved[0], int(prediction[0])
        radius, rival = math.inf, -1
        for i in range(len(h0)):
            if i != y:
                gap0, gap1 = float(h0[y] - h0[i]), float(h1[y] - h1[i])
                q = math.inf
                if math.isnan(gap0) or math.isnan(gap1):
                    q = math.nan
                elif gap0 <= 0:
                    q = 0.0
                elif gap1 < gap0:
                    q = alpha * gap0 / (gap0 - gap1)
                if q < radius or math.isnan(q):
                    radius, rival = q, i
        rows.append((radius, -1 if math.isnan(radius) else rival))
    table = torch.tensor(rows, dtype=torch.float64, device=x.device).reshape(-1, 2)
    return table[:, 0].to(accumulate_dtype(x.dtype)), table[:, 1].long()


def radius_bs(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    temperature: float = 1.0,
    budget: int = 25,
    r_min: float = 1e-6,
    bounds: tuple[float, float] | None = None,
    numerics: Numerics = "stable",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RR-BS, RAT Algorithm 1, sample by sample: radius, lower, upper and rival, each [B].

    `budget` counts forwards with the clean one; the next radius is min((lower + upper) / 2, 2 *
    lower), and the search starts with lower = r_min, upper = infinity, as released (errata 5).
    """
    rows = []
    for sample in x.split(1):
        logits, prediction, sign = _direction(model, sample, temperature, numerics)
        _, margin, _, runner_up = direction_seed(logits, temperature)
        if bool(margin == 0):
            rows.append((0.0, 0.0, 0.0, int(runner_up)))  # a tie: errata 3
            continue
        lower, upper, rival = r_min, math.inf, -1
        for _ in range(budget - 1):
            radius = min((lower + upper) / 2, 2 * lower)
            with torch.no_grad():
                probe = model(_at(sample, sample.new_tensor([radius]), sign, bounds))
            if bool(probe.isnan().any()):
                lower = upper = math.nan
                rival = -1
                break
            if int(probe.argmax(dim=1)) != int(prediction):
                upper, rival = radius, int(probe.argmax(dim=1))
            else:
                lower = radius
        least = lower if lower > r_min or math.isnan(lower) else 0.0
        rows.append(((lower + upper) / 2, least, upper, rival))
    table = torch.tensor(rows, dtype=torch.float64, device=x.device).reshape(-1, 4)
    radii = table[:, :3].to(accumulate_dtype(x.dtype))
    return radii[:, 0], radii[:, 1], radii[:, 2], table[:, 3].long()
