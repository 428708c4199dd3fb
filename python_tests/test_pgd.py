"""RR-BS around PGD: RR-BS itself in one step, honest about what it saw, and beside a peer.

What holds for every method, ties, NaN and zero gradients among it, is in test_radius.py.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from peers import distance_of, peer
from test_boundary import Seen
from torch import Tensor, nn

import rrfast


def test_one_whole_step_is_rr_bs(trained: nn.Module, images: Tensor) -> None:
    trained, x = trained.double(), images.double()
    for options in ({}, {"bounds": (0, 1)}, {"scale": 0.5, "temperature": 3.0}):
        bs = rrfast.radius(trained, x, method="bs", full_output=True, **options)
        pgd = rrfast.radius(
            trained, x, method="pgd", steps=1, step_size=1.0, full_output=True, **options
        )
        torch.testing.assert_close(pgd.upper, bs.upper, rtol=1e-9, atol=0)
        torch.testing.assert_close(pgd.lower, bs.lower, rtol=1e-9, atol=0)
        assert (pgd.forwards, pgd.backwards) == (25, 1)


def test_the_radius_is_that_of_the_nearest_iterate_seen_beyond(
    trained: nn.Module, images: Tensor
) -> None:
    for x in images[:10].split(1):
        model = Seen(trained)
        result = rrfast.radius(
            model, x, method="pgd", bounds=(0, 1), scale=0.5, steps=4, full_output=True
        )
        points = torch.cat([point for point, _ in model.seen])
        logits = torch.cat([logits for _, logits in model.seen])
        assert points.min() >= 0
        assert points.max() <= 1
        beyond = logits.argmax(dim=1) != result.prediction
        distance = (points[beyond] - x).abs().flatten(1).amax(dim=1) / 0.5
        assert result.upper.item() == result.radius.item() == distance.min().item()
        assert 0 < result.lower < result.upper


class Stubborn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.sum(dim=1).sigmoid()
        return torch.stack((2 + h, h.detach()), dim=1)


def test_no_iterate_leaves_its_ball() -> None:
    model, x = Seen(Stubborn()), torch.zeros(2, 4, dtype=torch.float64)
    result = rrfast.radius(
        model, x, method="pgd", steps=8, step_size=0.25, radii=5, r_min=0.01, full_output=True
    )
    assert result.radius.isinf().all()
    assert result.upper.isinf().all()
    assert not result.found.any()
    farthest = [point.abs().max().item() for point, _ in model.seen[1:]]
    expected = [
        2 * 0.01 * 2**doublings * min(1.0, 0.25 * step)
        for doublings in range(5)
        for step in range(1, 9)
    ]
    assert farthest == pytest.approx(expected, rel=1e-12)
    assert result.lower.tolist() == pytest.approx([0.32, 0.32])


def test_the_walk_goes_on_away_from_the_prediction() -> None:
    """Beyond the boundary too: with y fixed no iterate reaches back within a ball."""
    model, x = Seen(nn.Linear(8, 3).double()), torch.randn(1, 8, dtype=torch.float64)
    result = rrfast.radius(model, x, method="pgd", radii=20, steps=8, full_output=True)
    beyond = [int(h.argmax()) != result.prediction.item() for _, h in model.seen[1:]]
    for ball in range(20):
        iterates = beyond[8 * ball : 8 * ball + 8]
        assert iterates == sorted(iterates)
    assert any(beyond)
    assert not all(beyond)


def test_the_temperature_is_that_of_every_step() -> None:
    """At T = 0 only the runner-up counts, which changes on the way; at a large T both do."""
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.1], [-0.5, 1.5]], dtype=torch.float64)

    def seeds(temperature: float) -> set[tuple[float, ...]]:
        gradients: set[tuple[float, ...]] = set()

        class Watched(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, h: Tensor) -> Tensor:
                return h.view_as(h)

            @staticmethod
            def backward(context: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
                gradients.update(tuple(row.tolist()) for row in grad.round(decimals=6))
                return grad

        x = torch.zeros(1, 2, dtype=torch.float64)
        bias = torch.tensor([1.0, 0.2, 0.0], dtype=torch.float64)
        rrfast.radius(
            lambda z: Watched.apply(z @ weight.T + bias),
            x,
            method="pgd",
            temperature=temperature,
            radii=4,
            r_min=0.1,
        )
        return gradients

    assert all(set(seed) == {-1.0, 0.0, 1.0} for seed in seeds(0.0))
    assert all(seed[0] == -1.0 and max(seed) < 0.51 for seed in seeds(1e6))


def test_a_failure_beyond_the_nearest_flip_is_no_lower() -> None:
    """An island around 0.15 that the balls of 0.4 and 0.8 step over, and that of 0.6 does not."""

    def model(x: Tensor) -> Tensor:
        h = x.squeeze(1)
        ahead = ((h > 0.14) & (h < 0.16)) | (h > 0.78)
        return torch.stack((torch.ones_like(h), 0.1 * h + 2.0 * ahead), dim=1)

    x = torch.zeros(1, 1, dtype=torch.float64)
    tried = rrfast.radius(model, x, method="pgd", r_min=0.2, radii=2, full_output=True)
    assert (tried.lower.item(), tried.upper.item()) == pytest.approx((0.4, 0.8))
    result = rrfast.radius(model, x, method="pgd", r_min=0.2, radii=3, full_output=True)
    assert result.radius.item() == pytest.approx(0.15)
    assert result.lower.item() == 0


def test_what_radius_and_upper_hold_is_not_shared(trained: nn.Module, images: Tensor) -> None:
    result = rrfast.radius(trained, images[:2], method="pgd", full_output=True)
    upper = result.upper.clone()
    result.radius.mul_(255)
    assert torch.equal(result.upper, upper)


def test_more_steps_find_nearer_points(trained: nn.Module, images: Tensor) -> None:
    one, few, ten = (
        rrfast.radius(trained, images, method="pgd", bounds=(0, 1), steps=steps, step_size=size)
        for steps, size in ((1, 1.0), (3, 0.5), (10, 0.25))
    )
    assert ten.median() < few.median() < one.median()
    assert (ten <= one * 1.001).double().mean() > 0.95


def test_beside_torchattacks(trained: nn.Module, images: Tensor) -> None:
    """Theirs, one radius per call, fails at lower and succeeds a little beyond upper.

    Not always: its steps are those of the cross-entropy in float32, and more room may lead them
    elsewhere. It returns the last iterate, ours looks at all.
    """
    torchattacks = peer("torchattacks")
    ours = rrfast.radius(trained, images, method="pgd", bounds=(0, 1), full_output=True)
    fooled = {"lower": 0, "upper": 0}
    for x, lower, upper in zip(
        images.split(1), ours.lower.tolist(), ours.upper.tolist(), strict=True
    ):
        for where, eps in (("lower", lower), ("upper", 1.05 * upper)):
            attack = torchattacks.PGD(trained, eps=eps, alpha=eps / 4, steps=10, random_start=False)
            points = attack(x, trained(x).argmax(dim=1))
            fooled[where] += bool(distance_of(trained, x, points).isfinite())
    assert fooled["lower"] <= 3
    assert fooled["upper"] >= 95


def test_passes(trained: nn.Module, images: Tensor) -> None:
    for options, passes in (
        ({"radii": 3, "steps": 2, "step_size": 0.5}, (7, 4)),
        ({"radii": 1, "steps": 1, "step_size": 1}, (2, 1)),
    ):
        result = rrfast.radius(trained, images[:3], method="pgd", full_output=True, **options)
        assert (result.forwards, result.backwards) == passes


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"steps": 0}, ValueError, "steps must be an integer of at least 1"),
        ({"steps": 3}, ValueError, "step_size must be at least 1 / steps, .* got 0.25 with 3"),
        ({"radii": 0}, ValueError, "radii must be an integer of at least 1"),
        ({"step_size": 0}, ValueError, "step_size must be finite and greater than 0"),
        ({"step_size": math.nan}, ValueError, "step_size must be finite"),
        ({"r_min": 1e-40}, ValueError, "r_min must be finite and at least 1e-30"),
        ({"r_min": "small"}, TypeError, "r_min must be a number"),
        ({"temperature": -1}, ValueError, "temperature must be finite and at least 0"),
    ],
)
def test_mistakes_get_a_sentence(
    options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        rrfast.radius(nn.Linear(4, 3), torch.rand(2, 4), method="pgd", **options)
