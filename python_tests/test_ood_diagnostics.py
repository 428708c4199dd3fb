"""U1, U2 and the gradient of ODIN's score, against literal formulas; Proposition 1."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

pytest.importorskip("lightning_fabric")

from rrfast.evaluate.ood.diagnostics import conditional_mean, gradient_norm, separation
from rrfast.metrics import detection_error
from rrfast.models import digits_cnn
from rrfast.scores import MSR, ODIN


def test_separation_is_two_moments() -> None:
    h = torch.randn(20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h[0, 3] = h[0].max()  # a tie
    found = separation(h)
    for row, u1, u2 in zip(h.tolist(), found.u1.tolist(), found.u2.tolist(), strict=True):
        largest = row.index(max(row))
        others = [row[largest] - f for i, f in enumerate(row) if i != largest]
        assert u1 == pytest.approx(math.fsum(others) / 6, rel=1e-14)
        assert u2 == pytest.approx(math.fsum(d * d for d in others) / 6, rel=1e-14)
        variance = math.fsum((d - u1) ** 2 for d in others) / 6
        assert u2 == pytest.approx(u1**2 + variance, rel=1e-12)


def test_they_are_the_expansion_of_the_score() -> None:
    """1/S - (K - (K-1) U1/T + (K-1) U2/(2 T^2)) falls as T^-3."""
    h = torch.randn(50, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u1, u2 = separation(h)

    def rest(t: float) -> torch.Tensor:
        score = (h / t).softmax(dim=1).amax(dim=1)
        return 1 / score - (7 - 6 * u1 / t + 6 * u2 / (2 * t * t))

    ratio = rest(100.0) / rest(200.0)
    assert float(ratio.min()) > 7.5
    assert float(ratio.max()) < 8.5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1000.0])
def test_gradient_norm_is_that_of_log_softmax(temperature: float) -> None:
    model = digits_cnn(0).double().eval()
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaf = x.clone().requires_grad_(True)
    score = (model(leaf) / temperature).log_softmax(dim=1).amax(dim=1)
    [grad] = torch.autograd.grad(score.sum(), leaf)
    expected = grad.flatten(1).abs().sum(dim=1)
    torch.testing.assert_close(gradient_norm(model, x, temperature), expected, rtol=1e-9, atol=0)
    # In float32 too, to what a forward and a backward of it lose.
    single = gradient_norm(digits_cnn(0).eval(), x.float(), temperature)
    torch.testing.assert_close(single, expected, rtol=1e-3, atol=0)


def test_gradient_norm_where_softmax_saturates() -> None:
    """At a margin of 600 the gradient is 1e-261, and not 0; what is NaN stays so."""
    model = nn.Identity()
    x = torch.tensor([[600.0, 0.0], [math.nan, 0.0]], dtype=torch.float64)
    found = gradient_norm(model, x, 1.0)
    assert float(found[0]) == pytest.approx(2 * math.exp(-600), rel=1e-9)
    assert found[1].isnan()
    assert gradient_norm(model, x[:0]).shape == (0,)


def test_conditional_mean_bins() -> None:
    generator = torch.Generator().manual_seed(3)
    given, of = torch.rand(2, 500, generator=generator, dtype=torch.float64)
    found = conditional_mean(of, given, bins=7)
    low, high = float(given.min()), float(given.max())
    for i in range(7):
        left, right = found.edges[i], found.edges[i + 1]
        inside = (given >= left) & ((given < right) if i < 6 else (given <= right))
        assert int(found.samples[i]) == int(inside.sum())
        torch.testing.assert_close(found.mean[i], of[inside].mean())
    assert (float(found.edges[0]), float(found.edges[-1])) == (low, high)
    alone = conditional_mean(torch.tensor([2.0]), torch.tensor([5.0]), bins=2)
    assert int(alone.samples.sum()) == 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"logits must have shape \[B, K\]"):
        separation(torch.rand(3))
    with pytest.raises(ValueError, match="temperature must be"):
        gradient_norm(nn.Identity(), torch.rand(1, 2), 0.0)
    with pytest.raises(ValueError, match=r"of and given must be \[n >= 1\], got \[2\] and \[3\]"):
        conditional_mean(torch.rand(2), torch.rand(3))
    with pytest.raises(ValueError, match="given must be finite"):
        conditional_mean(torch.rand(1), torch.tensor([math.inf]))
    with pytest.raises(ValueError, match="bins must be an integer of at least 1"):
        conditional_mean(torch.rand(1), torch.rand(1), bins=0)


def test_proposition_1_the_detection_error_has_a_limit_in_t() -> None:
    """ODIN App. C: without a step P_e(T) goes to c, which U1 alone decides (errata 34).

    On a finite set it does not come near it but is it, from the T on at which no two images whose
    order matters are still ordered by U2.
    """
    generator = torch.Generator().manual_seed(4)
    # Outside one class stands out from seven equal ones; inside a second is near, as cat is to dog.
    h = torch.randn(2, 400, 8, generator=generator, dtype=torch.float64)
    h[0] *= 3
    h[0, :, 0] += 8
    h[1, :, 0] += 6
    inside, both = torch.arange(800) < 400, h.flatten(0, 1)
    u1 = separation(both).u1

    def error(score: torch.Tensor) -> float:
        return detection_error(score, inside, convention="odin")

    temperatures = [10.0**i for i in range(8)]
    found = [error(MSR(t).of_logits(both)) for t in temperatures]
    c = error(u1)
    assert found[0] - c > 0.02
    assert found[-4:] == [c] * 4
    # Its alpha* accepts 95 % of what is inside: the first threshold that does.
    alpha = u1[:400].sort(descending=True).values[379]
    assert c == 0.05 / 2 + (u1[400:] >= alpha).double().mean().item() / 2
    # T (N - 1/S) -> (N - 1) U1, with what is left falling as 1/T.
    rest = [
        (t * (8 - 1 / (both / t).softmax(dim=1).amax(dim=1)) - 7 * u1).abs().max().item()
        for t in temperatures[2:5]
    ]
    assert rest[0] / rest[1] == pytest.approx(10, rel=0.1)
    assert rest[1] / rest[2] == pytest.approx(10, rel=0.01)


def test_proposition_1_says_nothing_where_a_step_is_taken() -> None:
    """The limit is that of eps = 0: with a step, it is that of U1 where the step ends."""
    model = digits_cnn(0).double().eval()
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    score = ODIN(temperature=1e6, eps=0.01)(model, x)
    leaf = x.clone().requires_grad_(True)
    [grad] = torch.autograd.grad(separation_of(model, leaf).sum(), leaf)
    with torch.no_grad():
        moved = separation(model(x + 0.01 * grad.sign())).u1
        assert torch.equal(score.argsort(), moved.argsort())
        assert not torch.equal(score.argsort(), separation(model(x)).u1.argsort())


def separation_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """U1 with a gradient."""
    h: torch.Tensor = model(x)
    return h.amax(dim=1) - h.mean(dim=1)
