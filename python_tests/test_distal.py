"""Distal examples: smoothing and attack by literal loops, and noise that only gets more certain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor, nn
from waiting import Calls

from rrfast.attacks import (
    DISTAL,
    LOSSES,
    STARTS,
    Ball,
    Distal,
    Square,
    distal_examples,
    distal_noise,
)
from rrfast.attacks.smoothing import DEVIATIONS, SLOPES, smoothed
from rrfast.engine import Engine
from rrfast.scores import MSR

SHAPE = (2, 5, 6)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 16), nn.Tanh(), nn.Linear(16, 4))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)
    return net


def literal_smoothing(v: Tensor, sigma: float, gamma: float) -> Tensor:
    """One image, pixel by pixel."""
    channels, height, width = v.shape
    out = torch.empty_like(v)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                total = weights = 0.0
                for a in range(height):
                    for b in range(width):
                        w = math.exp(-((i - a) ** 2 + (j - b) ** 2) / (2 * sigma**2))
                        total += w * float(v[c, a, b])
                        weights += w
                out[c, i, j] = 1 / (1 + math.exp(-gamma * (total / weights - 0.5)))
    return out


def test_smoothing_is_the_literal_loop() -> None:
    v = torch.rand(3, *SHAPE, dtype=torch.float64)
    sigma, gamma = torch.tensor([1.0, 1.3, 2.0]).double(), torch.tensor([5.0, 30.0, 11.0]).double()
    found = smoothed(v, deviation=sigma, slope=gamma)
    for image, s, g, expected in zip(v, sigma, gamma, found, strict=True):
        torch.testing.assert_close(literal_smoothing(image, float(s), float(g)), expected)


@pytest.mark.parametrize("sigma", [1.0, 1.01, 1.37, 2.0])
def test_the_article_s_layer(sigma: float) -> None:
    """An impulse of 2 ceil(sigma) + 1 pixels under scipy's filter, on images that are mirrored."""
    reach = math.ceil(sigma)
    impulse = np.zeros((2 * reach + 1, 2 * reach + 1))
    impulse[reach, reach] = 1
    kernel = torch.from_numpy(scipy.ndimage.gaussian_filter(impulse, sigma))
    v = torch.rand(2, *SHAPE, dtype=torch.float64)
    padded = nn.functional.pad(v, [reach] * 4, mode="reflect")
    expected = nn.functional.conv2d(padded, kernel.expand(2, 1, -1, -1), groups=2)
    one = torch.ones(2, dtype=torch.float64)
    found = smoothed(v, deviation=sigma * one, slope=one, border="article")
    torch.testing.assert_close(found, torch.sigmoid(expected - 0.5))


def test_the_article_s_layer_smooths_less() -> None:
    """Of uniform noise, whose standard deviation is 1 / sqrt(12), at sigma = 2, of 32 x 32."""
    v = torch.rand(40, 1, 32, 32, dtype=torch.float64)
    one = torch.ones(40, dtype=torch.float64)
    for border, std in (("article", 0.062), ("shared", 0.044)):
        found = torch.logit(smoothed(v, deviation=2 * one, slope=one, border=border))  # type: ignore[arg-type]
        assert float(found.std()) == pytest.approx(std, abs=2e-3)
    with pytest.raises(ValueError, match="noise must have lines of at least 3 pixels, got 2"):
        smoothed(v[..., :2], border="article")
    with pytest.raises(ValueError, match="border must be one of shared, article, got 'zero'"):
        distal_noise(2, SHAPE, border="zero")  # type: ignore[arg-type]


def test_the_article_s_attack_is_the_literal_loop(model: nn.Module) -> None:
    """Ten steps of 0.005 at eps 0.03, momentum 0.9, no backtracking, the best of the iterates."""
    model, attack = model.double(), DISTAL["article"]()
    assert (attack.eps, attack.steps, attack.momentum) == (0.03, 10, 0.9)
    assert (attack.backtracking, attack.origin, attack.start) == (None, False, "article")
    x = distal_noise(6, SHAPE, seed=1, smooth=True, border="article").double()
    starts = STARTS["article"](Ball(x, 0.03, (0, 1)), torch.Generator().manual_seed(5))
    found = attack(model, x, generator=torch.Generator().manual_seed(5))
    for image, start, end in zip(x, starts, found.x, strict=True):
        z, velocity, best, at = start.clone(), torch.zeros_like(image), None, -math.inf
        for step in range(11):
            probe = z.clone().requires_grad_()
            top = model(probe[None]).softmax(1).amax()
            if top.item() > at:
                best, at = z, top.item()
            if step < 10:
                (g,) = torch.autograd.grad(top, probe)
                velocity = 0.9 * velocity + 0.1 * g.sign()
                z = z + 0.005 * velocity
                z = torch.minimum(torch.maximum(z, image - 0.03), image + 0.03).clamp(0, 1)
        assert best is not None
        torch.testing.assert_close(end, best, rtol=0, atol=1e-12)


def test_every_sample_has_a_sigma_and_a_gamma_of_its_own() -> None:
    """Of one image, repeated: two that came out alike would have the same draws."""
    same = distal_noise(1, SHAPE).expand(20, *SHAPE)
    assert len(smoothed(same, torch.Generator().manual_seed(1)).flatten(1).unique(dim=0)) == 20
    # An edge of contrast gamma, far from the border and under no Gaussian: the slope is seen.
    flat = torch.full((4000, 1), 0.6, dtype=torch.float64)
    gamma = 10 * torch.logit(smoothed(flat, torch.Generator().manual_seed(1)))
    low, high = SLOPES
    assert low <= float(gamma.min()) < low + 0.1 < high - 0.1 < float(gamma.max()) <= high
    # Two pixels: the share of the other one is 1 / (1 + exp(1 / (2 sigma^2))).
    pair = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(4000, 2)
    one = torch.ones(4000, dtype=torch.float64)
    share = torch.logit(smoothed(pair, torch.Generator().manual_seed(1), slope=one)[:, 0]) + 0.5
    sigma = (2 * torch.logit(1 - share)).rsqrt()
    low, high = DEVIATIONS
    slack = 1e-9  # of a logarithm of float64, and its inverse
    assert low - slack <= float(sigma.min()) < low + 0.01 < high - 0.01 < float(sigma.max())
    assert float(sigma.max()) <= high + slack


def test_autocast_leaves_the_smoothing_as_it_is() -> None:
    noise = distal_noise(2, SHAPE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = smoothed(noise, torch.Generator().manual_seed(1))
    assert torch.equal(found, smoothed(noise, torch.Generator().manual_seed(1)))


def test_the_noise_is_float32_whatever_the_default(defaults_of_another_kind: None) -> None:
    assert distal_noise(2, SHAPE, smooth=True).dtype == torch.float32
    assert distal_noise(2, SHAPE).device.type == "cpu"


def test_noise() -> None:
    plain, smooth = distal_noise(50, SHAPE, seed=4), distal_noise(50, SHAPE, seed=4, smooth=True)
    for x in (plain, smooth):
        assert x.shape == (50, *SHAPE)
        assert x.dtype == torch.float32
        assert bool(((x >= 0) & (x <= 1)).all())
    assert torch.equal(plain, distal_noise(50, SHAPE, seed=4))
    assert torch.equal(smooth, distal_noise(50, SHAPE, seed=4, smooth=True))
    assert not torch.equal(plain, distal_noise(50, SHAPE, seed=5))
    # Neighbours of smooth noise are nearer than those of noise, in units of its own spread.
    ratio = [(x[..., 1:] - x[..., :-1]).square().mean() / x.var() for x in (plain, smooth)]
    assert ratio[1] < ratio[0] / 2
    before = torch.get_rng_state()
    distal_noise(3, SHAPE, smooth=True)
    assert torch.equal(before, torch.get_rng_state())


def test_what_the_listing_makes_of_a_perturbation_is_nearly_constant() -> None:
    """And what the start makes of it is not."""
    eps, x = 0.03, torch.full((50, *SHAPE), 0.5, dtype=torch.float64)
    delta = eps * (2 * torch.rand(50, *SHAPE, dtype=torch.float64) - 1)
    listing = smoothed(delta).flatten(1)
    # |G * delta| <= eps moves the sigmoid by eps gamma / 4 <= 0.225 at most, relatively below e^.9.
    assert bool((listing.amax(1) / listing.amin(1) <= math.exp(2 * eps * SLOPES[1])).all())
    ours = (STARTS["smoothed"](Ball(x, eps), torch.Generator().manual_seed(1)) - x).flatten(1)
    assert bool((ours.abs() <= eps * (1 + 1e-12)).all())
    assert float((ours > 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(ours.std(dim=1).mean()) > 10 * float(listing.clamp(max=eps).std(dim=1).mean())


@pytest.mark.parametrize("start", ["uniform_norm", "smoothed"])
@pytest.mark.parametrize("eps", [0.03, 0.3])
@pytest.mark.parametrize("smooth", [False, True])
def test_never_leaves_ball_or_box_and_never_gets_worse(
    model: nn.Module, start: str, eps: float, smooth: bool
) -> None:
    attack = Distal(eps=eps, steps=8, start=start, restarts=2)
    found = distal_examples(model, 30, SHAPE, attack=attack, smooth=smooth, seed=2, batch=20)
    assert torch.equal(found.noise, distal_noise(30, SHAPE, smooth=smooth, seed=2))
    away = (found.x.double() - found.noise.double()).abs()
    assert bool((away <= eps).all())
    assert bool(((found.x >= 0) & (found.x <= 1)).all())
    for x, odds in ((found.x, found.confidence), (found.noise, found.before)):
        torch.testing.assert_close(odds, MSR()(model, x), rtol=0, atol=1e-5)  # float32 logits
    assert bool((found.confidence > found.before).any())
    # The attack compares float32 odds below 16, of which some logits' roundings differ.
    assert bool((found.confidence >= found.before - 16 * 2**-23).all())


def test_the_attack_is_the_literal_loop(model: nn.Module) -> None:
    """Momentum, backtracking and the best iterate, image by image, from the image itself."""
    model = model.double()
    x = distal_noise(12, SHAPE, seed=1).double()
    found = Distal(eps=0.2, steps=7, start="input")(model, x)
    for image, end, loss in zip(x, found.x, found.loss, strict=True):
        z, length, velocity = image.clone(), 0.2 / 6, torch.zeros_like(image)
        at = float(MSR()(model, z[None]))
        for _ in range(7):
            probe = z.clone().requires_grad_()
            (g,) = torch.autograd.grad(model(probe[None]).log_softmax(1).amax(), probe)
            velocity = 0.9 * velocity + 0.1 * g.sign()
            trial = torch.minimum(torch.maximum(z + length * velocity, image - 0.2), image + 0.2)
            trial = trial.clamp(0, 1)
            there = float(MSR()(model, trial[None]))
            if there > at:
                z, at = trial, there
            else:
                length /= 1.5
        torch.testing.assert_close(end, z, rtol=0, atol=1e-12)
        assert float(loss) == pytest.approx(at, rel=1e-12)


def test_more_attack_is_more_confident(model: nn.Module) -> None:
    means = [
        float(distal_examples(model, 30, SHAPE, attack=attack).confidence.mean())
        for attack in (Distal(eps=0.0), Distal(steps=2), Distal(), Distal(eps=0.3))
    ]
    assert means == sorted(means)
    assert len(set(means)) == 4


def test_nothing_waits_for_the_device(model: nn.Module) -> None:
    x = distal_noise(4, SHAPE)
    with Engine(model) as engine, Calls() as calls:
        Distal(steps=3, start="smoothed", restarts=2).run(engine, x)
    assert "addmm" in calls.names  # it sees what runs
    assert calls.waiting == set()


@pytest.mark.parametrize("start", ["uniform_norm", "smoothed"])
def test_passes_and_ordinary_inputs(model: nn.Module, start: str) -> None:
    x = distal_noise(4, SHAPE)
    with Engine(model) as engine:
        Distal(steps=5, restarts=2, start=start).run(engine, x)
        assert (engine.forwards, engine.backwards) == (1 + 2 * 6, 2 * 5)
    assert Distal(steps=2, start=start)(model, x[:0]).x.shape == (0, *SHAPE)
    found = distal_examples(model, 1, SHAPE, attack=Distal(steps=2, start=start))
    assert found.confidence.shape == (1,)
    saturated = nn.Sequential(model, _Scale(1e4))
    far = distal_examples(saturated, 5, SHAPE, attack=Distal(steps=3, start=start))
    assert bool(far.confidence.isfinite().all())
    assert bool((far.confidence > 100).all())


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, h: Tensor) -> Tensor:
        return h * self.factor


def test_nan_stays_nan(model: nn.Module) -> None:
    broken = nn.Sequential(model, _Scale(math.nan))
    found = distal_examples(broken, 3, SHAPE, attack=Distal(steps=2))
    assert bool(found.confidence.isnan().all())
    assert bool(found.x.isfinite().all())


def test_seeds_repeat(model: nn.Module) -> None:
    attack = Distal(steps=1)
    first, again = (distal_examples(model, 6, SHAPE, attack=attack, seed=1) for _ in range(2))
    assert torch.equal(first.x, again.x)
    other = distal_examples(model, 6, SHAPE, attack=attack, seed=2)
    assert not torch.equal(first.x, other.x)
    # The starts are no function of the pixels.
    still = distal_examples(model, 60, SHAPE, attack=Distal(steps=1, origin=False, step_size=1e-9))
    start = (still.x - still.noise).flatten()
    inside = (still.noise.flatten() - 0.5).abs() < 0.4
    both = torch.stack([still.noise.flatten()[inside], start[inside]])
    assert abs(float(both.corrcoef()[0, 1])) < 4 / math.sqrt(int(inside.sum()))  # 4 sigma


def test_errors_say_what_is_expected(model: nn.Module) -> None:
    for arguments, words in (
        ((0, SHAPE), "n must be an integer of at least 1, got 0"),
        ((3, ()), "shape must have a length at least"),
        ((3, (1, 0)), "every length in shape must be an integer of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            distal_noise(*arguments)
    with pytest.raises(TypeError, match=r"seed must be an integer, got 1\.5"):
        distal_noise(3, SHAPE, seed=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"attack must be on the confidence.*loss='ce'"):
        distal_examples(model, 3, SHAPE, attack=Distal(loss="ce"))
    with pytest.raises(ValueError, match=r"attack must be on the confidence.*got Square\("):
        distal_examples(model, 3, SHAPE, attack=Square())
    with pytest.raises(TypeError, match=r"attack must be an attack, .* got str 'pgd'"):
        distal_examples(model, 3, SHAPE, attack="pgd")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"shape must be lengths.*, got int 5"):
        distal_noise(3, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch must be an integer of at least 1"):
        distal_examples(model, 3, SHAPE, batch=0)
    for bounds in ((0.0, 0.5), (torch.tensor([0.2]), 1.0)):
        with pytest.raises(ValueError, match=r"noise must lie within bounds=.*, got values from 0"):
            distal_examples(model, 3, SHAPE, attack=Distal(bounds=bounds))
    with pytest.raises(ValueError, match="bounds must have lower <= upper"):
        distal_examples(model, 3, SHAPE, attack=Distal(bounds=torch.tensor([[1.0], [0.0]])))
    assert Distal().loss in LOSSES
