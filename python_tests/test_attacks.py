"""Attacks: literal loops, the ball to the last bit, and iterates that never get worse."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import networks
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from waiting import Calls

import rrfast
from rrfast.attacks import APGD, ATTACKS, LOSSES, PGD, STARTS, Attacked, Ball
from rrfast.attacks.ascent import ascent
from rrfast.attacks.attack import seen, unseen
from rrfast.attacks.loss import UNLABELLED, dlr_targeted
from rrfast.engine import Engine
from rrfast.ops import accumulate_dtype

B, N, K = 16, 12, 4


@pytest.fixture
def model() -> nn.Module:
    return networks.steep(N, K)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return networks.batch((B, N), K)


# ------------------------------------------------------------------------------------- the losses


def literal(name: str, h: list[float], y: int) -> float:
    """What the papers climb: the cross-entropy, the margin, or a probability."""
    p = np.exp(np.array(h) - max(h))
    p /= p.sum()
    others = [k for k in range(len(h)) if k != y]
    if name == "ce":
        return -math.log(p[y])
    if name == "cw":
        return max(h[k] for k in others) - h[y]
    if name == "confidence":
        return math.log(max(p))
    if name == "dlr":
        ordered = sorted(h, reverse=True)
        return -(h[y] - max(h[k] for k in others)) / (ordered[0] - ordered[2])
    return float(max(p[k] for k in others))


#: From the odds that are climbed to what the papers write.
WRITTEN = {
    "ce": lambda odds: torch.log1p(torch.exp(odds)),
    "cw": lambda margin: margin,
    "confidence": lambda odds: -torch.log1p(torch.exp(-odds)),
    "other": torch.sigmoid,
    "dlr": lambda ratio: ratio,
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_literal_one_in_another_unit(name: str) -> None:
    h = torch.randn(50, K, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = torch.arange(50) % K
    expected = [literal(name, row.tolist(), int(c)) for row, c in zip(h, y, strict=True)]
    written = WRITTEN[name](LOSSES[name](h, y))
    torch.testing.assert_close(written, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_points_where_that_of_the_literal_loss_does(name: str) -> None:
    h = torch.randn(50, K, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = torch.arange(50) % K
    _, seed = ascent(LOSSES[name], h, y)
    h.requires_grad_()
    (expected,) = torch.autograd.grad(WRITTEN[name](LOSSES[name](h, y)).sum(), h)
    # The difference of logits ratio is 1 wherever the label is the third, and leads nowhere.
    flat = (expected == 0).all(1)
    assert int(flat.sum()) == (int((LOSSES[name](h, y) == 1).sum()) if name == "dlr" else 0)
    ratio = (seed * expected).sum(1) / expected.square().sum(1)
    ratio = ratio.where(~flat, 1.0)
    assert bool((ratio > 0).all())
    torch.testing.assert_close(seed, expected * ratio[:, None])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*LOSSES, "dlr towards targets"])
def test_ascent_in_closed_form_is_that_of_autograd(name: str, dtype: torch.dtype) -> None:
    """Ties, saturated and overflowed logits and NaN among them."""
    generator = torch.Generator().manual_seed(9)
    h = torch.randint(-3, 4, (4000, 5), generator=generator).to(dtype)
    h[1000:2000] = torch.randn(1000, 5, generator=generator, dtype=torch.float64).to(dtype)
    h[2000:] *= 30
    odd = torch.rand(h[3000:].shape, generator=generator)
    h[3000:][odd < 0.15], h[3000:][odd > 0.85] = math.inf, -math.inf
    h[3500:][odd[500:] > 0.95] = math.nan
    y, t = torch.arange(4000) % 5, (torch.arange(4000) % 5 + 1 + torch.arange(4000) % 4) % 5
    loss = partial(dlr_targeted, targets=t) if name.endswith("targets") else LOSSES[name]

    def unknown(h: Tensor, y: Tensor | None) -> Tensor:
        return loss(h, y)

    found, expected = ascent(loss, h, y), ascent(unknown, h, y)
    usable = ~expected[0].isnan()  # the gradient of NaN is of no use
    assert torch.equal(usable, ~found[0].isnan())
    # Nor that of a sum or a maximum over masked classes alone.
    usable &= (h > -math.inf).sum(dim=1) > 1
    eps, wide = torch.finfo(dtype).eps, torch.finfo(accumulate_dtype(dtype)).eps
    if name == "cw":
        loss_digits = seed_digits = 0.0
    elif name.startswith("dlr"):
        loss_digits, seed_digits = 0.0, 4 * eps  # two divisions in another order
    else:
        # Either side rounds the sum of an exponential and two numbers up to twice the logits; the
        # exponent that autograd takes is such a number.
        most = 2 * h.masked_fill(~h.isfinite(), 0.0).abs().max().item()
        loss_digits, seed_digits = (2 * most + 9) * wide, (most + 9) * wide + eps
    for one, other, digits in zip(found, expected, (loss_digits, seed_digits), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(
            one[usable], other[usable], equal_nan=True, rtol=digits, atol=digits
        )


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_there_where_a_probability_rounds_to_1(name: str) -> None:
    h = torch.tensor([[90.0, 1.0, 0.0]])
    value, seed = ascent(LOSSES[name], h, torch.tensor([0]))
    assert bool(value.isfinite().all())
    # The ratio's is one over the spread of the logits, at the runner-up.
    assert float(seed.abs().sum()) >= (1 / 90 if name == "dlr" else 1)


@pytest.mark.parametrize("name", LOSSES)
def test_nan_stays_nan(name: str) -> None:
    for place in range(3):
        h = torch.tensor([[2.0, 1.0, 0.0]])
        h[0, place] = math.nan
        value, _ = ascent(LOSSES[name], h, torch.tensor([1]))
        assert value.isnan().all()


# --------------------------------------------------------------------------------------- the ball


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [None, (0.1, 3.0, 1.0)])
def test_no_point_of_the_ball_is_further_than_eps(
    dtype: torch.dtype, scale: tuple[float, ...] | None
) -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(500, 3, 4, generator=generator, dtype=torch.float64).to(dtype)
    eps = 8 / 255
    per_channel = None if scale is None else torch.tensor(scale)
    ball = Ball(x, eps, (0, 1), per_channel)
    unit = torch.tensor(scale or (1.0, 1.0, 1.0)).to(accumulate_dtype(dtype)).double().view(1, 3, 1)
    for z in (ball.least, ball.most, ball.nearest(x - 9), ball.anywhere(torch.ones_like(x))):
        # Of float64 numbers below 2, x + eps is itself rounded, by 2^-53 at most.
        slack = 2**-53 if dtype == torch.float64 else 0.0
        assert bool(((z.double() - x.double()).abs() <= eps * unit + slack).all())
        assert bool(((z >= 0) & (z <= 1)).all())
        assert z.dtype == dtype
    # And not by more than two numbers of the dtype less than that, where the box is far.
    free = Ball(x, eps, None, per_channel)
    near = (free.most.double() - x.double()) - eps * unit
    assert bool((near >= -2 * torch.finfo(dtype).eps * (1 + eps * unit)).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("box", [(0.1, 0.3), (-0.3, -0.1), (1e-9, 0.3), (-1e6, 0.3), (0.1, 1e6)])
def test_no_point_of_the_ball_is_outside_the_box(
    dtype: torch.dtype, box: tuple[float, float]
) -> None:
    """Of faces that are no numbers of the dtype; float16 has none as large as 1e6."""
    x = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64).to(dtype)[:, None]
    lower, upper = box
    ball = Ball(x, 0.7, box)
    for z in (ball.least, ball.most, ball.nearest(x), ball.anywhere(torch.ones_like(x))):
        assert bool(((z.double() >= lower) & (z.double() <= upper)).all())
    # What reaches a face is not by more than two numbers of the dtype less than that.
    for face, z in ((lower, ball.least), (upper, ball.most)):
        if abs(face) < 0.5:
            near = 2 * torch.finfo(dtype).eps * abs(face) + torch.finfo(dtype).smallest_normal
            assert float((z.double() - face).abs().min()) <= near


def literal_ends(x: Tensor, eps: float, box: Any) -> tuple[Tensor, Tensor]:
    """Both ends of the ball, each by all of its steps."""
    finfo = torch.finfo(x.dtype)

    def inside(exact: Tensor, sign: int) -> Tensor:
        rounded = exact.clamp(finfo.min, finfo.max).to(x.dtype)
        spacing = (rounded.abs() * finfo.eps).clamp_min(finfo.tiny * finfo.eps)
        beyond = rounded.double() < exact if sign > 0 else rounded.double() > exact
        return torch.where(beyond, rounded + sign * spacing, rounded)

    least = inside(x.double() - eps, 1).minimum(x)
    most = inside(x.double() + eps, -1).maximum(x)
    if box is not None:
        low, high = (torch.as_tensor(end, dtype=torch.float64).view(1, -1) for end in box)
        least, most = (torch.clamp(z, inside(low, 1), inside(high, -1)) for z in (least, most))
    return least, most


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_ball_has_the_bits_of_all_its_steps(dtype: torch.dtype) -> None:
    finfo, bits = torch.finfo(dtype), {8: torch.int64, 4: torch.int32, 2: torch.int16}
    special = [
        0.0,
        -0.0,
        math.nan,
        math.inf,
        1.0,
        0.3,
        finfo.max,
        finfo.tiny,
        finfo.tiny * finfo.eps,
    ]
    corners = torch.tensor([*special, *(-s for s in special)], dtype=torch.float64).to(dtype)
    every = torch.arange(-(2**15), 2**15, 7, dtype=torch.int16).view(torch.float16).to(dtype)
    drawn = torch.randn(998, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([corners, every, drawn.to(dtype)])
    x = x[: len(x) // 2 * 2].view(-1, 2)
    boxes: list[Any] = [None, (0, 1), (0.1, 0.3), (-0.3, 1e39), (0.3, 0.3), (-math.inf, math.inf)]
    boxes += [([0.0, 0.1], [0.3, 1e39]), (math.inf, math.inf), torch.tensor([0.1, 0.3])]
    for eps, box in itertools.product((0.0, 1e-320, 1e-8, 8 / 255, 3.0, 65000.0, 1e308), boxes):
        ball = Ball(x, eps, box)
        for found, expected in zip((ball.least, ball.most), literal_ends(x, eps, box), strict=True):
            as_bits = bits[x.element_size()]
            assert torch.equal(found.view(as_bits), expected.view(as_bits)), (eps, box)


def test_a_ball_takes_few_ops() -> None:
    """They are most of its time for few images: it took 50."""

    class Counted(TorchDispatchMode):
        ops = 0

        def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.ops += 1
            return func(*args, **kwargs or {})

    Ball(torch.rand(1, 3), 0.1, (0, 1))
    with Counted() as counted:
        Ball(torch.rand(1, 3), 0.1, (0, 1))
    assert counted.ops <= 24


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd_ce", "fab_t"])
def test_attacks_stay_in_the_box_at_16_bits(name: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).bfloat16()
    x, y = torch.full((4, 3, 4, 4), 0.25, dtype=torch.bfloat16), torch.tensor([0, 1, 2, 3])
    z = ATTACKS[name](eps=0.2, bounds=(0.1, 0.3))(net, x, y).x.double()
    assert bool(((z >= 0.1) & (z <= 0.3)).all())


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_an_element_without_a_gradient_stays(
    model: nn.Module, batch: tuple[Tensor, Tensor], momentum: float
) -> None:
    """sqrt(|u|)^2 has the gradient NaN at 0, infinity times 0; the others go on."""
    x, y = batch
    x[3, 5] = 0.0
    attack = PGD(eps=0.1, steps=3, keep="last", momentum=momentum)

    def rooted(z: Tensor) -> Tensor:
        first, rest = z[:, 5:6], torch.cat([z[:, :5], z[:, 6:]], dim=1)
        return model(torch.cat([rest, first.abs().sqrt().square()], dim=1))

    found = attack(rooted, x, y).x
    assert found[3, 5] == 0
    assert found.isfinite().all()
    assert ((found - x)[3, :5].abs() > 0.01).all()
    steps = torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0], dtype=torch.float64)
    gradient = torch.tensor([math.inf, -math.inf, math.nan, 2.0, -1e-300], dtype=torch.float64)
    ball = Ball(torch.zeros(1, 5, dtype=torch.float64), 1.0)
    assert torch.equal(ball.step(ball.x, gradient[None], ball.lengths(0.5)), 0.5 * steps[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nor_next_to_zero(dtype: torch.dtype) -> None:
    """Where x + eps or x - eps is a subnormal number of the dtype, or rounds to 0."""
    for eps in torch.linspace(0.02, 0.04, 301, dtype=torch.float64).tolist():
        # Numbers whose distance from 0 is nearly eps.
        x = (eps + torch.linspace(-1e-4, 1e-4, 101, dtype=torch.float64)).to(dtype)[:, None]
        x = torch.cat([x, -x])
        ball = Ball(x, eps)
        for z in (ball.least, ball.most):
            assert bool(((z.double() - x.double()).abs() <= eps).all())


# ------------------------------------------------------------------------------------------- PGD


def literal_pgd(
    model: nn.Module, x: Tensor, y: Tensor, attack: PGD, momentum: float = 0.0
) -> list[Tensor]:
    """All iterates, sample by sample and element by element."""
    iterates = [x.clone()]
    velocity = [[0.0] * N for _ in range(B)]
    for _ in range(attack.steps):
        z = iterates[-1].clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(z), y, reduction="sum")
        (g,) = torch.autograd.grad(loss, z)
        new = iterates[-1].clone()
        for b in range(B):
            for i in range(N):
                sign = float(np.sign(float(g[b, i])))
                velocity[b][i] = momentum * velocity[b][i] + (1 - momentum) * sign
                moved = float(new[b, i]) + attack.step_size * attack.eps * velocity[b][i]
                moved = min(max(moved, float(x[b, i]) - attack.eps), float(x[b, i]) + attack.eps)
                new[b, i] = min(max(moved, 0.0), 1.0)
        iterates.append(new)
    return iterates


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_pgd_is_the_literal_loop(
    model: nn.Module, batch: tuple[Tensor, Tensor], momentum: float
) -> None:
    x, y = batch
    attack = PGD(eps=0.2, steps=6, keep="last", momentum=momentum)
    iterates = literal_pgd(model, x, y, attack, momentum)
    torch.testing.assert_close(attack(model, x, y).x, iterates[-1], rtol=0, atol=1e-12)


def test_the_kept_iterate_is_the_best_there_was(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    iterates = torch.stack(literal_pgd(model, x, y, PGD(eps=0.2, steps=6)))
    logits = model(iterates.flatten(0, 1)).unflatten(0, iterates.shape[:2])
    losses = torch.stack([LOSSES["ce"](h, y) for h in logits])
    wrong = logits.argmax(-1) != y
    by_loss = PGD(eps=0.2, steps=6, keep="loss")(model, x, y)
    torch.testing.assert_close(by_loss.loss, losses.amax(0))
    by_error = PGD(eps=0.2, steps=6, keep="error")(model, x, y)
    assert torch.equal(by_error.wrong, wrong.any(0))
    among = losses.masked_fill(wrong.any(0) & ~wrong, -math.inf)
    torch.testing.assert_close(by_error.loss, among.amax(0).detach())


def test_an_error_is_kept_before_a_larger_loss() -> None:
    def model(z: Tensor) -> Tensor:
        """Right with a small loss at 0, wrong at 1/2, and right with a large loss at 1."""
        right = torch.tensor([[0.0, -1.0, -1.0], [0.0, 0.1, -9.0], [0.0, -0.01, -0.01]])
        place = (2 * z[:, 0]).round().long()
        return right[place] + 0 * z

    def climb(h: Tensor, y: Tensor | None) -> Tensor:
        return LOSSES["ce"](h, y)

    y = torch.tensor([0])
    points = [torch.full((1, 3), at) for at in (0.0, 0.5, 1.0)]
    losses = [float(climb(model(z), y)) for z in points]
    assert losses == sorted(losses)
    for keep, expected in (("error", 0.5), ("loss", 1.0)):
        attack = PGD(keep=keep)  # type: ignore[arg-type]
        best = unseen(points[0])
        for z in points:
            best = attack._better(seen(z, model(z), y, climb)[0], best)
        assert float(best.x[0, 0]) == expected


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("more", [{}, {"momentum": 0.9, "backtracking": 1.5}, {"restarts": 3}])
def test_never_leaves_ball_or_box_and_never_gets_worse(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    name: str,
    start: str,
    more: dict[str, float],
) -> None:
    x, y = batch
    more = {key: value for key, value in more.items() if (key, start) != ("restarts", "input")}
    found = []
    for steps in (1, 3, 9):
        attack = PGD(eps=0.1, steps=steps, loss=name, start=start, keep="loss", **more)  # type: ignore[arg-type]
        found.append(attack(model, x, y, generator=torch.Generator().manual_seed(7)))
        z = found[-1].x
        assert bool(((z - x).abs() <= 0.1 * (1 + 2**-52)).all())
        assert bool(((z >= 0) & (z <= 1)).all())
        logits = model(z)
        torch.testing.assert_close(found[-1].loss, LOSSES[name](logits, y).detach())
        assert torch.equal(found[-1].wrong, logits.argmax(1) != y)
    if "restarts" not in more:
        # The first steps of more are the steps of fewer.
        assert bool((found[0].loss <= found[1].loss).all())
        assert bool((found[1].loss <= found[2].loss).all())


def test_backtracking_is_the_literal_loop(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    attack = PGD(eps=0.2, steps=8, step_size=0.8, keep="loss", momentum=0.5, backtracking=1.5)
    found = attack(model, x, y)
    model.requires_grad_(False)
    shorter = 0
    for b in range(B):
        z, length = x[b : b + 1].clone(), 0.8 * 0.2
        loss = float(LOSSES["ce"](model(z), y[b : b + 1]))
        velocity = torch.zeros_like(z)
        for _ in range(8):
            probe = z.clone().requires_grad_()
            value = LOSSES["ce"](model(probe), y[b : b + 1]).sum()
            (g,) = torch.autograd.grad(value, probe)
            velocity = 0.5 * velocity + 0.5 * g.sign()
            least, most = (x[b] - 0.2).clamp(min=0), (x[b] + 0.2).clamp(max=1)
            trial = torch.minimum(torch.maximum(z + length * velocity, least), most)
            there = float(LOSSES["ce"](model(trial), y[b : b + 1]))
            if there > loss:
                z, loss = trial, there
            else:
                length /= 1.5
                shorter += 1
        torch.testing.assert_close(found.x[b : b + 1], z, rtol=0, atol=1e-12)
        assert float(found.loss[b]) == pytest.approx(loss, rel=1e-12)
    assert shorter > B  # it was needed


def test_origin_is_among_the_iterates(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    descending = LOSSES["ce"]

    def worse(h: Tensor, labels: Tensor | None) -> Tensor:
        return -descending(h, labels) * 0 - (h - h.detach()).sum(1)  # a gradient that leads nowhere

    found = PGD(eps=0.2, steps=2, loss=worse, start="uniform", origin=True, keep="loss")(
        model, x, y
    )
    assert torch.equal(found.x, x)  # of equals the first


@pytest.mark.parametrize(
    ("options", "forwards", "backwards"),
    [
        ({"keep": "last"}, 5, 5),
        ({}, 6, 5),
        ({"origin": True}, 7, 5),
        ({"backtracking": 2.0, "momentum": 0.9}, 6, 5),
        ({"restarts": 2, "start": "uniform"}, 12, 10),
    ],
)
def test_passes(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    options: dict[str, float],
    forwards: int,
    backwards: int,
) -> None:
    with Engine(model) as engine:
        PGD(eps=0.1, steps=5, **options).run(engine, *batch)  # type: ignore[arg-type]
        assert (engine.forwards, engine.backwards) == (forwards, backwards)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("more", [{}, {"momentum": 0.9, "backtracking": 1.5}])
def test_nothing_waits_for_the_device(
    model: nn.Module, batch: tuple[Tensor, Tensor], name: str, more: dict[str, float]
) -> None:
    attack = PGD(eps=0.1, steps=3, loss=name, start="uniform", restarts=2, **more)  # type: ignore[arg-type]
    with Engine(model) as engine, Calls() as calls:
        attack.run(engine, *batch)
    assert "addmm" in calls.names  # it sees what runs
    assert calls.waiting == set()


# ----------------------------------------------------------------------------- ordinary inputs


#: One of each kind, without a start at random.
CERTAIN = ("fgsm", "pgd", "cw_pgd", "fab_t")


@pytest.mark.parametrize("name", CERTAIN)
def test_empty_and_single(model: nn.Module, batch: tuple[Tensor, Tensor], name: str) -> None:
    x, y = batch
    attack = ATTACKS[name](eps=0.1)
    assert attack(model, x[:0], y[:0]).x.shape == (0, N)
    assert attack(model, x[:0], y[:0]).wrong.dtype == torch.bool
    one, all_of_them = attack(model, x[:1], y[:1]), attack(model, x, y)
    torch.testing.assert_close(one.x, all_of_them.x[:1])


def test_nan_is_not_kept(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch

    def broken(z: Tensor) -> Tensor:
        h = model(z)
        return torch.where((z - x).abs().amax(1, keepdim=True) > 0.05, h * math.nan, h)

    found = PGD(eps=0.1, steps=4, keep="loss")(broken, x, y)
    assert bool(found.loss.isfinite().all())
    assert bool(found.x.isfinite().all())


SMALL: dict[str, dict[str, Any]] = {
    "fgsm": {"start": "uniform"},
    "pgd": {"start": "uniform"},
    "cw_pgd": {"start": "uniform"},
    "apgd_ce": {"steps": 3},
    "apgd_dlr": {"steps": 3},
    "apgd_t": {"steps": 3, "targets": 2},
    "fab_t": {"steps": 2, "targets": 2},
    "square": {"queries": 5},
    "autoattack": {"steps": 2, "targets": 2, "queries": 3},
}


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "autoattack_package"])
def test_nan_is_no_error_for_any_label(name: str, label: int) -> None:
    """Off x all logits are NaN, whose argmax is class 0; and then at x too."""
    x, y = torch.rand(B, 3, 2, 2), torch.full((B,), label)
    right = nn.functional.one_hot(y, K) + torch.arange(K) / 10
    attack = ATTACKS[name](eps=0.1, **SMALL[name])
    for off in (0.0, -1.0):

        def model(z: Tensor, off: float = off) -> Tensor:
            far = (z - x).abs().flatten(1).amax(1, keepdim=True) > off
            return torch.where(far, math.nan, right + 0 * z.sum((1, 2, 3))[:, None])

        found = attack(model, x, y)
        assert torch.equal(found.x, x)
        assert not found.wrong.any()


@pytest.mark.parametrize("name", sorted(SMALL.keys() - {"fab_t"}))
def test_a_class_that_overflows_wins(name: str) -> None:
    """Off x class 1 is infinite: what runs predicts it, so that it is an error of any other label.

    The radius has no number there; if attacks had none, a model that overflows would be robust.
    """
    x, slope = torch.rand(B, 3, 2, 2), torch.randn(12, K) / 100
    attack = ATTACKS[name](eps=0.1, **SMALL[name])
    for label, wrong in ((0, True), (1, False)):
        one = nn.functional.one_hot(torch.tensor(label), K)

        def model(z: Tensor, one: Tensor = one) -> Tensor:
            far = (z - x).abs().flatten(1).amax(1, keepdim=True) > 0
            logits = one + z.flatten(1) @ slope
            return torch.where(far & (torch.arange(K) == 1), math.inf, logits)

        assert bool((attack(model, x, torch.full((B,), label)).wrong == wrong).all())


@pytest.mark.parametrize("loss", ["ce", "cw", "other", "dlr"])
def test_several_classes_that_overflow_are_no_nan(loss: str) -> None:
    """The first of them is predicted; which of them is further up nothing says."""
    inf = math.inf
    h = torch.tensor([[0.0, inf, inf, 1.0], [inf, 0.0, inf, 1.0], [inf, inf, inf, inf]])
    for dtype in (torch.float16, torch.float32, torch.float64):
        for label in range(4):
            value, seed = ascent(LOSSES[loss], h.to(dtype), torch.full((3,), label))
            assert bool(value.isfinite().all())
            assert bool(seed.isfinite().all())
    x = torch.full((2, 4), 0.5)
    for label, wrong in ((3, True), (1, False)):

        def model(images: Tensor, label: int = label) -> Tensor:
            far = (images - x).abs().amax(1, keepdim=True) > 0
            return torch.where(far & (torch.arange(4) > 0), inf, torch.eye(4)[label] + images)

        found = PGD(eps=0.1, steps=2, loss=loss)(model, x, torch.full((2,), label))
        assert bool((found.wrong == wrong).all())


def test_overflow_is_no_confidence() -> None:
    """As of `rrfast.scores.MSR`; and no attack takes a point for it."""
    inf = math.inf
    h = torch.tensor([[inf, 0.0], [inf, inf], [-inf, -inf], [0.0, -inf], [1.0, 0.0]])
    found = LOSSES["confidence"](h, None).double()
    assert torch.equal(found.isnan(), torch.tensor([True, True, True, False, False]))
    assert torch.equal(found.isnan(), rrfast.scores.MSR().of_logits(h).isnan())
    x = torch.full((2, 4), 0.5)

    def model(z: Tensor) -> Tensor:
        far = (z - x).abs().amax(1, keepdim=True) > 0.05
        return torch.cat([torch.where(far, inf, 20 * z.sum(1, keepdim=True)), z[:, :2]], dim=1)

    reached = PGD(eps=0.1, steps=4, loss="confidence", keep="loss")(model, x)
    assert bool(reached.loss.isfinite().all())
    assert bool(((reached.x - x).abs() <= 0.05).all())


def test_nan_is_below_every_number_before_errors() -> None:
    """Of all pairs of a number that is right or wrong with NaN, marked as an error or not."""
    for wrong in (True, False):
        for marked in (True, False):
            one, nan = (
                Attacked(torch.tensor([[at]]), torch.tensor([at]), torch.tensor([error]))
                for at, error in ((-1.0, wrong), (math.nan, marked))
            )
            for errors_first in (True, False):
                assert one.or_better(nan, errors_first=errors_first).loss.item() == -1
                assert nan.or_better(one, errors_first=errors_first).loss.item() == -1


def test_the_last_iterate_is_looked_at(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    attack = PGD(eps=0.2, steps=6, keep="last")
    found, logits = attack(model, x, y), model(attack(model, x, y).x)
    assert torch.equal(found.wrong, logits.argmax(1) != y)
    assert found.wrong.any()
    torch.testing.assert_close(found.loss, LOSSES["ce"](logits, y).detach())


@pytest.mark.parametrize("name", CERTAIN)
def test_labels_of_inference_mode(
    model: nn.Module, batch: tuple[Tensor, Tensor], name: str
) -> None:
    x, y = batch
    attack = ATTACKS[name](eps=0.1)
    with torch.inference_mode():
        labels = y.clone()
        inside = attack(model, x.clone(), labels)
    for found in (inside, attack(model, x, labels)):
        assert torch.equal(found.x, attack(model, x, y).x)


def test_the_model_is_left_as_it_was(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    model.train()
    PGD(eps=0.1)(model, *batch)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("start", STARTS)
def test_starts_are_of_no_memory_layout(start: str) -> None:
    x = torch.rand(2, 3, 4, 5)
    plain, last = (
        STARTS[start](Ball(z, 0.1), torch.Generator().manual_seed(3))
        for z in (x, x.to(memory_format=torch.channels_last))
    )
    assert torch.equal(plain, last)


def test_seeds_repeat(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    def go(seed: int) -> Attacked:
        attack = PGD(eps=0.1, steps=1, start="uniform")
        return attack(model, *batch, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(go(1).x, go(1).x)
    assert not torch.equal(go(1).x, go(2).x)


def test_errors_say_what_is_expected(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    for options, words in (
        ({"eps": -1}, "eps must be finite and at least 0"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"loss": "dlrr"}, "loss, .*, must be one of ce, cw, .*, got 'dlrr'; did you mean dlr"),
        ({"start": "corner"}, "start must be one of input"),
        ({"keep": "first"}, "keep must be one of error, loss, last"),
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
        ({"backtracking": 1.0}, "backtracking must be finite and greater than 1"),
        ({"keep": "last", "start": "uniform", "restarts": 2}, "keep must be 'error' or 'loss' wh"),
        ({"restarts": 2}, "restarts must be 1 with start='input', .*; take start='uniform', got 2"),
    ):
        with pytest.raises(ValueError, match=words):
            PGD(**options)  # type: ignore[arg-type]
    for attack in (PGD, APGD):
        with pytest.raises(
            ValueError, match=r"loss, unless it is a function, must be one of .* got \['ce'\]"
        ):
            attack(loss=["ce"])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"start must be one of input.*, got \['input'\]"):
            attack(start=["input"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels must be given"):
        PGD()(model, x)
    with pytest.raises(TypeError, match="labels must be an int64 tensor"):
        PGD()(model, x, y.float())
    with pytest.raises(ValueError, match="x must lie within bounds"):
        PGD()(model, x + 1, y)
    assert set(LOSSES) >= UNLABELLED
    assert PGD(loss="confidence", keep="loss")(model, x).x.shape == x.shape
