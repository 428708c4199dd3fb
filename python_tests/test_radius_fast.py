"""The default step of `fast`: to the expected boundary, for each sample."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast import reference
from rrfast.data import digits

EPS = torch.finfo(torch.float32).eps


def bent() -> nn.Module:
    """A smooth network in float64."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5)).double()
    model[0].weight.data *= 3
    return model.requires_grad_(False)


def gradient_and_margin(model: nn.Module, x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    z = x.clone().requires_grad_(True)
    h = model(z)
    top = h.topk(2, dim=1)
    others = (h / temperature).scatter(1, top.indices[:, :1], -math.inf).logsumexp(dim=1)
    (gradient,) = torch.autograd.grad((others * temperature - top.values[:, 0]).sum(), z)
    return gradient, (top.values[:, 0] - top.values[:, 1]).detach()


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e4, math.inf])
def test_small_batches_have_the_step_of_large_ones(offset: float) -> None:
    """Their margins are looked at as numbers: below, near and above what rounding leaves."""
    x = torch.rand(300, 5, generator=torch.Generator().manual_seed(2))

    def model(z: Tensor) -> Tensor:
        return z.square() + offset

    large = rrfast.radius(model, x)
    for size in (1, 16):
        parts = [rrfast.radius(model, part) for part in x.split(size)]
        assert torch.equal(torch.cat(parts).nan_to_num(), large.nan_to_num())


@pytest.mark.parametrize("unit", [20.0, 400.0])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_step_is_the_first_order_radius(unit: float, temperature: float) -> None:
    """Nor is it less than float32 resolves, nor more than the paper's."""
    model, x = bent(), torch.rand(40, 12, dtype=torch.float64)
    gradient, margin = gradient_and_margin(model, x, temperature)
    first = margin / gradient.abs().sum(dim=1)
    step = torch.maximum(first, x.amax(dim=1) * EPS / 2e-3).clamp(max=0.01 * unit)
    assert (step < 0.01 * unit).sum() >= 20
    expected = torch.cat(
        [
            reference.radius_fast(model, row[None], temperature=temperature, alpha=alpha)[0] / unit
            for row, alpha in zip(x, step.tolist(), strict=True)
        ]
    )
    for bounds in (None, (-3.0, 4.0)):  # a box that no step leaves
        options = {"scale": unit, "bounds": bounds}
        found = rrfast.radius(model, x, temperature=[1.0, temperature], **options)
        assert torch.equal(found[1], rrfast.radius(model, x, temperature=temperature, **options))
        torch.testing.assert_close(found[1], expected, rtol=1e-9, atol=0)


def test_the_longest_step_is_that_of_the_paper_bit_for_bit() -> None:
    model, x = bent().float(), torch.rand(64, 12)
    far = rrfast.radius(model, x, method="grad") > 0.02
    assert far.sum() > 32
    own, paper = rrfast.radius(model, x), rrfast.radius(model, x, alpha=0.01)
    assert torch.equal(own[far], paper[far])
    assert not torch.equal(own, paper)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_inputs_of_16_bits_take_the_longest_step(dtype: torch.dtype) -> None:
    model, x = bent().to(dtype), torch.rand(64, 12).to(dtype)
    own, paper = rrfast.radius(model, x), rrfast.radius(model, x, alpha=0.01)
    assert (own < 0.01).any()
    assert torch.equal(own, paper)


def test_a_box_that_ends_before_the_plane_takes_the_longest_step() -> None:
    model, x = bent(), 0.5 + torch.rand(8, 12, dtype=torch.float64) / 100
    options = {"temperature": 0.0, "scale": 100.0}
    narrow = {**options, "bounds": (0.5, 0.51)}
    assert rrfast.radius(model, x, method="grad", bounds=(0.5, 0.51)).isinf().all()
    own, paper = rrfast.radius(model, x, **narrow), rrfast.radius(model, x, **narrow, alpha=0.01)
    assert torch.equal(own, paper)
    own, paper = rrfast.radius(model, x, **options), rrfast.radius(model, x, **options, alpha=0.01)
    assert (own != paper).all()


@pytest.mark.parametrize("unit", [100.0, 1000.0])
def test_a_trained_network_in_any_unit(trained: nn.Module, unit: float) -> None:
    """Where the boundary is nearer than 0.01 the unit does not matter, and the order is right."""
    x = digits().test.x[:300]

    def rank(radius: Tensor) -> Tensor:
        return radius.argsort().argsort().double()

    def spearman(radius: Tensor) -> float:
        return torch.corrcoef(torch.stack((rank(radius), searched)))[0, 1].item()

    searched = rank(rrfast.radius(trained, x, method="search", scale=unit))
    own = rrfast.radius(trained, x, scale=unit)
    assert spearman(own) > 0.95
    assert spearman(rrfast.radius(trained, x, scale=unit, alpha=0.01)) < 0.9
    torch.testing.assert_close(
        own * unit, rrfast.radius(trained, x, scale=3000.0) * 3000, rtol=1e-3, atol=0
    )


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
        (torch.float32, torch.float16),
        (torch.float32, torch.bfloat16),
    ],
)
def test_close_calls_of_coarse_logits(given: torch.dtype, inside: torch.dtype) -> None:
    """A margin of a few last digits is not divided by a change of as few: never infinite."""
    w, v = torch.randn(600, dtype=torch.float64), torch.randn(600, dtype=torch.float64) / 100
    x = (torch.rand(200, 600) * 2 - 1).to(given)
    digit = 32 * torch.finfo(inside).eps  # of logits near 40
    # Moved to where the gap is up to 4 digits.
    wanted = torch.linspace(-4, 4, 200, dtype=torch.float64) * digit
    way = (wanted - x.double() @ w) / w.abs().sum()
    x = (x.double() + way[:, None] * w.sign()).to(given)
    gap = (x.double() @ w).abs()

    def model(z: Tensor) -> Tensor:
        both, half = 40 + z.double() @ v, z.double() @ w / 2
        return torch.stack((both + half, both - half), dim=1).to(inside)

    own = rrfast.radius(model, x)
    assert own.isfinite().all()
    # Two logits are off by half a digit each, and the change, of 32 eps 40 or 40 digits, by twice
    # as much. The rounding of x takes a thousandth.
    most = digit + (gap + digit) * (2 / 40 + 2e-3)
    assert ((own * w.abs().sum() - gap).abs() <= most).all()


def test_no_gradient_and_a_tie() -> None:
    def model(z: Tensor) -> Tensor:
        return torch.stack((z[:, 0], -z[:, 0], z[:, 1] * 0 - 9), dim=1)

    x = torch.tensor([[0.0, 1.0], [0.5, 0.0], [1e-30, 0.0]])
    assert rrfast.radius(model, x).tolist() == pytest.approx([0.0, 0.5, 1e-30], rel=1e-3)
    constant = torch.tensor([[0.3, 0.1]])
    assert rrfast.radius(lambda z: constant + 0 * z, x[:1]).isinf().all()


def test_beside_its_passes_it_takes_few_ops() -> None:
    """At batch 1 each takes 10 to 50 us after a pass, whatever it does."""
    model, x = nn.Linear(16, 4).requires_grad_(False).eval(), torch.rand(1, 16)
    estimator = rrfast.RadiusEstimator(model)
    estimator(x)

    def ops_of(run: Callable[[], object]) -> Counter[str]:
        with torch.profiler.profile() as profile:
            run()
        return Counter(event.name for event in profile.events())

    def passes() -> None:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(model(leaf), leaf, torch.ones(1, 4))
        with torch.no_grad():
            model(x)

    beside = ops_of(lambda: estimator(x)) - ops_of(passes)
    fused = ("direction_seed", "probe_step", "fgsm_step", "linear_radius")
    assert {name: beside.pop(f"rrfast::{name}", 0) for name in fused} == dict.fromkeys(fused, 1)
    # A copy of x, to be restored if the model changes it, and one of the logits.
    assert beside.pop("aten::clone") == 2
    nothing = {"detach", *(f"aten::{name}" for name in ("detach", "resolve_conj", "resolve_neg"))}
    assert set(beside) - nothing <= {"aten::empty_strided", "aten::copy_"}


def test_the_graph_goes_with_the_backward() -> None:
    """Before the other forward: after that its nodes are in no cache, and take twice as long."""
    body, alive = nn.Linear(5, 3), []

    class Token:
        """Lives as long as the graph."""

    def model(x: Tensor) -> Tensor:
        h = body(x)
        alive.append([token() is not None for token in tokens])
        if h.grad_fn is not None:
            token = Token()
            h.grad_fn.metadata["token"] = token
            tokens.append(weakref.ref(token))
        return h

    tokens: list[weakref.ref[Token]] = []
    rrfast.radius(model, torch.rand(2, 5))
    assert alive == [[], [False]]
