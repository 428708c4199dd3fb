from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from op_tester import SHAPES, Case, OpTester, channels_last, with_non_finite
from steps import box_and_scale
from test_plane_distance import plane, with_nan
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import accumulate_dtype

#: Places of the arguments that it changes.
CHANGED = range(5, 12)


def ray(dtype: torch.dtype, device: torch.device, shape: tuple[int, ...]) -> Case:
    """A plane, a ray that saw it, and a nearest one: none, one that crosses at 0, or nowhere."""
    x, normal, gap = plane(dtype, device, shape)
    samples, numbers = shape[0], accumulate_dtype(dtype)
    state = torch.rand(6, samples)
    state[1, ::2] = math.inf
    nearest = torch.rand(8, samples)
    nearest[6] = torch.tensor([math.nan, math.inf, math.nan, 0.0]).repeat(samples)[:samples]
    nearest[7, 1::3] = math.inf
    aim = torch.randn(shape) * (torch.rand(shape) > 0.1)
    direction = torch.randint(-1, 2, shape, dtype=torch.int8)
    rival, flipped_to = torch.randint(0, 9, (samples,)), torch.randint(0, 9, (samples,))
    aim, direction, step = aim.to(device, numbers), direction.to(device), torch.rand(samples)
    seen = x, normal, 0.1 * gap, state.to(device, numbers), rival.to(device)
    turned = step.to(device, numbers), aim, torch.full_like(x, 7.0), direction
    found = nearest.to(device, numbers), torch.full_like(direction, 5), flipped_to.to(device)
    return *seen, *turned, *found


def changed(case: Case, **places: Tensor) -> Case:
    """The case with other arguments, by name."""
    names = [a.name for a in torch.ops.rrfast.redirect_.default._schema.arguments]
    return tuple(places.get(name, a) for name, a in zip(names, case, strict=False))


def last(case: Case) -> Case:
    """The same in channels-last layout."""
    return tuple(channels_last(a) if a.dim() >= 4 else a for a in case)


class TestRedirect(OpTester):
    op = "redirect_"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for shape in (*SHAPES, (40, 3, 6, 6), (3, 1023), (9, 1025)):
            case = ray(dtype, device, shape)
            x, normal, gap, state, _, step = case[:6]
            for place, value in (
                *(("x", with_nan(x)), ("normal", with_nan(normal)), ("gap", with_non_finite(gap))),
                ("normal", torch.zeros_like(normal)),
                ("direction", torch.full_like(case[8], -128)),
                ("step", with_non_finite(step)),
                ("state", with_non_finite(state.T.contiguous()).T.contiguous()),
                ("nearest", torch.full_like(case[9], math.nan)),
                ("gap", 100 * gap),
            ):
                yield f"{shape}, other {place}", changed(case, **{place: value})
            for name, box in box_and_scale(x):
                yield f"{shape}, {name}", (*case, *box)
                if len(shape) >= 4:
                    yield f"{shape}, {name}, channels-last", (*last(case), *box)
            if len(shape) >= 4:
                mixed = changed(case, normal=channels_last(normal))
                yield f"{shape}, channels-last normal", mixed

    def schema_arguments(self, *args: Any) -> Case:
        bounds, scale = (*args[12:], None, None)[:2]
        x = args[0]
        return *args[:12], ops.channel_bounds(bounds, x), ops.channel_scale(scale, x)

    def must_be_contiguous(self, index: int) -> bool:
        return index in CHANGED

    def results(self, output: Any, args: Case) -> tuple[Tensor, ...]:
        assert output is None
        return tuple(args[i] for i in CHANGED)

    def check(
        self, actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], args: Case, name: str
    ) -> None:
        """Both for themselves, since a crossing may be ill-conditioned."""
        self.check_stages(actual, args, name)
        self.check_stages(expected, args, f"{name}, of the reference")

    def check_stages(self, found: tuple[Tensor, ...], args: Case, name: str) -> None:
        """One stage after the other, each from what was found before: what is no sum in all bits, a
        sum with the error of its terms.

        As in TestPlaneDistance.check, so many roundings a term; a few more are what is made of it.
        """
        x, normal, gap, state, rival, step0, aim0, _, direction0, *known, bounds, scale = (
            self.schema_arguments(*args)
        )
        nearest0, nearest_direction0, flipped_to0 = known
        step, aim, z, direction, nearest, nearest_direction, flipped_to = found
        unit = torch.finfo(step.dtype).eps / 2
        error = unit * (30 + (x[:1].numel() if x.dtype == torch.float64 else 0))
        box = bounds, scale

        def same(a: Tensor, b: Tensor, what: str) -> None:
            torch.testing.assert_close(
                a, b, rtol=0, atol=0, equal_nan=True, msg=lambda m: f"{name}, {what}: {m}"
            )

        # The aim, and all of what it decides.
        size = torch.full_like(gap, x[:1].numel())
        factor = reference.plane_distance(normal, normal, size, None, scale).double()
        factor = factor.masked_fill(factor.isinf(), 0.0).reshape(-1, *[1] * (x.dim() - 1))
        turned, old = normal.double() * factor, aim0.double()
        slack = (turned.abs() + old.abs()) * error + torch.finfo(step.dtype).tiny
        close = (aim - (old + turned) / 2).abs() <= slack
        # Of an infinite aim or normal, whether it shows as such or as NaN does not matter.
        assert (close | ~slack.isfinite()).all(), f"{name}, aim"
        _, signs = reference.fgsm_step(x, aim.to(x.dtype), step, *box)
        same(direction, signs, "direction")
        same(z, reference.perturb(x, direction, step, *box), "z")

        # What is known of rays.
        flips = state[1] < nearest0[7]
        flipped = torch.where(flips, state[1], nearest0[7])
        same(nearest[7], flipped, "smallest step that flipped")
        same(flipped_to, torch.where(flips, rival, flipped_to0), "flipped_to")
        way, slack = inner(normal, reference.perturb(x, direction0, step0, *box) - x, error)
        low, high = crossings(step0, gap, way, slack, way, slack, unit)
        seen = nearest0[6].isnan()
        lost = ~(seen | (nearest0[6] > 0))  # the nearest one crosses at 0
        crossing = torch.where(seen | ~same_numbers(nearest, nearest0), nearest[6], math.inf)
        some = (low <= crossing) & (crossing <= high)
        none = (crossing == math.inf) & ~((low > 0) & (high < torch.finfo(step.dtype).max))
        assert (some | none | lost).all(), f"{name}: {crossing} is not in [{low}, {high}]"
        nearer = seen | (crossing < nearest0[6])
        probe = torch.where(crossing < math.inf, crossing, state[5])
        learnt = torch.cat((state[:5], probe[None], crossing[None]))
        same(nearest[:7], torch.where(nearer, learnt, nearest0[:7]), "nearest")
        chosen = nearer.reshape(factor.shape)
        expected_signs = torch.where(chosen, direction0, nearest_direction0)
        same(nearest_direction, expected_signs, "nearest_direction")

        # The step.
        look = reference.perturb(x, direction, probe, *box)
        low, high = crossings(probe, gap, way, slack, *inner(normal, look - x, error), unit)
        some = (low.minimum(flipped) <= step) & (step <= high.minimum(flipped)) & (high > 0)
        none = same_bits(step, probe.minimum(flipped))
        none &= ~((low > 0) & (high < torch.finfo(step.dtype).max))
        none |= flipped.isnan() & step.isnan()
        assert (some | none | lost).all(), f"{name}: {step} is not in [{low}, {high}]"

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return *ray(dtype, device, (4, 3, 8, 8)), (0.0, 1.0)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        return *(a[:0] if a.dim() != 2 else a[:, :0] for a in self.small(dtype, device)[:12]), None

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        case = ray(torch.float32, torch.device("cpu"), (2, 3))
        x = case[0]
        for place, value, error, sentence in (
            ("x", x.bool(), TypeError, "x must be a tensor of float64"),
            ("normal", x[:1], ValueError, r"normal must have the shape of x, \[2, 3\], got"),
            ("gap", case[2].half(), TypeError, "gap must be a float32 tensor, got a float16"),
            ("state", case[9], ValueError, r"state must have shape \[6, B\], \[6, 2\], got"),
            ("rival", case[2], TypeError, "rival must be an int64 tensor, got a float32"),
            ("step", case[5][:1], ValueError, r"step must have the shape of gap, \[2\], got"),
            ("aim", x.double(), TypeError, "aim must be a dense float32 tensor, got a float64"),
            ("z", x.T.contiguous().T, ValueError, "z must be contiguous, as x is, got strides"),
            ("direction", x, TypeError, "direction must be a dense int8 tensor, got a float32"),
            ("nearest", case[3], ValueError, r"nearest must have shape \[8, B\], \[8, 2\], got"),
            ("nearest_direction", case[8], ValueError, "nearest_direction must have memory of its"),
            ("flipped_to", case[4], ValueError, "flipped_to must have memory of its own, and sh"),
        ):
            yield changed(case, **{place: value}), error, sentence
        yield (*case, (1, 0)), ValueError, r"bounds must have lower <= upper, got \(1, 0\)"


def inner(a: Tensor, b: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """The inner products of the samples in float64, and their error if each term has this."""
    terms = (a.double() * b.double()).reshape(len(a), a[:1].numel())
    tiny = torch.finfo(accumulate_dtype(a.dtype)).tiny
    return terms.sum(dim=1), error * terms.abs().sum(dim=1) + tiny


def crossings(
    step: Tensor, gap: Tensor, way: Tensor, way_off: Tensor, by: Tensor, by_off: Tensor, unit: float
) -> tuple[Tensor, Tensor]:
    """The ends of step (gap + way) / by, if both inner products are off by so much.

    All numbers where `by` may be 0 or its error is not finite; NaN where it has none.
    """
    ways = [way - way_off, way + way_off]
    if way is by:
        quotients = [step.double() * (gap.double() + w) / w for w in ways]
    else:
        bys = [by - by_off, by + by_off]
        quotients = [step.double() * (gap.double() + w) / b for w in ways for b in bys]
    every = torch.stack(quotients)
    low, high = every.amin(dim=0), every.amax(dim=0)
    off = 8 * unit * torch.maximum(low.abs(), high.abs()) + torch.finfo(gap.dtype).tiny
    any_number = (by.abs() <= by_off) | (gap.isfinite() & ~high.isfinite())
    return (
        torch.where(any_number, 0.0, low - off),
        torch.where(any_number, math.inf, high + off),
    )


def test_a_round_by_hand() -> None:
    """Toward the plane 3 z_0 + z_1 = 3, from a ray along (1, -1), which closes 2 a step."""
    x, normal = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]])
    state = torch.tensor([[1.0], [math.inf], [2.0], [0.0], [-1.0], [2.0]])
    for crosses, upper, flipped, expected in (
        (math.nan, math.inf, math.inf, 0.75),  # 3 to close, 4 a step
        (1.0, math.inf, math.inf, 0.75),  # another ray is nearer
        (math.nan, 0.5, math.inf, 0.5),  # no further than what flipped
        (math.nan, math.inf, 0.25, 0.25),
    ):
        state[1] = upper
        step, aim, z = torch.ones(1), torch.tensor([[1.0, -0.25]]), torch.empty(1, 2)
        direction = torch.tensor([[1, -1]], dtype=torch.int8)
        nearest = torch.tensor([[9.0]] * 6 + [[crosses]] + [[flipped]])
        best, rival, to = torch.zeros_like(direction), torch.tensor([4]), torch.tensor([2])
        found = nearest, best, to
        ops.redirect_(x, normal, torch.ones(1), state, rival, step, aim, z, direction, *found)
        assert aim.tolist() == [[1.25, 0.125]]
        assert (step.item(), z.tolist()) == (expected, [[expected, expected]])
        assert direction.tolist() == [[1, 1]]
        kept = crosses == 1.0
        assert best.tolist() == ([[0, 0]] if kept else [[1, -1]])
        assert nearest[6].item() == (1.0 if kept else 1.5)
        assert nearest[5].item() == (9.0 if kept else 1.5)
        assert nearest[7].item() == min(upper, flipped)
        assert to.item() == (4 if upper == 0.5 else 2)


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (3, 1025)])
def test_all_bits_are_the_references_where_sums_are_exact(
    dtype: torch.dtype, device: torch.device, shape: tuple[int, ...]
) -> None:
    """Small multiples of powers of two: no order of additions rounds, nor does the old crossing."""
    case = ray(dtype, device, shape)
    x, normal = torch.randint(1, 8, shape) / 8, torch.randint(-4, 5, shape) / 4
    step = torch.randint(1, 4, shape[:1]) / 16
    x, normal = x.to(device, dtype), normal.to(device, dtype)
    step = step.to(case[5])
    way, _ = inner(normal, reference.perturb(x, case[8], step, unit_box(step)) - x, 0.0)
    gap = (way * torch.randint(-1, 4, shape[:1]).to(device)).to(step.dtype)
    case = changed(case, x=x, normal=normal, step=step, gap=gap)
    op, spec = (tuple(a.clone() for a in case) for _ in range(2))
    ops.redirect_(*op, (0.0, 1.0))
    reference.redirect_(*spec, unit_box(step))
    for i in CHANGED:
        torch.testing.assert_close(op[i], spec[i], rtol=0, atol=0, equal_nan=True)


def unit_box(like: Tensor) -> Tensor:
    return torch.tensor([[0.0], [1.0]]).to(like)


def same_bits(a: Tensor, b: Tensor) -> Tensor:
    return (a == b) | (a.isnan() & b.isnan())


def same_numbers(a: Tensor, b: Tensor) -> Tensor:
    """For each sample, whether the first seven rows are the same."""
    return same_bits(a[:7], b[:7]).all(dim=0)
