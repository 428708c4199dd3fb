"""Radius Aware Training: its gradient, its cost, and that it leaves everything else unchanged."""

from __future__ import annotations

import functools
import types
from functools import partial
from typing import Any

import networks
import pytest
import torch
from torch import Tensor, nn

import rrfast
from benchmarks.step_memory import peak

MODES = ("rat", "at", "reverse_at")


network = partial(networks.convolutional, 4)


def batch(samples: int = 32) -> tuple[Tensor, Tensor]:
    return networks.batch((samples, 1, 8, 8), 4)


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def objective_by_hand(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, mode: str
) -> tuple[Tensor, list[Tensor]]:
    """Eq. 12, one thing after the other."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    logits = model(x)
    clean = nn.functional.cross_entropy(logits, y)
    (grad,) = torch.autograd.grad(clean, x, retain_graph=True)
    correct = (logits.argmax(dim=1) == y).double() * 2 - 1
    sign = {
        "rat": correct,
        "at": torch.ones_like(correct),
        "reverse_at": -torch.ones_like(correct),
    }[mode]
    moved = x.detach() + eps * sign[:, None, None, None] * grad.sign()
    loss = clean + nn.functional.cross_entropy(model(moved), y)
    loss.backward()
    return loss.detach(), gradients(model)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_of_the_objective(mode: Any) -> None:
    x, y = batch()
    expected_loss, expected = objective_by_hand(network(), x, y, 0.05, mode)
    objective = rrfast.RAT(eps=0.05, mode=mode)

    model = network()
    loss = objective.backward(model, x, y)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradients(model), expected)

    model = network()
    loss = objective(model, x, y)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected_loss)
    torch.testing.assert_close(gradients(model), expected)


def test_modes_differ() -> None:
    x, y = batch()
    results = [objective_by_hand(network(), x, y, 0.05, mode)[0].item() for mode in MODES]
    assert len(set(results)) == 3


class Counted(nn.Module):
    """Counts the passes through a network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.forwards = self.backwards = 0
        self.network[4].register_full_backward_hook(self.count)

    def count(self, *_: object) -> None:
        self.backwards += 1

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        return self.network(x)


def test_cost() -> None:
    model = Counted()
    rrfast.RAT().backward(model, *batch())
    assert (model.forwards, model.backwards) == (2, 2)
    model = Counted()
    rrfast.RAT()(model, *batch()).backward()
    assert (model.forwards, model.backwards) == (2, 3)


def test_memory() -> None:
    """The first graph goes before the second comes: at most 1.25 of a standard step's peak."""
    model = nn.Sequential(
        *[nn.Conv2d(8, 8, 3, padding=1) for _ in range(6)], nn.Flatten(), nn.Linear(8 * 64, 4)
    )
    x, y = torch.rand(16, 8, 8, 8), torch.randint(4, (16,))
    standard, backward, call = (
        peak(step, torch.device("cpu"))
        for step in (
            lambda: rrfast.objectives.Standard().backward(model, x, y),
            lambda: rrfast.RAT().backward(model, x, y),
            lambda: rrfast.RAT()(model, x, y).backward(),
        )
    )
    assert backward <= 1.25 * standard
    assert call > 1.5 * standard  # so that the measure sees graphs


def test_gradients_accumulate_and_the_input_is_left_alone() -> None:
    model, (x, y) = network(), batch()
    pixels = x.clone()
    rrfast.RAT().backward(model, x, y)
    once = gradients(model)
    rrfast.RAT().backward(model, x, y)
    # In training mode BatchNorm normalises by the batch: the second call sees the same function.
    torch.testing.assert_close(gradients(model), [2 * g for g in once])
    assert torch.equal(x, pixels)
    assert x.grad is None
    assert not x.requires_grad
    assert model.training


def test_zero_eps_is_twice_the_clean_loss() -> None:
    model, (x, y) = network(), batch()
    loss = rrfast.RAT(eps=0.0).backward(model, x, y)
    torch.testing.assert_close(loss, 2 * nn.functional.cross_entropy(network()(x), y).detach())


def test_batch_norm_policies() -> None:
    (x, y), stats = batch(), {}
    for policy in ("both", "clean"):
        model = network()
        rrfast.RAT(eps=0.3, batch_norm=policy).backward(model, x, y)
        stats[policy] = (model[1].num_batches_tracked.item(), model[1].running_mean.clone())
        assert model[1].track_running_stats
    once = network()
    once(x)
    assert stats["both"][0] == 2
    assert stats["clean"][0] == 1
    assert torch.equal(stats["clean"][1], once[1].running_mean)
    assert not torch.equal(stats["both"][1], once[1].running_mean)


def test_batch_norm_of_a_method_and_of_a_partial_is_seen() -> None:
    x, y = batch()
    for made in (lambda m: m.forward, functools.partial):
        model = network()
        rrfast.RAT(batch_norm="clean").backward(made(model), x, y)
        assert model[1].num_batches_tracked == 1


def test_autocast_keeps_nothing_of_the_pass_without_grad() -> None:
    """What it keeps there has no graph in older torch, and the weights would get no gradient."""
    model, (x, y) = network().float(), batch()
    kept = []
    model.register_forward_pre_hook(
        lambda *_: kept.append((torch.is_grad_enabled(), torch.is_autocast_cache_enabled()))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rrfast.RAT(eps=0.05, mixup=1.0).backward(model, x.float(), y)
        assert torch.is_autocast_cache_enabled()
    assert kept == [(False, False), (True, True), (True, True)]
    assert len(gradients(model)) == len(list(model.parameters()))


def test_with_a_scaler() -> None:
    model, (x, y) = network(), batch()
    rrfast.RAT(eps=0.05).backward(model, x, y)
    expected = gradients(model)
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    rrfast.RAT(eps=0.05).backward(model, x, y, backward=scaler)
    torch.testing.assert_close(gradients(model), [8 * g for g in expected])


def test_overflow_under_a_scaler_passes() -> None:
    """The first steps of mixed precision overflow; the scaler skips them and nothing stays."""
    model, (x, y) = network().float(), batch()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    skipped = 0
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            rrfast.RAT(eps=0.05).backward(model, x.float(), y, backward=scaler)
        skipped += any(not g.isfinite().all() for g in gradients(model))
        scaler.step(optimizer)
        scaler.update()
    assert 0 < skipped < 30
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_with_a_backward_of_ones_own() -> None:
    model, (x, y) = network(), batch()
    losses = []

    def backward(loss: Tensor) -> None:  # as fabric.backward
        losses.append(loss.item())
        loss.backward()

    total = rrfast.RAT().backward(model, x, y, backward=backward)
    assert len(losses) == 2
    assert total.item() == pytest.approx(sum(losses))


def test_criterion_bounds_and_scale() -> None:
    model, (x, y) = network(), batch()
    seen = []
    handle = model.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach().clone())
    )
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
    rrfast.RAT(eps=0.5, criterion=smoothed, bounds=(0, 1), scale=torch.tensor([2.0])).backward(
        model, x, y
    )
    handle.remove()
    clean, moved = seen
    assert torch.equal(clean, x)
    assert ((moved == 0) | (moved == 1)).all()  # a step of 1 from anywhere in [0, 1], clamped


def test_under_autocast() -> None:
    model, (x, y) = network(), batch()
    rrfast.RAT(eps=0.05).backward(model, x, y)
    exact = torch.cat([g.flatten() for g in gradients(model)])
    model = network().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = rrfast.RAT(eps=0.05).backward(model, x.float(), y)
    assert loss.dtype == torch.float32
    grads = torch.cat([g.flatten() for g in gradients(model)])
    assert grads.dtype == torch.float32
    # bfloat16 has a relative error of 2^-8 per operation, and a few operations follow each other.
    assert (grads - exact).norm() < 0.05 * exact.norm()


def test_a_compiled_model() -> None:
    model, (x, y) = network(), batch()
    rrfast.RAT(eps=0.05).backward(model, x, y)
    expected = gradients(model)
    model = network()
    rrfast.RAT(eps=0.05).backward(torch.compile(model, backend="aot_eager"), x, y)
    torch.testing.assert_close(gradients(model), expected)


def test_outputs_with_logits() -> None:
    model, (x, y) = network(), batch()
    loss = rrfast.RAT(eps=0.05).backward(lambda t: types.SimpleNamespace(logits=model(t)), x, y)
    torch.testing.assert_close(loss, rrfast.RAT(eps=0.05).backward(network(), x, y))


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"eps": -1.0}, ValueError, "eps must be finite and at least 0, got -1.0"),
        ({"eps": "1"}, TypeError, "eps must be a number, got str '1'"),
        (
            {"mode": "mixup"},
            ValueError,
            "mode must be one of rat, at, reverse_at, got 'mixup'",
        ),
        ({"mode": ["at"]}, ValueError, r"mode must be one of .*, got \['at'\]"),
        ({"batch_norm": "none"}, ValueError, "batch_norm must be one of both, clean, got 'none'"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        rrfast.RAT(**options)
