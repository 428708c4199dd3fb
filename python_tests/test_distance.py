"""MMD and energy distance against literal double loops."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

pytest.importorskip("lightning_fabric")

from rrfast.evaluate.ood.distance import energy_distance, mmd


def literal(a: Tensor, b: Tensor) -> tuple[float, float]:
    """MMD^2 and D^2, a pair at a time in Python's floats."""
    a_rows, b_rows = a.double().flatten(1).tolist(), b.double().flatten(1).tolist()

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    pairs = [math.dist(x, y) for x, y in itertools.combinations(a_rows + b_rows, 2)]
    width = statistics.median_low(pairs)
    within = [
        [math.dist(x, y) for x, y in itertools.combinations(rows, 2)] for rows in (a_rows, b_rows)
    ]
    between = [math.dist(x, y) for x, y in itertools.product(a_rows, b_rows)]

    def kernel(values: list[float]) -> float:
        return mean([math.exp(-(d**2) / width) for d in values])

    squared_mmd = kernel(within[0]) + kernel(within[1]) - 2 * kernel(between)
    return squared_mmd, 2 * mean(between) - mean(within[0]) - mean(within[1])


@pytest.mark.parametrize(("m", "n"), [(2, 2), (9, 14), (20, 5)])
def test_against_loops(m: int, n: int) -> None:
    generator = torch.Generator().manual_seed(m)
    a = torch.rand(m, 2, 3, generator=generator)
    b = torch.rand(n, 2, 3, generator=generator) * 1.5
    b[0] = a[0]  # a distance of 0 between the sets
    expected_mmd, expected_energy = literal(a, b)
    assert mmd(a, b) == pytest.approx(expected_mmd, abs=1e-7)
    assert energy_distance(a, b) == pytest.approx(expected_energy, abs=1e-7)


def test_ties_at_the_median() -> None:
    """Bits: all distances are 0, 1 or the square root of 2 and 3, and the median one of them."""
    a = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1]]).double()
    b = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 1]]).double()
    assert mmd(a, b) == pytest.approx(literal(a, b)[0], abs=1e-12)


def test_two_draws_of_one_distribution_are_near_and_others_far() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator)
    same = [mmd(x[:200], x[200:]), energy_distance(x[:200], x[200:])]
    far = [mmd(x[:200], x[200:] + 1), energy_distance(x[:200], x[200:] + 1)]
    assert all(abs(s) < f / 10 for s, f in zip(same, far, strict=True))
    permuted = x[torch.randperm(400, generator=generator)]
    assert mmd(permuted, x) == pytest.approx(mmd(x, permuted))


def test_bad_input() -> None:
    x = torch.rand(3, 4)
    for function in (mmd, energy_distance):
        with pytest.raises(TypeError, match="a must be a floating-point tensor"):
            function(x.int(), x)
        with pytest.raises(ValueError, match=r"b must be \[n >= 2, ...\]"):
            function(x, x[:1])
        with pytest.raises(ValueError, match="b must be finite"):
            function(x, x / 0)
        with pytest.raises(ValueError, match="a and b must be of one shape"):
            function(x, x[:, :2])
    with pytest.raises(ValueError, match="all is the same"):
        mmd(torch.ones(3, 2), torch.ones(4, 2))
    assert energy_distance(torch.ones(3, 2), torch.ones(4, 2)) == 0
