from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from op_tester import SHAPES, Case, OpTester, channels_last, inputs, with_non_finite
from steps import box_and_scale
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import accumulate_dtype


def plane(dtype: torch.dtype, device: torch.device, shape: tuple[int, ...]) -> Case:
    """Points in [0, 1], planes on both sides, from very near to beyond any box."""
    x, normal, _ = inputs(dtype, device, shape)
    size = normal.double().reshape(shape[0], x[:1].numel()).abs().sum(dim=1)
    share = torch.logspace(-4, 0.5, shape[0], dtype=torch.float64, device=device)
    gap = size * share * torch.randn(shape[0], device=device).sign()
    return x, normal, gap.to(accumulate_dtype(dtype))


class TestPlaneDistance(OpTester):
    op = "plane_distance"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for shape in (*SHAPES, (40, 3, 6, 6), (3, 1023), (3, 1024), (3, 1025), (2, 3, 30, 40)):
            x, normal, gap = plane(dtype, device, shape)
            yield f"{shape}", (x, normal, gap)
            yield f"{shape}, non-finite gap", (x, normal, with_non_finite(gap), (0, 1))
            yield f"{shape}, NaN in x", (with_nan(x), normal, gap, (0, 1))
            yield f"{shape}, NaN in normal", (x, with_nan(normal), gap)
            yield f"{shape}, NaN in normal, box", (x, with_nan(normal), gap, (0, 1))
            yield f"{shape}, zero normal", (x, torch.zeros_like(normal), gap, (0, 1))
            yield f"{shape}, zero gap", (x, normal, torch.zeros_like(gap), (0, 1))
            yield f"{shape}, on the faces", (x.round(), normal, gap, (0, 1))
            yield f"{shape}, outside", (4 * x - 2, normal, gap, (0, 1))
            yield f"{shape}, one-sided", (x, normal, gap, (0, math.inf))
            wide = normal * torch.logspace(-3, 3, normal.numel()).to(normal).reshape(shape)
            yield f"{shape}, wide range", (x, wide.to(dtype), gap, (0, 1))
            for name, box in box_and_scale(x):
                yield f"{shape}, {name}", (x, normal, gap, *box)
                if len(shape) >= 4:
                    last = channels_last(x)
                    yield f"{shape}, {name}, channels-last x", (last, normal, gap, *box)
            if len(shape) >= 4:
                yield f"{shape}, channels-last normal", (x, channels_last(normal), gap, (0, 1))

    def schema_arguments(self, x, normal, gap, bounds=None, scale=None) -> Case:
        return x, normal, gap, ops.channel_bounds(bounds, x), ops.channel_scale(scale, x)

    def check(
        self, actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], args: Case, name: str
    ) -> None:
        """The answer is the exact one for a plane whose gap is off by `error`, and then rounded.

        That is what a sum in which every term is off by so much amounts to, however ill-conditioned
        the distance: a weight, a way and their product are rounded once each, and a chunk's terms
        are added in a chain of 8 (16) and a tree of 5 (4), or a vector of at most 8. In float64 the
        chunks are added one after the other, as are all the terms in the reference.
        """
        (distance,) = actual
        assert distance.shape == expected[0].shape
        assert distance.dtype == expected[0].dtype
        x, normal, gap, *box = args
        terms = 24 + (x[:1].numel() if x.dtype == torch.float64 else 0)
        error = terms * torch.finfo(distance.dtype).eps / 2
        box = [None if part is None else part.double() for part in self.schema_arguments(*args)[3:]]
        low, high = (
            reference.plane_distance(x.double(), normal.double(), gap.double() * f, *box) * f
            for f in (1 - error, 1 + error)
        )
        # Below the smallest normal number there are no units in the last place.
        tiny = torch.finfo(distance.dtype).tiny
        within = (low - tiny <= distance) & (distance <= high + tiny)
        assert (within | (low.isnan() & distance.isnan())).all(), (
            f"{name}: {distance} is not in [{low}, {high}]"
        )

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return *plane(dtype, device, (4, 3, 8, 8)), (0.0, 1.0)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        x = torch.empty(0, 3, 8, 8, dtype=dtype, device=device)
        return x, x, torch.empty(0, dtype=accumulate_dtype(dtype), device=device), (0, 1)

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        x, g = torch.zeros(2, 3), torch.zeros(2)
        yield (x.to(torch.complex64), x, g), TypeError, "x must be a tensor of float64"
        yield (x, x[:1], g), ValueError, r"normal must have the shape of x, \[2, 3\], got"
        yield (x, x.half(), g), TypeError, "normal must have the dtype of x, float32, got a float16"
        yield (x, x, g.half()), TypeError, "gap must be a float32 tensor, got a float16"
        yield (
            (x, x, g[:1]),
            ValueError,
            r"gap must have one value per sample, shape \[2\], got",
        )
        yield (x, x, g, (1, 0)), ValueError, r"bounds must have lower <= upper, got \(1, 0\)"
        yield (x, x, g, None, 0.0), ValueError, "scale must be finite and greater than 0, got 0.0"


def with_nan(values: Tensor) -> Tensor:
    """A copy with NaN at both ends."""
    values = values.clone()
    values.view(-1)[0] = values.view(-1)[-1] = math.nan
    return values


def distance(x: list[float], normal: list[float], gap: float, *box: object) -> float:
    point, slope = torch.tensor([x], dtype=torch.float64), torch.tensor([normal]).double()
    return ops.plane_distance(point, slope, torch.tensor([gap]).double(), *box).item()


def test_without_a_box_it_is_the_dual_norm() -> None:
    assert distance([9.0, 9.0], [1.0, -3.0], 2.0) == 0.5
    assert distance([9.0, 9.0], [1.0, -3.0], -2.0) == 0.5
    assert distance([9.0, 9.0], [1.0, -3.0], 2.0, None, 0.25) == 2.0


def test_what_has_met_its_face_moves_no_further() -> None:
    x, normal = [0.5, 0.75, 0.0], [1.0, 2.0, -5.0]  # the third is at its face already
    assert distance(x, normal, 0.75, (0, 1)) == 0.25  # both move, and the second arrives
    assert distance(x, normal, 1.0, (0, 1)) == 0.5  # the first goes on alone, and arrives
    assert distance(x, normal, 1.0001, (0, 1)) == math.inf  # that was the corner of the box
    assert distance(x, normal, -0.75, (0, 1)) == 0.75 / 8  # downwards the third moves, and the most


def test_the_degenerate_cases() -> None:
    assert distance([0.5], [0.0], 1.0) == distance([0.5], [0.0], 1.0, (0, 1)) == math.inf
    assert distance([0.5], [0.0], 0.0) == distance([0.5], [0.0], 0.0, (0, 1)) == 0.0
    assert distance([1.0], [1.0], 0.5, (0, 1)) == math.inf
    assert distance([1.0], [1.0], math.inf) == math.inf
    for broken in ([math.nan, 1.0, 1.0], [0.5, math.nan, 1.0], [0.5, 1.0, math.nan]):
        assert math.isnan(distance(broken[:1], broken[1:2], broken[2], (0, 1)))
    assert math.isnan(distance([0.5, 0.5], [1.0, math.nan], 0.0))
    assert math.isnan(distance([0.5, 1.0], [1.0, math.nan], 0.1, (0, 1)))  # NaN at its face


def test_x_is_not_read_without_a_box() -> None:
    assert distance([math.nan], [2.0], 1.0) == 0.5


@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
@pytest.mark.parametrize("scale", [None, torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)])
def test_a_step_of_that_length_ends_on_the_plane(
    device: torch.device, box: tuple[float, float] | None, scale: Tensor | None
) -> None:
    x, normal, gap = plane(torch.float64, device, (64, 3, 8, 8))
    t = ops.plane_distance(x, normal, gap, box, scale)
    z, _ = ops.fgsm_step(x, normal, gap.sign() * t.clamp(max=1e6), box, scale)
    closed = (normal * (z - x)).flatten(1).sum(dim=1)
    reachable = t.isfinite()
    assert reachable.all() if box is None else (reachable.any() and not reachable.all())
    torch.testing.assert_close(closed[reachable], gap[reachable], rtol=1e-12, atol=0)
    assert (closed.abs() < gap.abs())[~reachable].all()


def test_long_rows_keep_their_accuracy(device: torch.device) -> None:
    """Ten million equal terms: added one by one in float32 they would stop at 2^24."""
    x = torch.zeros(1, 40_000_000, dtype=torch.bfloat16, device=device)
    gap = torch.tensor([1.0], device=device)
    t = ops.plane_distance(x, torch.ones_like(x), gap)
    assert t.item() == pytest.approx(1 / 40e6, rel=1e-6)


def test_many_faces_met_one_after_the_other(device: torch.device) -> None:
    """Rooms and weights over many orders of magnitude, so that Newton's method takes many steps."""
    count = 60
    rooms = torch.logspace(-9, 0, count, base=10, dtype=torch.float64, device=device)
    weights = torch.logspace(9, 0, count, base=10, dtype=torch.float64, device=device)
    for share in (1e-6, 0.01, 0.5, 0.9, 0.999, 1 - 1e-9):
        gap = (share * (weights * rooms).sum()).reshape(1)
        args = (1 - rooms)[None], weights[None], gap
        box = torch.tensor([[0.0], [1.0]], dtype=torch.float64, device=device)
        torch.testing.assert_close(
            ops.plane_distance(*args, box), reference.plane_distance(*args, box), rtol=1e-9, atol=0
        )


def test_a_box_without_effect_changes_no_bit(dtype: torch.dtype, device: torch.device) -> None:
    """Of an image that a GPU divides among the blocks of a cluster too."""
    generator = torch.Generator().manual_seed(3)
    x, normal = torch.randn(2, 1, 3, 96, 96, generator=generator).to(device, dtype)
    gap = torch.full((1,), 9.0, dtype=accumulate_dtype(dtype), device=device)
    free = ops.plane_distance(x, normal, gap)
    assert torch.equal(ops.plane_distance(x, normal, gap, (-math.inf, math.inf)), free)


@pytest.mark.parametrize("bounds", [None, (-1.0, 1.0)])
def test_a_normal_that_overflows_has_no_distance(bounds: tuple[float, float] | None) -> None:
    normal = torch.tensor([[math.inf, 1.0], [-math.inf, 1.0], [3e38, 3e38], [1e38, 1e38]])
    found = ops.plane_distance(torch.zeros(4, 2), normal, torch.full((4,), 1e38), bounds)
    torch.testing.assert_close(
        found, torch.tensor([math.nan, math.nan, math.nan, 0.5]), equal_nan=True
    )


@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_an_infinite_normal_at_the_face_ahead_has_no_distance(
    gap: float, dtype: torch.dtype, device: torch.device
) -> None:
    """The pixel has no way to go, and a product of none and infinity is no number."""
    x = torch.tensor([[1.0, 0.5]], dtype=dtype, device=device)
    normal = torch.tensor([[math.inf, 1.0]], dtype=dtype, device=device)
    gaps = torch.full((1,), gap, dtype=accumulate_dtype(dtype), device=device)
    assert ops.plane_distance(x, normal, gaps, (0.0, 1.0)).isnan().all()
    box = ops.channel_bounds((0.0, 1.0), x)
    assert reference.plane_distance(x, normal, gaps, box).isnan().all()
