from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal, localcontext
from types import ModuleType

import pytest
import torch
from op_tester import CLASSES, Case, OpTester, logits, non_finite_logits
from torch import Tensor

from rrfast import ops, reference

#: Relative error of one rounding, in the dtype of the results.
UNIT = {torch.float64: 2**-53, torch.float32: 2**-24}

Results = tuple[Tensor, Tensor, Tensor, Tensor]


def labels_of(h: Tensor) -> Tensor:
    """The best class, the last, the first, and others."""
    y = torch.randint(h.shape[1], h.shape[:1], device=h.device)
    y[::4], y[1::4], y[2::4] = h[::4].argmax(dim=1), h.shape[1] - 1, 0
    return y


class TestProbabilityMargin(OpTester):
    op = "probability_margin"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for classes in CLASSES:
            h = logits(dtype, device, 8, classes)
            yield f"K={classes}", (h, labels_of(h))
            yield f"K={classes}, saturated", (8 * h, labels_of(h))
            yield f"K={classes}, one sample", (h[7:], labels_of(h[7:]))
            ascending = torch.arange(classes, device=device).div(classes / 8)[None]
            yield f"K={classes}, ever larger", (ascending.to(dtype), labels_of(ascending))
            for _ in range(2):
                broken = non_finite_logits(dtype, device, classes)
                yield f"K={classes}, non-finite", (broken, labels_of(broken))
        h = logits(dtype, device, 5, 10)
        yield "no such class", (h, torch.tensor([-1, 10, 1 << 40, -100, 3], device=device))
        h = logits(dtype, device, 10_000, 10)
        yield "many rows", (h, labels_of(h))

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return logits(dtype, device, 5, 10), torch.arange(5, device=device)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        h = torch.empty(0, 10, dtype=dtype, device=device)
        return h, torch.empty(0, dtype=torch.int64, device=device)

    def tolerance(self, args: Case) -> tuple[float, ...]:
        # In roundings u. A class passes through n merges of partial sums: K in a chain, as the CPU
        # has them below 128, else at most 64 and a 512th of K in every order used here (lanes,
        # parts, trees). A merge costs a sum S or Q at most 6 u, relatively: its exponential 2.1
        # (twice that in Q, whose root is taken), a product, two additions. Differences h_k - h_2
        # are rounded: |a| e^a u for a term, together log K u at most. Ratios of the sums, their
        # expm1 or root and |d| e^-|d| add less than 20 u. In W the other sums' errors come on top
        # of its own, 14 u, and a^2 e^a u for a term, together log^2 K u; the entropy has W / S <=
        # log K and the logarithm of S. Both sides err.
        dtype, classes = args[0].dtype, args[0].shape[1]
        unit = UNIT[ops.accumulate_dtype(dtype)]
        merges = classes if classes < 128 else 64 + classes // 512
        log = math.log(classes)
        ratio = 2 * (6 * merges + 20 + log) * unit
        return ratio, ratio, ratio, (1 + log) * 2 * (14 * merges + 20 + log) * unit

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        h, y = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
        yield (h.long(), y), TypeError, "logits must be a tensor of float64"
        yield (h[0], y), ValueError, r"logits must have shape \[B, K\], got .*\[3\]"
        yield (h[:, :1], y), ValueError, "logits must have at least two classes"
        yield (h, y.int()), TypeError, "labels must be an int64 tensor, got an int32"
        yield (
            (h, y[:1]),
            ValueError,
            r"labels must have one value per sample, shape \[2\], got",
        )
        yield (h, y.to("meta")), ValueError, "labels must be on the device of logits, cpu, got meta"


# ---------------------------------------------------------------------------- what the paper prints


def as_printed(row: list[float], y: int) -> tuple[float, ...]:
    """IRAT Eq. 4, 7, 11 and the entropy, in so many digits that 1 - p_y keeps some."""
    with localcontext() as context:
        context.prec = 120
        e = [Decimal(value).exp() for value in row]
        p = [value / sum(e) for value in e]
        masked = [Decimal(0) if k == y else value for k, value in enumerate(p)]
        p_2 = max(value for k, value in enumerate(p) if k != y)
        inner = sum(a * b for a, b in zip(p, masked, strict=True))
        norms = [sum(value * value for value in q).sqrt() for q in (p, masked)]
        entropy = -sum(value * value.ln() for value in p if value)
        results = (p_2 - p[y], p_2 / (1 - p[y]), inner / (norms[0] * norms[1]), entropy)
        return tuple(float(value) for value in results)


#: d = h_y - max_{k != y} h_k, as far as float32 has e^-|d| and so 1 - p_y at all.
LEADS = (-80.0, -40.0, -17.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 17.0, 40.0, 80.0)


def rows_by_lead(dtype: torch.dtype) -> Iterator[tuple[Tensor, int]]:
    """Rows of ten classes whose label leads by each of `LEADS`: random, flat, and one rival."""
    rivals = (torch.randn(9) * 3, torch.zeros(9), torch.tensor([0.0] + 8 * [-60.0]))
    for lead in LEADS:
        for index, others in enumerate(rivals):
            y = index * 4
            row = torch.cat((others[:y], others.amax()[None] + lead, others[y:]))
            yield row.to(dtype), y


@pytest.mark.parametrize("of", [ops, reference], ids=["op", "reference"])
def test_is_what_is_printed_to_small_relative_error(
    of: ModuleType, dtype: torch.dtype, device: torch.device
) -> None:
    for row, y in rows_by_lead(dtype):
        h, label = row[None].to(device), torch.tensor([y], device=device)
        actual = of.probability_margin(h, label)
        # The bound of `TestProbabilityMargin.tolerance`, relatively: every exponent that counts,
        # d or a, has one rounding, and no other step loses more than it does there.
        span = float(row.max() - row.min())
        rtol = (14 * 10 + 20 + 2 * span) * UNIT[actual[0].dtype]
        for value, literal in zip(actual, as_printed(row.tolist(), y), strict=True):
            assert value.item() == pytest.approx(literal, rel=rtol, abs=0), (row, y)


def test_the_naive_forms_fail_where_these_do_not() -> None:
    h, y = torch.tensor([[30.0, 0.0, -1.0]]), torch.tensor([0])
    p = torch.softmax(h, dim=1)
    assert (p[:, 1] / (1 - p[:, 0])).isinf()
    _, ratio, similarity, entropy = ops.probability_margin(h, y)
    assert ratio.item() == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-6)
    assert 0 < similarity.item() < 1e-12
    assert 0 < entropy.item() < 1e-11


def test_an_example_by_hand() -> None:
    # exp(h) = 3, 4, 1: (4 - 3) / 8, 4 / 5, sqrt(17 / 26).
    h = torch.tensor([[3.0, 4.0, 1.0]], dtype=torch.float64).log()
    margin, ratio, similarity, entropy = ops.probability_margin(h, torch.tensor([0]))
    assert margin.item() == pytest.approx(0.125, rel=1e-14)
    assert ratio.item() == pytest.approx(0.8, rel=1e-14)
    assert similarity.item() == pytest.approx(math.sqrt(17 / 26), rel=1e-14)
    bits = 3 / 8 * math.log2(8 / 3) + 4 / 8 + 3 / 8
    assert entropy.item() == pytest.approx(bits * math.log(2), rel=1e-14)


# ------------------------------------------------------------------------------ what the paper says


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_bounds(classes: int, dtype: torch.dtype, device: torch.device) -> None:
    """IRAT Eq. 8, of which both ends are met, and the ranges of the others: without tolerance."""
    h = torch.cat((logits(dtype, device, 64, classes), 30 * logits(dtype, device, 64, classes)))
    margin, ratio, similarity, entropy = ops.probability_margin(h, labels_of(h))
    least = torch.tensor(1 / (classes - 1), dtype=ratio.dtype)
    assert ((ratio >= least) & (ratio <= 1)).all()
    assert (margin.abs() <= 1).all()
    assert ((similarity >= 0) & (similarity <= 1)).all()
    assert (entropy >= 0).all()
    assert ratio[0] == least  # all logits equal
    single = torch.zeros(1, classes, device=device).to(dtype)
    single[0, 1] = 500
    assert ops.probability_margin(single, torch.tensor([0], device=device))[1].item() == 1.0


def margin_and_ratio(*p: float) -> tuple[float, float]:
    """Of these probabilities, the label's first."""
    h = torch.tensor([p], dtype=torch.float64).log()
    margin, ratio, _, _ = ops.probability_margin(h, torch.tensor([0]))
    return margin.item(), ratio.item()


@pytest.mark.parametrize(
    ("sure", "unsure"),
    [
        ((0.5, 0.25, 0.125, 0.125), (0.4375, 0.1875, 0.1875, 0.1875)),  # right, both above 1 / K
        ((0.375, 0.5, 0.0625, 0.0625), (0.3125, 0.4375, 0.125, 0.125)),  # wrong, both above 1 / K
        ((0.1875, 0.4375, 0.1875, 0.1875), (0.125, 0.375, 0.25, 0.25)),  # neither
    ],
)
def test_equal_margins_do_not_mean_equal_ratios(
    sure: tuple[float, ...], unsure: tuple[float, ...]
) -> None:
    """IRAT Lemma 1 and Proposition 1.

    The proposition asks for p_y > 1 / K of the less sure one, and does not need it: equal margins
    and a larger p_y make p_2 larger by as much, and 1 - p_y smaller.
    """
    (margin, ratio), (other_margin, other_ratio) = (
        margin_and_ratio(*sure),
        margin_and_ratio(*unsure),
    )
    assert margin == pytest.approx(other_margin, abs=1e-15)
    assert ratio > other_ratio + 0.05


# ---------------------------------------------------------------------- rows that are not ordinary


def test_a_masked_class_is_no_class(dtype: torch.dtype, device: torch.device) -> None:
    h = logits(dtype, device, 32, 40)
    y = torch.randint(20, (32,), device=device)
    masked = h.index_fill(1, torch.arange(20, 40, device=device), -math.inf)
    rtol = 2 * (14 * 20 + 40) * UNIT[ops.accumulate_dtype(dtype)]
    for a, b in zip(
        ops.probability_margin(masked, y), ops.probability_margin(h[:, :20], y), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=rtol, atol=0)


@pytest.mark.parametrize("of", [ops, reference], ids=["op", "reference"])
def test_what_is_left_when_classes_are_masked(of: ModuleType, device: torch.device) -> None:
    def row(*h: float) -> list[float]:
        y = torch.tensor([0], device=device)
        return [v.item() for v in of.probability_margin(torch.tensor([h], device=device), y)]

    inf = math.inf
    assert row(2.0, -inf, -inf) == [-1.0, 1.0, 0.0, 0.0]  # the label alone
    assert row(-inf, 2.0, -inf) == [1.0, 1.0, 1.0, 0.0]  # one rival alone
    assert row(-inf, 2.0, 2.0) == pytest.approx([0.5, 0.5, 1.0, math.log(2)], rel=1e-6)
    for broken in ((-inf, -inf, -inf), (inf, 0.0, 0.0), (0.0, inf, 0.0), (0.0, inf, inf)):
        assert all(map(math.isnan, row(*broken))), broken
    for broken in ((math.nan, 0.0, 0.0), (0.0, math.nan, 0.0), (0.0, math.nan, math.nan)):
        assert all(map(math.isnan, row(*broken))), broken
    biggest = torch.finfo(torch.float32).max
    assert row(biggest, -biggest, -inf) == [-1.0, 1.0, 0.0, 0.0]  # the difference overflows
    assert row(-biggest, biggest, -biggest) == [1.0, 1.0, 1.0, 0.0]


def test_nan_anywhere_is_seen(dtype: torch.dtype, device: torch.device) -> None:
    for place in range(70):
        h = torch.zeros(1, 70, device=device).to(dtype)
        h[0, place] = math.nan
        assert all(v.isnan().all() for v in ops.probability_margin(h, labels_of(h)))


# ------------------------------------------------------------------------ the reference's gradient


def naive(h: Tensor, y: Tensor) -> Results:
    p = torch.softmax(h, dim=1)
    label = y[:, None]
    p_y, others = p.gather(1, label).squeeze(1), p.scatter(1, label, 0.0)
    p_2 = others.amax(dim=1)
    similarity = (others.square().sum(dim=1) / p.square().sum(dim=1)).sqrt()
    return p_2 - p_y, p_2 / (1 - p_y), similarity, -(p * p.log()).sum(dim=1)


def test_the_reference_has_the_gradient_of_what_is_printed() -> None:
    h = torch.randn(32, 7, dtype=torch.float64)
    y = labels_of(h)
    # A label exactly as likely as its best rival, where one branch meets the other.
    h[0, y[0]] = h[0].scatter(0, y[0], -math.inf).amax()
    h.requires_grad_()
    for stable, printed in zip(reference.probability_margin(h, y), naive(h, y), strict=True):
        actual, expected = (
            torch.autograd.grad(value.sum(), h, retain_graph=True)[0] for value in (stable, printed)
        )
        # Some tens of operations on numbers near 1; 1 - p_y as printed loses the digits of p_y.
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-13)


def test_the_gradient_stays_finite(dtype: torch.dtype) -> None:
    rows = [row for row, _ in rows_by_lead(dtype)]
    h = torch.stack([*rows, torch.full_like(rows[0], -math.inf)])
    h[-1, 3] = 1.0  # alone
    for label in range(10):
        leaf = h.clone().requires_grad_()
        results = reference.probability_margin(leaf, torch.full((len(h),), label))
        torch.stack(results).sum().backward()
        assert leaf.grad.isfinite().all()
