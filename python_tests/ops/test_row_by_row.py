"""A row's result does not depend on the other rows of a tile or a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from op_tester import logits, non_finite_logits
from test_redirect import ray
from torch import Tensor

from rrfast import ops
from rrfast.ops import accumulate_dtype

#: Full tiles of the CPU's lanes in every type, and part of another.
SAMPLES = 70


def of(op: str, h: Tensor, y: Tensor, state: Tensor) -> tuple[Tensor, ...]:
    """All results of an op on rows h with classes y and numbers `state` [6, B]."""
    calls: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "direction_seed": lambda: ops.direction_seed(h, temperature=2.0),
        "linear_radius": lambda: ops.linear_radius(h, h.flip(1), y, 0.1),
        "loss_seed": lambda: ops.loss_seed(h, y, "ce"),
        "plane_seed": lambda: ops.plane_seed(h, y, (y + 1) % h.shape[1]),
        "probability_margin": lambda: ops.probability_margin(h, y),
    }
    if op in calls:
        return calls[op]()
    if op == "bisection_step_":
        bracket, rival = state[:3].clone().unbind(), torch.zeros_like(y)
        ops.bisection_step_(h, y, *bracket, rival)
        return *bracket, rival
    if op == "search_step_":
        state, rival = state.clone(), torch.zeros_like(y)
        ops.search_step_(h, y, state, 0.01, rival)
        return *state.unbind(), rival
    x = state[0].to(h.dtype)[:, None].contiguous()
    return ops.rat_perturb(x, x, h, y, 0.1)


ROW_OPS = (
    "direction_seed",
    "linear_radius",
    "loss_seed",
    "plane_seed",
    "probability_margin",
    "bisection_step_",
    "search_step_",
    "rat_perturb",
)


@pytest.mark.parametrize("op", ROW_OPS)
@pytest.mark.parametrize("classes", [2, 10, 63, 64, 100, 127, 128, 129])
def test_a_row_does_not_see_the_others(
    op: str, classes: int, dtype: torch.dtype, device: torch.device
) -> None:
    h = logits(dtype, device, SAMPLES, classes)
    h[11:23] = non_finite_logits(dtype, device, classes)
    y = torch.randint(-1, classes + 1, (SAMPLES,)).to(device)
    # Many as predicted, or all rows have flipped and are alike.
    y = torch.where(torch.rand(SAMPLES).to(device) < 0.6, h.argmax(dim=1), y)
    state = torch.rand(6, SAMPLES).to(device, accumulate_dtype(dtype))
    together = of(op, h, y, state)
    rows = [slice(i, i + 1) for i in range(SAMPLES)]
    alone = [of(op, h[row], y[row], state[:, row].clone()) for row in rows]
    for a, b in zip(map(torch.cat, zip(*alone, strict=True)), together, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_an_image_does_not_see_the_others(dtype: torch.dtype, device: torch.device) -> None:
    """Large enough for a GPU to divide it among blocks: by its size, not by their number."""
    x = torch.rand(3, 3, 64, 64, dtype=dtype, device=device)
    normal = torch.randn(x.shape, device=device).to(dtype)
    gap = torch.full((3,), 100.0, dtype=accumulate_dtype(dtype), device=device)
    together = ops.plane_distance(x, normal, gap, (0.0, 1.0))
    rows = [slice(i, i + 1) for i in range(3)]
    alone = [ops.plane_distance(x[row], normal[row], gap[row], (0.0, 1.0)) for row in rows]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=0)


def test_a_ray_does_not_see_the_others(dtype: torch.dtype, device: torch.device) -> None:
    case = ray(dtype, device, (3, 3, 64, 64))
    rows = [slice(i, i + 1) for i in range(3)]
    alone = [[(a[:, row] if len(a) > 3 else a[row]).clone() for a in case] for row in rows]
    ops.redirect_(*case, (0.0, 1.0))
    for args in alone:
        ops.redirect_(*args, (0.0, 1.0))
    for i, together in enumerate(case):
        parts = torch.cat([args[i] for args in alone], dim=1 if len(together) > 3 else 0)
        torch.testing.assert_close(parts, together, rtol=0, atol=0, equal_nan=True)
