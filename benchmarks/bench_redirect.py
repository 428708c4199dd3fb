from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from contest import FEWER_IMAGES, Images
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import accumulate_dtype, per_channel

Args = tuple[Tensor | None, ...]


def eager(*args: Tensor | None) -> None:
    """Without care for what is not finite."""
    x, normal, gap, state, rival, step, aim, z, direction, nearest, best, to, bounds, scale = args
    rows = (-1, 1, 1, 1)

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a.float() * b.float()).sum(dim=(1, 2, 3))

    def point(length: Tensor, sign: Tensor) -> Tensor:
        way = length.reshape(rows) * sign
        moved = x + (way if scale is None else way * per_channel(scale, x))
        if bounds is not None:
            moved = moved.clamp(per_channel(bounds[0], x), per_channel(bounds[1], x))
        return moved.to(x.dtype)

    way = inner(normal, point(step, direction) - x)
    crossing = step * (gap + way) / way
    crossing = torch.where(crossing > 0, crossing, math.inf)
    probe = torch.where(crossing < math.inf, crossing, state[5])
    nearer, flips = ~(crossing >= nearest[6]), state[1] < nearest[7]
    ray = torch.cat((state[:5], probe[None], crossing[None]))
    nearest[:7] = torch.where(nearer, ray, nearest[:7])
    nearest[7] = torch.where(flips, state[1], nearest[7])
    to.copy_(torch.where(flips, rival, to))
    best.copy_(torch.where(nearer.reshape(rows), direction, best))
    weight = normal.float().abs()
    weight = weight if scale is None else weight * per_channel(scale, x)
    aim.lerp_(normal / weight.mean(dim=(1, 2, 3), keepdim=True), 0.5)
    sign = aim.sign()
    reach = probe * (gap + way) / inner(normal, point(probe, sign) - x)
    reach = torch.where((reach > 0) & (reach < math.inf), reach, probe)
    step.copy_(reach.minimum(nearest[7]))
    direction.copy_(sign)
    z.copy_(point(step, sign))


@pytest.mark.parametrize("case", FEWER_IMAGES, ids=str)
def bench_redirect(case: Images, device: torch.device, op_contest: Callable[..., None]) -> None:
    bounds, scale = case.box(device)
    x, normal = case.random(device), case.random(device)

    def start() -> Args:
        """A point on its plane: every call leaves it there."""
        aim = torch.empty_like(x, dtype=accumulate_dtype(case.dtype)).copy_(normal)
        step = torch.full((len(x),), 0.05, device=device)
        state = torch.full((6, len(x)), 0.1, device=device)
        rival = torch.zeros(len(x), dtype=torch.int64, device=device)
        nearest = torch.full((8, len(x)), math.inf, device=device)
        direction = normal.sign().to(torch.int8)
        ray = step, aim, torch.empty_like(x), direction
        found = nearest, direction.clone(), rival.clone()
        return x, normal, torch.zeros_like(step), state, rival, *ray, *found, bounds, scale

    def turning(turn: Callable[..., None]) -> Callable[[], Tensor]:
        args = start()

        def run() -> Tensor:
            turn(*args)
            return args[5]

        return run

    def specification(*args: Tensor | None) -> Tensor | None:
        reference.redirect_(*args)
        return args[5]

    own = start()
    op_contest(
        "redirect_",
        case,
        fused=turning(ops.redirect_),
        eager=turning(eager),
        reference=(specification, own),
        reads=(*own[:7], *own[8:10], *own[11:]),  # not z, and of few samples nearest_direction
        writes=(*own[6:10], own[11]),  # and the step, which is returned
    )
