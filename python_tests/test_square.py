"""Square: where its squares are, that it never gets worse, and what it costs."""

from __future__ import annotations

import itertools
import math

import networks
import pytest
import torch
from torch import Tensor, nn
from waiting import Calls

from rrfast.attacks import LOSSES, Ball, Square
from rrfast.attacks.square import HALVINGS, _within
from rrfast.engine import Engine

B, C, H, W, K = 8, 3, 6, 5, 4
EPS = 0.1


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), *networks.steep(C * H * W, K, factor=2))


@pytest.fixture
def batch(model: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(B, C, H, W, dtype=torch.float64, generator=seeded())
    return x, model(x).argmax(1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


class Watched(nn.Module):
    """The model, and every point at which it is called."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.points: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        self.points.append(z.clone())
        return self.model(z)


def queries_of(attack: Square, model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Every point at which the model is called, and the result."""
    watched = Watched(model)
    found = attack(watched, x, y, generator=seeded())
    assert len(watched.points) == attack.queries
    return [*watched.points, found.x]


def test_starts_at_stripes(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    stripes, ball = queries_of(Square(EPS, 1), model, x, y)[0], Ball(x, EPS, (0, 1))
    low, high = (stripes == ball.least).all(2), (stripes == ball.most).all(2)
    assert bool((low ^ high).all())
    for axis in range(3):  # samples, channels and columns have signs of their own
        assert bool((low != low.narrow(axis, 0, 1)).any())


def test_every_query_is_the_literal_one(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """A square for each sample, at a corner of the ball in each channel, from the best so far."""
    x, y = batch
    attack, ball = Square(EPS, queries=60), Ball(x, EPS, (0, 1))
    points = queries_of(attack, model, x, y)
    best, losses = points[0].clone(), LOSSES["cw"](model(points[0]), y).tolist()
    changed, apart, mixed = 0, 0, 0
    for query in range(1, 60):
        z, side, places = points[query], attack.side(query, H, W), set()
        for b in range(B):
            moved = z[b] != best[b]
            rows, columns = moved.any(0).any(1).nonzero(), moved.any(0).any(0).nonzero()
            for positions in (rows, columns):
                assert len(positions) == 0 or int(positions.max() - positions.min()) < side
            places.add((tuple(rows.flatten().tolist()), tuple(columns.flatten().tolist())))
            low, high = (
                ((z[b] == end[b]) | ~moved).flatten(1).all(1) for end in (ball.least, ball.most)
            )
            assert bool((low | high).all())
            mixed += bool((low & ~high).any() and (high & ~low).any())
            loss = float(LOSSES["cw"](model(z[b : b + 1]), y[b : b + 1]).detach())
            if loss > losses[b]:
                best[b], losses[b], changed = z[b], loss, changed + 1
        apart += side == 1 and len(places - {((), ())}) > 1
    assert changed > B
    assert apart > 0  # samples have places of their own
    assert mixed > 0  # and channels signs
    assert torch.equal(points[-1], best)


def test_squares_are_everywhere_and_whole() -> None:
    """Of the places along an axis each is drawn as often: 4 standard deviations of 40 000 draws."""
    place = torch.rand(40_000, 1, generator=seeded())
    for n, side in ((6, 1), (6, 4), (6, 6), (1, 1)):
        inside = _within(place, side, torch.arange(n))
        assert bool((inside.sum(1) == side).all())
        first = inside.int().argmax(1)
        assert bool((inside.int().cumsum(1).amax(1) == side).all())
        share = torch.bincount(first, minlength=n)[: n - side + 1] / len(place)
        p = 1 / (n - side + 1)
        assert bool(((share - p).abs() <= 4 * math.sqrt(p * (1 - p) / len(place))).all())
    assert not _within(torch.tensor([[1 - 2**-24]]), 2, torch.arange(6))[0, :4].any()


@pytest.mark.parametrize("queries", [100, 5000, 10_000])
def test_sides_follow_the_schedule(queries: int) -> None:
    attack = Square(queries=queries)
    for query in range(1, queries, 7):
        share = 0.8
        for after in HALVINGS:
            if query > after * queries / 10_000:
                share /= 2
        assert attack.side(query, 32, 32) == max(round(math.sqrt(share * 32 * 32)), 1)
    assert attack.side(1, 4, 100) == 4  # no further than the image


def test_more_queries_are_never_worse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """With sides of one pixel, whatever their number, the first of more are those of fewer."""
    found = [
        Square(EPS, queries, share=1e-3)(model, *batch, generator=seeded()).loss
        for queries in (1, 10, 100, 400)
    ]
    for fewer, more in itertools.pairwise(found):
        assert bool((fewer <= more).all())
    assert bool((found[0] < found[-1]).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [None, torch.tensor([0.1, 1.0, 3.0])])
def test_stays_in_ball_and_box(
    model: nn.Module, batch: tuple[Tensor, Tensor], dtype: torch.dtype, scale: Tensor | None
) -> None:
    x, y = batch[0].to(dtype), batch[1]
    found = Square(EPS, 50, scale=scale)(model.to(dtype), x, y)
    # Of float64 numbers below 1, x + eps is itself rounded, by 2^-53 at most.
    slack = 2**-53 if dtype == torch.float64 else 0.0
    unit = 1.0 if scale is None else scale.to(found.loss.dtype).double().view(1, C, 1, 1)
    assert bool(((found.x.double() - x.double()).abs() <= EPS * unit + slack).all())
    assert bool(((found.x >= 0) & (found.x <= 1)).all())
    assert found.x.dtype == dtype
    assert torch.equal(found.wrong, model(found.x).argmax(1) != y)


def test_passes(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    with Engine(model) as engine:
        Square(EPS, 30).run(engine, *batch)
        assert (engine.forwards, engine.backwards) == (30, 0)


def test_nothing_waits_for_the_device(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    with Engine(model) as engine, Calls() as calls:
        Square(EPS, 30).run(engine, *batch)
    assert "addmm" in calls.names  # it sees what runs
    assert calls.waiting == set()


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_empty_and_single(classes: int, batch: tuple[Tensor, Tensor]) -> None:
    x = batch[0]
    model = nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, classes).double())
    y = model(x).argmax(1)
    attack = Square(0.5, 100)
    assert bool(attack(model, x, y).wrong.any())
    empty = attack(model, x[:0], y[:0])
    assert (empty.x.shape, empty.loss.shape, empty.wrong.dtype) == ((0, C, H, W), (0,), torch.bool)
    assert attack(model, x[:1], y[:1]).x.shape == (1, C, H, W)


def test_nan_is_not_kept(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Where one pixel is above its own the logits are; a sample leaves NaN, and never for it."""
    x, y = batch

    def broken(z: Tensor) -> Tensor:
        h = nn.functional.one_hot(y, K) + 0.1 * model(z).tanh()
        up = (z[:, 0, 3, 2] > x[:, 0, 3, 2])[:, None]
        return torch.where(up, h.where(h < 0.5, math.nan), h)

    start = Square(EPS, 1)(broken, x, y, generator=seeded())
    found = Square(EPS, 60)(broken, x, y, generator=seeded())
    assert bool((found.loss.isfinite() | start.loss.isnan()).all())
    assert int(found.loss.isnan().sum()) < int(start.loss.isnan().sum())


def test_errors_say_what_is_expected(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    with pytest.raises(ValueError, match=r"x must be images \[B, C, H, W\], which Square moves"):
        Square()(lambda z: model(z.unflatten(1, (C, H, W))), x.flatten(1), y)
    with pytest.raises(ValueError, match="labels must be given"):
        Square()(model, x)
    for options, words in (
        ({"eps": -1}, "eps must be finite and at least 0"),
        ({"queries": 0}, "queries must be an integer of at least 1"),
        ({"share": 1.5}, "share must be greater than 0 and at most 1"),
    ):
        with pytest.raises(ValueError, match=words):
            Square(**options)  # type: ignore[arg-type]
