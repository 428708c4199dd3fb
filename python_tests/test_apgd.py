"""APGD: the paper's algorithm sample by sample, its checkpoints, its losses and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import networks
import pytest
import torch
from torch import Tensor, nn
from waiting import Calls

from rrfast.attacks import APGD, ATTACKS, LOSSES
from rrfast.attacks.apgd import checkpoints
from rrfast.attacks.ascent import ascent
from rrfast.attacks.loss import TARGETED, dlr, dlr_targeted
from rrfast.engine import Engine

B, N, K = 10, 8, 5
EPS = 0.2


network = partial(networks.steep, N)


@pytest.fixture
def model() -> nn.Module:
    return network(K)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return networks.batch((B, N), 3)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


# ------------------------------------------------------------------------------------- the losses


def literal_targeted(h: list[float], y: int, t: int) -> float:
    ordered = sorted(h, reverse=True)
    return -(h[y] - h[t]) / (ordered[0] - (ordered[2] + ordered[3]) / 2)


def test_targeted_dlr_is_the_literal_one() -> None:
    h = torch.randn(50, K, dtype=torch.float64, generator=seeded())
    y, t = torch.arange(50) % K, (torch.arange(50) + 2) % K
    expected = [
        literal_targeted(r.tolist(), int(a), int(b)) for r, a, b in zip(h, y, t, strict=True)
    ]
    torch.testing.assert_close(dlr_targeted(h, y, t), torch.tensor(expected, dtype=torch.float64))


def test_dlr_does_not_see_shift_and_scale() -> None:
    """By powers of two, which round nothing."""
    h = torch.randn(50, K, dtype=torch.float64, generator=seeded())
    y, t = torch.arange(50) % K, (torch.arange(50) + 2) % K
    assert torch.equal(dlr(h, y), dlr(1024 * h, y))
    assert torch.equal(dlr_targeted(h, y, t), dlr_targeted(h / 64, y, t))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_ties_have_a_finite_loss_and_gradient(dtype: torch.dtype) -> None:
    h = torch.tensor([[2.0, 2.0, 2.0, 2.0, 1.0]] * 2, dtype=dtype)
    y, t = torch.tensor([0, 4]), torch.tensor([1, 0])

    def towards(h: Tensor, y: Tensor | None) -> Tensor:
        return dlr_targeted(h, y, t)

    for loss in (dlr, towards):
        value, seed = ascent(loss, h, y)
        assert value.tolist() == [0, 1]
        assert bool(seed.isfinite().all())
        assert bool((seed.gather(1, y[:, None]) < 0).all())


def test_too_few_classes_are_a_sentence(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    for classes, options in ((2, {}), (3, {"targets": 2})):
        with pytest.raises(ValueError, match=f"classes at least, got logits of {classes}"):
            APGD(EPS, loss="dlr", **options)(network(classes), x, y.clamp(max=1))  # type: ignore[arg-type]
    assert bool(APGD(EPS, steps=3, loss="dlr")(network(3), x, y).loss.isfinite().all())
    for loss in ("ce", "cw"):
        found = APGD(EPS, steps=3, loss=loss)(network(2), x, y.clamp(max=1))
        assert bool(found.loss.isfinite().all())


# ---------------------------------------------------------------------------------- the algorithm


def test_checkpoints_are_the_papers() -> None:
    """w_j = ceil(p_j steps), p in fractions."""
    for steps in (1, 2, 5, 10, 37, 100, 1000):
        p = [Fraction(0), Fraction(22, 100)]
        while p[-1] <= 1:
            p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
        expected = sorted({math.ceil(share * steps) for share in p if share <= 1} - {0})
        found = checkpoints(steps)
        assert [step for step, _ in found] == expected
        assert [step - window for step, window in found] == [0, *expected[:-1]]


class Literal(NamedTuple):
    """What Algorithm 1 finds for one sample."""

    best: Tensor  #: x_max
    loss: float  #: f_max
    by_rises: int  #: how often only the first condition halved the step
    by_rest: int  #: and how often only the second


def literal_apgd(
    f: Callable[[int, Tensor], float],
    sign: Callable[[Tensor], Tensor],
    x: Tensor,
    steps: int,
) -> Literal:
    """Algorithm 1 for one sample, all iterates kept; f of a point's number and the point."""

    def project(z: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(z, (x - EPS).clamp(min=0)), (x + EPS).clamp(max=1))

    w = [0, *(step for step, _ in checkpoints(steps))]
    eta, points, losses = 2 * EPS, [x], [f(0, x)]
    best, f_max = x, losses[0]
    eta_at, f_max_at, rises, by_rises, by_rest = [eta], [f_max], 0, 0, 0
    for k in range(steps):
        z = project(points[k] + eta * sign(points[k]))
        if k > 0:
            z = project(points[k] + 0.75 * (z - points[k]) + 0.25 * (points[k] - points[k - 1]))
        points.append(z)
        losses.append(f(k + 1, z))
        rises += losses[k + 1] > losses[k]
        if losses[-1] > f_max:
            best, f_max = z, losses[-1]
        if k + 1 in w and k + 1 < steps:
            j = w.index(k + 1)
            first = rises < 0.75 * (w[j] - w[j - 1])
            # The step size at w_j is that before it is halved there.
            second = eta_at[j - 1] == eta and f_max_at[j - 1] == f_max
            eta_at.append(eta)
            f_max_at.append(f_max)
            if first or second:
                by_rises, by_rest = by_rises + (not second), by_rest + (not first)
                eta /= 2
                points[-1], losses[-1] = best, f_max
            rises = 0
    return Literal(best, f_max, by_rises, by_rest)


def descent(model: nn.Module, y: Tensor, loss: Any) -> Callable[[Tensor], Tensor]:
    """The sign of the gradient for one sample."""

    def sign(z: Tensor) -> Tensor:
        z = z[None].clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(model(z), y).sum(), z)
        return g[0].sign()

    return sign


@pytest.mark.parametrize("name", ["ce", "dlr", "cw"])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_apgd_is_the_literal_loop(
    model: nn.Module, batch: tuple[Tensor, Tensor], name: str, steps: int
) -> None:
    x, labels = batch
    found = APGD(EPS, steps, loss=name, start="input", keep="loss")(model, x, labels)
    loss, halved = LOSSES[name], 0
    for b in range(B):
        y = labels[b : b + 1]
        literal = literal_apgd(
            lambda _, z, y=y: float(loss(model(z[None]), y).detach()),  # type: ignore[misc]
            descent(model, y, loss),
            x[b],
            steps,
        )
        torch.testing.assert_close(found.x[b], literal.best, rtol=0, atol=1e-12)
        assert float(found.loss[b]) == pytest.approx(literal.loss, rel=1e-12)
        halved += literal.by_rises
    assert halved > 0 or steps < 30


def test_both_conditions_halve(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Losses by a script that mostly rises, with falls between, while gradients are a model's.

    The last point is the best, so that all steps on the way to it count; the gradients turn often,
    so that they do not end in a corner of the ball whatever their lengths.
    """
    steps, (x, labels) = 50, (part.repeat_interleave(3, 0) for part in batch)
    rises = torch.rand(steps + 1, len(x), dtype=torch.float64, generator=seeded())
    script = torch.where(rises < 0.15, -9.0, rises).cumsum(0)
    script[-1] += 100
    calls = iter(range(steps + 1))

    def turning(h: Tensor, y: Tensor | None) -> Tensor:
        return (30 * LOSSES["cw"](h, y)).sin()

    def scripted(h: Tensor, y: Tensor | None) -> Tensor:
        climbed = turning(h, y)
        return script[next(calls)] + (climbed - climbed.detach())

    found = APGD(EPS, steps, loss=scripted, start="input", keep="loss")(model, x, labels)
    literal = [
        literal_apgd(
            lambda k, _, b=b: float(script[k, b]),  # type: ignore[misc]
            descent(model, labels[b : b + 1], turning),
            x[b],
            steps,
        )
        for b in range(len(x))
    ]
    assert sum(one.by_rises for one in literal) > B
    assert sum(one.by_rest for one in literal) > B
    torch.testing.assert_close(
        found.x, torch.stack([one.best for one in literal]), rtol=0, atol=1e-12
    )


def cross_entropy(h: Tensor, y: Tensor | None) -> Tensor:
    assert y is not None
    return nn.functional.cross_entropy(h, y, reduction="none")


def test_the_odds_give_the_path_of_the_cross_entropy(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    """To the bit, though the losses differ."""
    by_odds, by_entropy = (
        APGD(EPS, 60, loss=loss, keep="loss")(model, *batch, generator=seeded())
        for loss in ("ce", cross_entropy)
    )
    assert torch.equal(by_odds.x, by_entropy.x)
    torch.testing.assert_close(torch.log1p(by_odds.loss.exp()), by_entropy.loss)
    assert not torch.allclose(by_odds.loss, by_entropy.loss)


def test_the_odds_go_on_where_the_cross_entropy_is_zero(model: nn.Module) -> None:
    """With logits 500 times as large it rounds to 0 in float32, and its gradient too."""

    def sure(z: Tensor) -> Tensor:
        return 500 * network_float(z)

    network_float = model.float()
    x = torch.rand(B, N)
    y = sure(x).argmax(1)
    start = cross_entropy(sure(x), y) == 0
    assert start.any()
    by_odds, by_entropy = (
        APGD(0.5, 20, loss=loss, start="input")(sure, x, y) for loss in ("ce", cross_entropy)
    )
    assert torch.equal(by_entropy.x[start], x[start])
    assert int(by_odds.wrong.sum()) > int(by_entropy.wrong.sum())


def test_targets_are_the_best_run_towards_each(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    others = model(x).scatter(1, y[:, None], -math.inf).argsort(1, descending=True)
    for count in (1, 3, K - 1, 9):
        runs = []
        for rank in range(min(count, K - 1)):

            def towards(h: Tensor, y: Tensor | None, rank: int = rank) -> Tensor:
                return dlr_targeted(h, y, others[:, rank])

            runs.append(APGD(0.05, 20, loss=towards, start="input")(model, x, y))
        wrong = torch.stack([run.wrong for run in runs])
        losses = torch.stack([run.loss for run in runs])
        found = APGD(0.05, 20, loss="dlr", targets=count, start="input")(model, x, y)
        assert torch.equal(found.wrong, wrong.any(0))
        assert torch.equal(found.loss, losses.masked_fill(wrong.any(0) & ~wrong, -math.inf).amax(0))
        assert 0 < int(found.wrong.sum()) < B


# ----------------------------------------------------------------------------------- the contract

CERTAIN: tuple[dict[str, Any], ...] = ({}, {"loss": "dlr"}, {"loss": "dlr", "targets": 2})
KINDS = (*CERTAIN, {"restarts": 2})


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [None, torch.tensor([0.1, 1.0, 2.0, 0.5, 1.0, 0.3, 0.7, 1.5])])
def test_stays_in_ball_and_box(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    options: dict[str, Any],
    dtype: torch.dtype,
    scale: Tensor | None,
) -> None:
    x, y = batch[0].to(dtype), batch[1]
    found = APGD(0.1, 12, scale=scale, **options)(model.to(dtype), x, y)
    # Of float64 numbers below 1, x + eps is itself rounded, by 2^-53 at most.
    slack = 2**-53 if dtype == torch.float64 else 0.0
    unit = 1.0 if scale is None else scale.to(found.loss.dtype).double()
    assert bool(((found.x.double() - x.double()).abs() <= 0.1 * unit + slack).all())
    assert bool(((found.x >= 0) & (found.x <= 1)).all())
    assert found.x.dtype == dtype
    assert torch.equal(found.wrong, model(found.x).argmax(1) != y)


@pytest.mark.parametrize("options", CERTAIN)
def test_more_steps_before_the_first_checkpoint_are_never_worse(
    model: nn.Module, batch: tuple[Tensor, Tensor], options: dict[str, Any]
) -> None:
    """Up to its first checkpoint an attack of more steps does what one of fewer does."""
    options = {**options, "start": "input", "keep": "loss"}
    found = [APGD(0.1, steps, **options)(model, *batch).loss for steps in (1, 2)]
    # The first checkpoint of 40 steps is the ninth.
    far = APGD(0.1, 40, **options)(model, *batch).loss
    assert bool((found[0] <= found[1]).all())
    assert bool((found[1] <= far).all())


@pytest.mark.parametrize(
    ("options", "forwards", "backwards"),
    [
        ({}, 8, 7),
        ({"restarts": 2}, 16, 14),
        ({"loss": "dlr", "targets": 3}, 1 + 3 * 8, 3 * 7),
        ({"loss": "dlr", "targets": 9, "restarts": 2}, 1 + 2 * 4 * 8, 2 * 4 * 7),
    ],
)
def test_passes(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    options: dict[str, Any],
    forwards: int,
    backwards: int,
) -> None:
    with Engine(model) as engine:
        APGD(EPS, 7, **options).run(engine, *batch)
        assert (engine.forwards, engine.backwards) == (forwards, backwards)


@pytest.mark.parametrize("options", KINDS)
def test_nothing_waits_for_the_device(
    model: nn.Module, batch: tuple[Tensor, Tensor], options: dict[str, Any]
) -> None:
    with Engine(model) as engine, Calls() as calls:
        APGD(EPS, 12, **options).run(engine, *batch)
    assert "addmm" in calls.names  # it sees what runs
    assert calls.waiting == set()


@pytest.mark.parametrize("options", CERTAIN)
def test_empty_and_single(
    model: nn.Module, batch: tuple[Tensor, Tensor], options: dict[str, Any]
) -> None:
    x, y = batch
    attack = APGD(EPS, 12, start="input", **options)
    empty = attack(model, x[:0], y[:0])
    assert (empty.x.shape, empty.loss.shape, empty.wrong.dtype) == ((0, N), (0,), torch.bool)
    torch.testing.assert_close(attack(model, x[:1], y[:1]).x, attack(model, x, y).x[:1])


def test_nan_is_the_least_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch

    def broken(z: Tensor) -> Tensor:
        h = model(z)
        far = (z - x).abs().amax(1, keepdim=True) > 0.15
        return torch.where(far, h * math.nan, h)

    found = APGD(EPS, 30, start="input", keep="loss")(broken, x, y)
    assert bool(found.loss.isfinite().all())
    assert bool(found.x.isfinite().all())
    torch.testing.assert_close(found.loss, LOSSES["ce"](model(found.x), y).detach())


def test_leaves_no_more_right_than_pgd(trained: nn.Module, images: Tensor) -> None:
    """At 20 steps each and the same starts; towards targets it takes more of them."""
    y = trained(images).argmax(1)
    wrong = {
        name: int(
            ATTACKS[name](0.1, 20, start="uniform")(trained, images, y, generator=seeded())[2].sum()
        )
        for name in ("pgd", "apgd_ce", "apgd_t")
    }
    assert 0 < wrong["pgd"] <= wrong["apgd_ce"] <= wrong["apgd_t"] < len(y), wrong


def test_errors_say_what_is_expected() -> None:
    for options, words in (
        ({"eps": -1}, "eps must be finite and at least 0"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"loss": "hinge"}, "loss, .*, must be one of ce, cw"),
        ({"targets": 0, "loss": "dlr"}, "targets must be an integer of at least 1"),
        ({"targets": 3}, "loss with targets must be one of dlr, got 'ce'"),
        ({"start": "corner"}, "start must be one of input"),
        ({"keep": "last"}, "keep must be one of error, loss, got 'last'"),
        ({"restarts": 0}, "restarts must be an integer of at least 1"),
        ({"restarts": 2, "start": "input"}, "restarts must be 1 with start='input'"),
        ({"alpha": 1.5}, "alpha must be greater than 0 and at most 1"),
        ({"rho": 0.0}, "rho must be greater than 0 and at most 1"),
    ):
        with pytest.raises(ValueError, match=words):
            APGD(**options)  # type: ignore[arg-type]
    assert set(TARGETED) <= set(LOSSES)
