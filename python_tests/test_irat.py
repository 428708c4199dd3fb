"""Adversarial training and its instance weights: literal loops, gradients, the warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import networks
import pytest
import torch
from torch import Tensor, nn

from rrfast import ops
from rrfast.attacks import PGD
from rrfast.engine import Engine
from rrfast.objectives import (
    EWAT,
    GAIRAT,
    MAIL,
    WMMR,
    AdversarialTraining,
    incorrect_rate_correlation,
)
from rrfast.objectives.reweighted import Reweighted

CLASSES = 4
ATTACK: dict[str, Any] = {"eps": 0.1, "steps": 5, "start": "input"}


network = partial(networks.dense, CLASSES)


def batch(samples: int = 24) -> tuple[Tensor, Tensor]:
    return networks.batch((samples, 6), CLASSES)


def attacked(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
    """x^ and the logits of the iterates, computed from the attack alone."""
    iterates: list[Tensor] = []
    with Engine(model) as engine:
        found = PGD(keep="last", **ATTACK).run(engine, x, y, each=iterates.append)
    return found.x, iterates


def probabilities(h: list[float]) -> list[float]:
    top = max(h)
    weights = [math.exp(value - top) for value in h]
    return [weight / sum(weights) for weight in weights]


def cross_entropy(h: list[float], y: int) -> float:
    return -math.log(probabilities(h)[y])


def literal_margin(p: list[float], y: int, tau: int | None, similarity: bool) -> float:
    """Eq. 4, 10 to 14 (errata 14)."""
    others = [0.0 if k == y else p_k for k, p_k in enumerate(p)]
    margin = max(others) - p[y]
    if tau is None:
        return margin
    o = max(others) / (1 - p[y])
    dot = sum(a * b for a, b in zip(p, others, strict=True))
    c = dot / math.hypot(*p) / math.hypot(*others)
    return margin * (tau - o) * (c if similarity else 1)


def literal_weights(objective: Reweighted, h: Tensor, y: Tensor, iterates: list[Tensor]) -> Tensor:
    w = []
    for i, (row, label) in enumerate(zip(h.tolist(), y.tolist(), strict=True)):
        p = probabilities(row)
        if isinstance(objective, GAIRAT):
            kappa = sum(int(each[i].argmax()) == label for each in iterates)
            inside = objective.shift + 5 * (1 - 2 * kappa / len(iterates))
            w.append((1 + math.tanh(inside)) / 2)
        elif isinstance(objective, EWAT):
            w.append(objective.offset - sum(p_k * math.log(p_k) for p_k in p))
        elif isinstance(objective, MAIL):
            m = literal_margin(p, label, objective.tau, objective.similarity)
            power = -objective.gamma * (m - objective.beta)
            if objective.printed:
                power = objective.gamma * (m + objective.beta)
            w.append(objective.factor / (1 + math.exp(power)))
        else:
            assert isinstance(objective, WMMR)
            m = literal_margin(p, label, objective.tau, objective.similarity)
            alpha = objective.alpha if objective.tau is None else 1
            w.append(objective.factor * math.exp((-alpha if objective.printed else alpha) * m))
    weights = torch.tensor(w, dtype=torch.float64)
    if getattr(objective, "normalize", isinstance(objective, GAIRAT)):
        weights = weights / weights.mean()
    return weights


#: With every option once away from its default.
MADE: dict[str, Callable[..., Reweighted]] = {
    "gairat": GAIRAT,
    "gairat_shift": lambda **options: GAIRAT(shift=1.5, **options),
    "mail": MAIL,
    "mail_options": lambda **options: MAIL(gamma=3.0, beta=0.0, factor=1.0, **options),
    "mail_margin": lambda **options: MAIL(tau=2, **options),
    "mail_without_similarity": lambda **options: MAIL(tau=3, similarity=False, **options),
    "wmmr": WMMR,
    "wmmr_margin": lambda **options: WMMR(tau=2, **options),
    "mail_printed": lambda **options: MAIL(tau=2, printed=True, **options),
    "wmmr_printed": lambda **options: WMMR(printed=True, **options),
    "wmmr_margin_printed": lambda **options: WMMR(tau=2, printed=True, **options),
    "ewat": EWAT,
    "ewat_options": lambda **options: EWAT(offset=1.0, normalize=False, **options),
}
PROBABLE = [name for name in MADE if "gairat" not in name]


@pytest.mark.parametrize("name", MADE)
def test_the_objective_is_its_literal_loop(name: str) -> None:
    model, (x, y) = network(), batch()
    objective = MADE[name](**ATTACK)
    moved, iterates = attacked(model, x, y)
    h = model(moved).detach()
    w = literal_weights(objective, h, y, iterates)
    losses = [cross_entropy(row, label) for row, label in zip(h.tolist(), y.tolist(), strict=True)]
    expected = sum(a * b for a, b in zip(w.tolist(), losses, strict=True)) / len(losses)
    # A few hundred float64 roundings.
    assert objective(model, x, y).item() == pytest.approx(expected, rel=1e-13)
    # 1 + tanh of the literal loop cancels: half a unit of 1 is left, some 1e-16.
    torch.testing.assert_close(objective.weights(h, y, iterates), w, rtol=1e-12, atol=1e-15)
    assert w.max() > w.min()


def test_standard_at_is_the_loss_of_the_attacked_alone() -> None:
    model, (x, y) = network(), batch()
    moved, _ = attacked(model, x, y)
    expected = nn.functional.cross_entropy(model(moved), y)
    assert torch.equal(AdversarialTraining(**ATTACK)(model, x, y), expected)
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
    loss = AdversarialTraining(criterion=smoothed, **ATTACK)(model, x, y)
    assert torch.equal(loss, smoothed(model(moved), y))


def finite_differences(value: Callable[[], float], parameters: list[Tensor]) -> list[Tensor]:
    """Central, at 1e-5: off by 1e-10 of the third derivative, and by 1e-11 of rounding."""
    results = []
    for parameter in parameters:
        flat, gradient = parameter.detach().view(-1), torch.zeros(parameter.numel()).double()
        for i in range(len(flat)):
            before = flat[i].item()
            flat[i] = before + 1e-5
            above = value()
            flat[i] = before - 1e-5
            gradient[i] = (above - value()) / 2e-5
            flat[i] = before
        results.append(gradient.view_as(parameter))
    return results


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("name", PROBABLE)
def test_gradient_is_that_of_the_literal_objective(name: str, detach: bool) -> None:
    """x^ is a constant, and so are detached weights."""
    model, (x, y) = network(), batch(8)
    objective = MADE[name](**ATTACK, detach=detach)
    moved, iterates = attacked(model, x, y)
    fixed = literal_weights(objective, model(moved), y, iterates)

    def value() -> float:
        h = model(moved).detach()
        w = fixed if detach else literal_weights(objective, h, y, iterates)
        pairs = zip(h.tolist(), y.tolist(), strict=True)
        return sum(a * cross_entropy(*b) for a, b in zip(w.tolist(), pairs, strict=True)) / len(y)

    expected = finite_differences(value, list(model.parameters()))
    objective.backward(model, x, y)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-8)


def test_detached_weights_have_another_gradient() -> None:
    gradients = []
    for detach in (True, False):
        model = network()
        WMMR(**ATTACK, detach=detach).backward(model, *batch())
        gradients.append(model[0].weight.grad)
    assert (gradients[0] - gradients[1]).abs().max() > 0.01


def test_gairat_s_gradient_is_that_of_the_weighted_loss() -> None:
    model, (x, y) = network(), batch(8)
    moved, iterates = attacked(model, x, y)
    w = literal_weights(GAIRAT(), model(moved), y, iterates).tolist()

    def value() -> float:
        pairs = zip(model(moved).tolist(), y.tolist(), strict=True)
        return sum(a * cross_entropy(*b) for a, b in zip(w, pairs, strict=True)) / len(y)

    expected = finite_differences(value, list(model.parameters()))
    GAIRAT(**ATTACK).backward(model, x, y)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("make", [AdversarialTraining, *MADE.values()])
@pytest.mark.parametrize(
    "ball", [{"bounds": (0.45, 0.55)}, {"bounds": None}, {"scale": torch.arange(1, 7) / 6}]
)
def test_bounds_and_scale_are_those_of_the_attack(make: Any, ball: dict[str, Any]) -> None:
    model, (x, y) = network(), batch()
    x = 0.45 + x / 10 if ball.get("bounds") else x
    inputs: list[Tensor] = []

    def watched(z: Tensor) -> Tensor:
        inputs.append(z.detach())
        return model(z)

    make(**ATTACK, **ball)(watched, x, y)
    assert torch.equal(inputs[-1], PGD(keep="last", **ATTACK, **ball)(model, x, y).x)
    assert not torch.equal(inputs[-1], PGD(keep="last", **ATTACK)(model, x, y).x)


def test_the_defaults() -> None:
    for made in (AdversarialTraining(), GAIRAT(), MAIL(), WMMR(), EWAT()):
        assert (made.eps, made.steps, made.step_size, made.start) == (8 / 255, 10, 1 / 4, "uniform")
        attack = made._attack
        assert (attack.eps, attack.steps, attack.step_size) == (8 / 255, 10, 1 / 4)
        assert (attack.start, attack.loss, attack.bounds) == ("uniform", "ce", (0.0, 1.0))
    assert (WMMR().alpha, GAIRAT().shift, EWAT().offset) == (2.0, -1.0, 0.0)
    assert (MAIL().gamma, MAIL().beta) == (10.0, 0.5)
    assert MAIL().factor == WMMR().factor == 3.0


# ------------------------------------------------------------------------------------ the weights


@pytest.mark.parametrize("objective", [MAIL(), WMMR(), MAIL(tau=2), WMMR(tau=3, similarity=False)])
def test_a_worse_margin_never_has_a_smaller_weight(objective: MAIL | WMMR) -> None:
    """Errata 15."""
    h = 6 * torch.randn(500, 10, dtype=torch.float64)
    y = torch.randint(10, (500,))
    order = objective.margin(h, y).argsort()
    w = objective.weights(h, y, [])[order]
    assert (w.diff() >= 0).all()
    assert w[-1] > 2 * w[0]


@pytest.mark.parametrize("name", ["gairat", "gairat_shift", "mail", "mail_options", "wmmr"])
def test_weights_grow_as_the_label_loses(name: str) -> None:
    """One sample after another is less sure of its label, in x^ and in one iterate more."""
    h = torch.zeros(6, CLASSES, dtype=torch.float64)
    h[:, 0] = torch.tensor([5.0, 3.0, 1.0, -1.0, -3.0, -5.0])
    y = torch.zeros(6, dtype=torch.int64)
    wrong = torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    right = -wrong
    iterates = [torch.stack([right if i < 5 - k else wrong for i in range(6)]) for k in range(5)]
    w = MADE[name]().weights(h, y, iterates)
    assert (w.diff() > 0).all()


def test_margin_reweighting_lifts_what_is_between_many_classes() -> None:
    """Proposition 1: of two wrong samples with one margin, the less sure has the larger |m~|."""
    p = torch.tensor([[0.3, 0.4, 0.15, 0.15], [0.4, 0.5, 0.05, 0.05]], dtype=torch.float64)
    y = torch.zeros(2, dtype=torch.int64)
    plain, moved = MAIL().margin(p.log(), y), MAIL(tau=2, similarity=False).margin(p.log(), y)
    torch.testing.assert_close(plain[0], plain[1])
    assert moved[0] > moved[1]


@pytest.mark.parametrize("name", ["mail_margin", "wmmr_margin"])
def test_the_reweighted_margin_is_not_monotonic_in_the_margin(name: str) -> None:
    """Errata 16: c takes the margin of a sample that is sure of its label back to 0, as printed."""
    h = torch.zeros(3, CLASSES, dtype=torch.float64)
    h[:, 0] = torch.tensor([20.0, 2.0, -2.0])
    y = torch.zeros(3, dtype=torch.int64)
    sure, right, wrong = MADE[name]().weights(h, y, []).tolist()
    assert right < sure < wrong
    margins = MAIL().margin(h, y)
    assert margins[0] < margins[1] < margins[2]


def test_mail_is_the_printed_forms_in_their_signs() -> None:
    """Errata 15: Eq. 16 of the margin the other way round, and Alg. 1 with the released bias."""
    m = torch.linspace(-1, 1, 21, dtype=torch.float64)
    w = MAIL().of_margin(m)
    torch.testing.assert_close(w, torch.sigmoid(-10 * (-m + 0.5)))
    torch.testing.assert_close(w, torch.sigmoid(10 * (m + -0.5)))


def test_of_right_samples_only_the_printed_signs_meet_the_paper_s_aim() -> None:
    """Errata 16: one margin, -0.2, between two classes and among four; the latter shall weigh more.

    Of wrong samples it is the other way round.
    """
    y = torch.zeros(1, dtype=torch.int64)
    both = [
        torch.tensor([p], dtype=torch.float64).log() for p in ([0.6, 0.4], [0.4, 0.2, 0.2, 0.2])
    ]
    assert [MAIL().margin(h, y).item() for h in both] == pytest.approx([-0.2, -0.2])

    def weights(make: type[MAIL | WMMR], printed: bool) -> list[float]:
        objective = make(tau=2, printed=printed)
        return [round(objective.weights(h, y, []).item(), 4) for h in both]

    assert weights(MAIL, False) == [0.0067, 0.0023]
    assert weights(MAIL, True) == [0.0601, 0.1691]
    assert weights(WMMR, False) == [2.6850, 2.4119]
    assert weights(WMMR, True) == [3.3520, 3.7316]
    m = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    for make in (MAIL, WMMR):
        ours, theirs = make().of_margin(m), make(printed=True).of_margin(m)
        assert ours[0] < ours[1]
        assert theirs[0] > theirs[1]


@pytest.mark.parametrize("objective", [GAIRAT(shift=-300.0), GAIRAT(), EWAT(), EWAT(offset=1.0)])
def test_the_mean_is_one(objective: Reweighted) -> None:
    """Five float64 roundings of a mean of 24; where tanh would round to -1 too."""
    _, y = batch()
    h = torch.randn(24, CLASSES, dtype=torch.float64)
    w = objective.weights(h, y, [h, h])
    assert w.mean().item() == pytest.approx(1, rel=1e-14)


def test_saturated_logits_and_nan() -> None:
    h = torch.tensor([[1000.0, 0, 0, 0], [0, 1000.0, 0, 0]])
    y = torch.tensor([0, 0])
    for name, make in MADE.items():
        w = make().weights(h, y, [h])
        assert w.isfinite().all(), name
        assert w.dtype == torch.float32
    assert EWAT().weights(h, y, []).tolist() == [0, 0]
    h[0, 2] = math.nan
    for name in PROBABLE:
        assert MADE[name]().weights(h, y, [])[0].isnan()


# ------------------------------------------------------------------------------------ the warm-up


@pytest.mark.parametrize("name", MADE)
def test_weights_come_after_the_warm_up(name: str) -> None:
    """Errata 17: t > Omega for t from 1 is epoch >= warmup for epochs from 0."""
    model, (x, y) = network(), batch()
    plain = AdversarialTraining(**ATTACK)(model, x, y)
    at_once = MADE[name](**ATTACK)(model, x, y)
    objective = MADE[name](**ATTACK, warmup=3, epochs=4)
    for epoch in range(5):
        loss = objective(model, x, y, epoch=epoch)
        # The mean may be summed in another order.
        torch.testing.assert_close(loss, plain if epoch < 3 else at_once, rtol=1e-14, atol=0)
    assert (plain - at_once).abs() > 1e-4
    with pytest.raises(ValueError, match="epoch must be the number of the epoch, from 0, where wa"):
        objective(model, x, y)


def test_wrong_options() -> None:
    options: list[tuple[Callable[[], object], str]] = [
        (lambda: MAIL(tau=1), "tau must be an integer of at least 2, got 1"),
        (lambda: MAIL(factor=0), "factor must be finite and greater than 0, got 0"),
        (lambda: MAIL(warmup=-1), "warmup must be an integer of at least 0, got -1"),
        (lambda: EWAT(warmup=3, epochs=3), "warmup must be less than all 3 epochs"),
        (lambda: EWAT(offset=-1), "offset must be finite and at least 0, got -1"),
        (lambda: GAIRAT(shift=math.inf), "shift must be a finite number, got float inf"),
        (lambda: WMMR(alpha=0), "alpha must be finite and greater than 0, got 0"),
        (lambda: WMMR(tau=2, alpha=3.0), "alpha must be left out with tau=2, .* got 3.0"),
        (lambda: AdversarialTraining(start="here"), "start must be one of input, uniform"),
    ]
    for make, sentence in options:
        with pytest.raises(ValueError, match=sentence):
            make()


# --------------------------------------------------------------------------------------- the attack


class Watched(nn.Module):
    """Notes the mode of every pass, and whether weights have a gradient in it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.passes: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((self.training, self.network[0].weight.requires_grad))
        return self.network(x)


@pytest.mark.parametrize("make", [AdversarialTraining, *MADE.values()])
def test_the_attack_is_in_eval_mode_and_weights_cost_no_pass(make: Any) -> None:
    model = Watched()
    make(**ATTACK).backward(model, *batch())
    assert model.passes == [(False, False)] * 5 + [(True, True)]
    assert model.training


@pytest.mark.parametrize("start", ["uniform", "uniform_norm", "gaussian"])
def test_random_starts_are_of_the_default_generator(start: str) -> None:
    objective = MAIL(eps=0.1, steps=2, start=start)
    model, losses = network(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(objective(model, *batch()).item())
    assert losses[0] == losses[1] != losses[2]


def test_under_autocast_the_weights_have_a_gradient() -> None:
    """Autocast keeps the weights it has rounded, and in the attack they have no graph."""
    model, (x, y) = network().float(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = MAIL(**ATTACK).backward(model, x.float(), y)
    assert loss.dtype == torch.float32
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


# --------------------------------------------------------------------------------- the correlation


def test_correlation_is_eq_23() -> None:
    h, y = 3 * torch.randn(50, 10), torch.randint(10, (50,))
    rows = []
    for row, label in zip(h.double().tolist(), y.tolist(), strict=True):
        p = probabilities(row)
        others = [0.0 if k == label else p_k for k, p_k in enumerate(p)]
        dot = sum(a * b for a, b in zip(p, others, strict=True))
        rows.append((1 - p[label], dot / math.hypot(*p) / math.hypot(*others)))
    rate, similarity = (sum(column) / 50 for column in zip(*rows, strict=True))
    above = sum((a - rate) * (b - similarity) for a, b in rows)
    below = math.hypot(*(a - rate for a, _ in rows)) * math.hypot(
        *(b - similarity for _, b in rows)
    )
    assert incorrect_rate_correlation(h, y).item() == pytest.approx(above / below, rel=1e-12)
    for same in (0, 1, 3):
        assert incorrect_rate_correlation(h[:1].expand(same, -1), y[:1].expand(same)).isnan()


def test_the_op_is_what_the_weights_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detached, they come from the compiled op, which reads the logits once."""
    called = []
    inner = ops.probability_margin

    def counted(logits: Tensor, labels: Tensor) -> Any:
        called.append(logits.requires_grad)
        return inner(logits, labels)

    monkeypatch.setattr(ops, "probability_margin", counted)
    for make in (MAIL, EWAT):
        make(**ATTACK).backward(network(), *batch())
        make(**ATTACK, detach=False).backward(network(), *batch())
    assert called == [False, False]
