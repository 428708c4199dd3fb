"""`rrfast.train.fit`: what a step sees, what it costs, and how it says that something is wrong."""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

pytest.importorskip("lightning_fabric")

from rrfast.attacks import PGD
from rrfast.data import Split
from rrfast.metrics import aurc
from rrfast.objectives import RAT, Mixup, Objective, OpenMix, Standard
from rrfast.scores import SCORES
from rrfast.train import (
    Augment,
    Fitted,
    NonFiniteLossError,
    Training,
    ValidationAttack,
    fit,
    make_fabric,
)
from rrfast.train.batches import Loader, Plan
from rrfast.train.checkpoint import Checkpoint
from rrfast.train.checks import Losses
from rrfast.train.log import Bar
from rrfast.train.precision import AutocastPrecision
from rrfast.train.schedule import make_optimizer, make_schedule

CLASSES = 4
STEPS = {"schedule": "steps"}


def images(n: int = 48, seed: int = 1) -> Split:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 8, 8, generator=generator)
    return Split(x, (x.mean(dim=(1, 2, 3)) * 97).long() % CLASSES)


def network(classes: int = CLASSES, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))


def settings(**options: Any) -> Training:
    plain = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05, "warmup_epochs": 0.5}
    return Training(**plain | options)


def quiet(model: nn.Module, train: Any = None, **options: Any) -> Fitted:
    options.setdefault("training", settings())
    return fit(model, images() if train is None else train, console=Console(quiet=True), **options)


def weights(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def listing(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# ------------------------------------------------------------------------------------ what it sees


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (1, 4), (2, 2)])
def test_every_image_is_seen_once_in_an_epoch(world: int, accumulate: int) -> None:
    training = settings(accumulate=accumulate)
    one = Plan(48, settings())
    plans = [Plan(48, training, world=world, rank=rank) for rank in range(world)]
    for epoch in range(2):
        joint = [torch.cat(share.indices) for share in one.epoch(epoch)]
        assert torch.cat(joint).sort().values.tolist() == list(range(48))
        shares = [plan.epoch(epoch) for plan in plans]
        for step, batch in enumerate(joint):
            parts = [places for plan in shares for places in plan[step].indices]
            assert torch.equal(torch.cat(parts), batch)  # in its order, and so disjoint
            assert {len(part) for part in parts} == {16 // world // accumulate}


@pytest.mark.parametrize(
    ("n", "world", "accumulate", "sizes"),
    [
        (20, 1, 1, [16, 4]),
        (17, 1, 1, [16]),  # BatchNorm cannot be trained on one image
        (23, 2, 1, [16, 6]),
        (21, 2, 2, [16]),
        (27, 2, 2, [16, 8]),
        (10, 1, 4, [8]),
    ],
)
def test_an_incomplete_last_batch_is_cut(
    n: int, world: int, accumulate: int, sizes: list[int]
) -> None:
    plans = [Plan(n, settings(accumulate=accumulate), world=world, rank=r) for r in range(world)]
    assert {plan.steps for plan in plans} == {len(sizes)}
    shares = [plan.epoch(0) for plan in plans]
    seen = [torch.cat([p for plan in shares for p in plan[i].indices]) for i in range(len(sizes))]
    assert [len(places) for places in seen] == sizes
    assert len(torch.cat(seen).unique()) == sum(sizes)
    for plan in shares:
        assert {len(places) for share in plan for places in share.indices} == {
            size // world // accumulate for size in sizes
        }


def test_a_batch_of_single_images_is_what_was_asked_for() -> None:
    assert Plan(3, settings(batch_size=1)).steps == 3


def test_epochs_and_seeds_are_dealt_anew() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        shares = Plan(48, settings(seed=seed)).epoch(epoch)
        return torch.cat([p for share in shares for p in share.indices]).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_a_plan_goes_on_where_it_was() -> None:
    plan = Plan(48, settings())
    whole, rest = plan.epoch(1), plan.epoch(1, first=2)
    assert [share.step for share in rest] == [2]
    assert torch.equal(rest[0].indices[0], whole[2].indices[0])


def test_a_batch_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of 6, which are 2 proc"):
        Plan(48, settings(accumulate=3), world=2)


def test_a_share_is_read_the_same_whatever_was_read_before() -> None:
    data = images()
    training = settings(augment=Augment(padding=2, flip=True))
    shares = Plan(48, training).epoch(0)
    loader = Loader(data, training, torch.device("cpu"), 0)
    whole, alone = list(loader(shares))[2], next(loader(shares[2:]))
    assert torch.equal(whole[0][0], alone[0][0])
    plain = data.x[shares[2].indices[0]]
    assert not torch.equal(whole[0][0], plain)
    other = next(Loader(data, training, torch.device("cpu"), 1)(shares[2:]))
    assert not torch.equal(whole[0][0], other[0][0])


class Read:
    """Images that are read one by one, and counted."""

    def __init__(self, data: Split) -> None:
        self.data, self.y, self.reads = data, data.y, 0

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        return self.data.x[index], int(self.data.y[index])


def test_images_read_one_by_one_are_those_of_a_split() -> None:
    data, training = images(), settings(augment=Augment(padding=1))
    one, other = network(), network()
    quiet(one, data, training=training)
    quiet(other, Read(data), training=training)
    assert all(map(torch.equal, weights(one), weights(other)))


class Drawn(Read):
    """Images that are changed at random where they are read, as others' transforms do."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        x = x + 0.1 * torch.randn(x.shape) + random.random() + np.random.rand()  # noqa: NPY002
        return x.float(), y


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_data_set_draws_is_decided_by_the_seed(tmp_path: Path, workers: int) -> None:
    """Begun with another global state, and killed in an epoch: as if it had not been."""
    data, training = Drawn(images()), settings(checkpoint_steps=2, workers=workers)
    options = {"objective": Standard(), "training": training}
    torch.manual_seed(3)
    whole = quiet(Interrupted(), data, **options)
    torch.manual_seed(4)
    with pytest.raises(KeyboardInterrupt):
        quiet(Interrupted(6), data, out=tmp_path, **options)
    state = torch.get_rng_state(), random.getstate()
    with pytest.warns(RuntimeWarning, match="train, whose images are read by test_train.Drawn"):
        again = quiet(Interrupted(), data, out=tmp_path, resume=True, **options)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert all(map(torch.equal, weights(whole.model), weights(again.model)))
    shares = Plan(48, training).epoch(0), Plan(48, training).epoch(1)
    loader = Loader(data, training, torch.device("cpu"), 0)
    changes = []
    for share in shares:
        places = torch.cat([s.indices[0] for s in share])
        seen = torch.cat([x for [(x, _)] in loader(share)])
        changes.append((seen - data.data.x[places])[places.argsort()])
    # Other draws for every image, and in every epoch.
    assert len(torch.cat(changes).flatten(1)[:, 0].unique()) == 2 * 48


def test_validation_holds_one_batch_at_a_time() -> None:
    """50,000 images of ImageNet do not fit anywhere."""
    data = Read(images(40))
    reads = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                reads.append(data.reads)
            return self.network(x)

    quiet(Watched(), validation=data, training=settings(epochs=1, validation_batch=10))
    # One image first, to see that the model takes it.
    assert sorted(set(reads)) == [0, 1, 11, 21, 31, 41]


# ------------------------------------------------------------------------------ steps and schedule


@pytest.mark.parametrize("n", [48, 44])
@pytest.mark.parametrize("objective", [Standard(), RAT(eps=0.05), RAT(eps=0.05, steps=3)])
def test_accumulated_batches_are_one(n: int, objective: Objective) -> None:
    """Gradients are summed in another order: 1e-6, as asked for, is a hundred times what comes."""
    models = []
    for accumulate in (1, 4):
        model = network()
        training = settings(accumulate=accumulate, precision="64-true", clip_norm=1.0)
        fitted = quiet(model, images(n), objective=objective, training=training)
        models.append((weights(model), fitted.history[-1]["loss"]))
    for mine, theirs in zip(models[0][0], models[1][0], strict=True):
        assert mine.dtype == torch.float64
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    assert models[0][1] == pytest.approx(models[1][1], abs=1e-6)


def rates(training: Training, steps: int) -> list[float]:
    optimizer = make_optimizer(network(), training)
    schedule = make_schedule(optimizer, training, steps)
    seen = []
    for _ in range(training.epochs * steps + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("epochs", "steps", "epochs_of_warmup", "rise"),
    [
        (20, 2, None, 4),
        (80, 1, None, 5),
        (4, 5, 1, 5),
        (4, 5, 0.5, 2),
        (3, 4, 0, 0),
        (3, 4, 0.1, 0),
        (2, 3, 9, 5),
        (1, 1, 5, 0),
    ],
)
def test_the_rate_rises_and_falls_as_said(
    epochs: int, steps: int, epochs_of_warmup: float | None, rise: int
) -> None:
    whole = epochs * steps
    expected = [0.3 * (step + 1) / (rise + 1) for step in range(rise)]
    expected += [
        0.3 * (1 + math.cos(math.pi * step / (whole - rise))) / 2
        for step in range(whole - rise + 1)
    ]
    training = settings(epochs=epochs, warmup_epochs=epochs_of_warmup, learning_rate=0.3)
    seen = rates(training, steps)
    # The schedule multiplies its way down: an error of some eps per step.
    assert seen == pytest.approx(expected, abs=1e-14)
    assert seen[-1] == 0


@pytest.mark.parametrize(
    ("milestones", "expected"),
    [
        ((3, 5), [1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ((1,), [1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ((7, 9), [1] * 7),
        ((), [1] * 7),
        (None, [0.1**epoch for epoch in range(7)]),
    ],
)
@pytest.mark.parametrize("warmup", [0, 1])
def test_the_rate_falls_at_milestones(
    milestones: tuple[int, ...] | None, expected: list[float], warmup: int
) -> None:
    """Of each epoch's last step: the warm-up is over there, and moves no milestone."""
    training = settings(
        epochs=7, warmup_epochs=warmup, schedule="steps", milestones=milestones, learning_rate=1
    )
    seen = rates(training, steps=4)
    expected[0] = 1 if warmup == 0 else 0.8
    assert seen[3:28:4] == pytest.approx(expected, rel=1e-12)
    assert seen[4 * warmup : 28 : 4] == pytest.approx(
        [1.0, *expected[1:]][warmup:], rel=1e-12
    )  # and of its first step


def test_weight_decay_on_weights_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    before = [p.detach().clone() for p in model.parameters()]
    training = settings(
        optimizer="sgd", learning_rate=0.5, weight_decay=0.1, weight_decay_on="weights", momentum=0
    )
    optimizer = make_optimizer(model, training)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), old * (0.95 if old.ndim > 1 else 1))


def test_adam_has_its_weight_decay_in_the_gradient() -> None:
    """Adam's first step is the rate times the sign of the gradient, decay and all."""
    model = nn.Linear(1, 2, bias=False)
    old = torch.tensor([[2.0], [-1.0]])
    model.load_state_dict({"weight": old})
    training = settings(optimizer="adam", learning_rate=1e-3, weight_decay=0.1)
    optimizer = make_optimizer(model, training)
    model.weight.grad = torch.zeros_like(old)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), old - 1e-3 * old.sign(), atol=1e-7, rtol=0)


def test_sgd_steps_at_the_rates_of_the_schedule(tmp_path: Path) -> None:
    """Two steps by hand: the first at half of the rate, with momentum and weight decay."""
    data = images(16)
    training = settings(epochs=3, batch_size=16, warmup_epochs=1, weight_decay=0.1)
    model, by_hand = network(), network()
    fitted = quiet(model, data, objective=Standard(), training=training, out=tmp_path)
    # One step to rise, two to fall; one batch per epoch, so that its order is no matter.
    rate = [0.05 / 2, 0.05, 0.05 * (1 + math.cos(math.pi / 2)) / 2]
    velocity = [torch.zeros_like(p) for p in by_hand.parameters()]
    for step in range(3):
        loss = nn.functional.cross_entropy(by_hand(data.x), data.y)
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for p, v, g in zip(by_hand.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(g + 0.1 * p)
                p.sub_(rate[step] * v)
        assert fitted.history[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(list(model.parameters()), list(by_hand.parameters()))
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # What is logged is the rate after the epoch: 0 at the end.
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([*rate[1:], 0])
    assert all(float(row["ms_per_step"]) > 0 for row in rows)
    assert list(rows[0]) == ["epoch", "learning_rate", "loss", "ms_per_step"]


def test_clipped_gradients_have_the_norm() -> None:
    """One step of plain SGD moves the weights by the rate times the norm."""
    model, before = network(), network()
    training = settings(
        epochs=1, batch_size=48, momentum=0, weight_decay=0, warmup_epochs=0, clip_norm=1e-3
    )
    quiet(model, training=training)
    moved = torch.cat(
        [(a - b).flatten() for a, b in zip(weights(model), weights(before), strict=True)]
    )
    assert float(moved.norm()) == pytest.approx(0.05 * 1e-3, rel=1e-2)


# ---------------------------------------------------------------------------------- random numbers


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    states = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # it is this that must not be touched
        random.seed(seed)
        before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
        model = nn.Sequential(network(), nn.Dropout(0.2))
        training = settings(augment=Augment(), threads=1)
        quiet(model, objective=RAT(mixup=1.0), validation=images(20), training=training)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
        assert random.getstate() == before[2]
        states.append(weights(model))
    assert all(map(torch.equal, *states))


def test_threads_are_set_back() -> None:
    before = torch.get_num_threads()
    quiet(network(), training=settings(epochs=1, threads=before + 1))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "what", ["order", {"augment": Augment(padding=2)}, Mixup(), nn.Dropout(0.5)]
)
def test_seeds_decide(what: Any) -> None:
    """Alike with one seed, not with two: order, crops, what an objective and layers draw."""
    options = what if isinstance(what, dict) else {}
    # A single batch: its order alone changes no more than last bits.
    size = 16 if what == "order" else 48
    states = []
    for seed in (5, 5, 6):
        model = network()
        if isinstance(what, nn.Module):
            model.append(what)
        objective = what if isinstance(what, Mixup) else Standard()
        training = settings(seed=seed, batch_size=size, learning_rate=0.5, **options)
        quiet(model, objective=objective, training=training)
        states.append(torch.cat([value.flatten() for value in weights(model)]))
    assert torch.equal(states[0], states[1])
    assert (states[0] - states[2]).abs().max() > 1e-3


# -------------------------------------------------------------------------------- losses not finite


def poisoned(n: int = 48) -> tuple[Split, int]:
    """Images, one of which is NaN, and its index."""
    data = images(n)
    data.x[29] = math.nan
    return data, 29


def where(training: Training, place: int, n: int = 48) -> tuple[int, Tensor]:
    """Step of epoch 0 that sees an image, and its whole batch."""
    for share in Plan(n, training).epoch(0):
        places = torch.cat(share.indices)
        if place in places:
            return share.step, places
    raise AssertionError


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_is_named_and_kept(tmp_path: Path, accumulate: int) -> None:
    data, place = poisoned()
    training = settings(accumulate=accumulate, augment=Augment(padding=1, flip=False), seed=2)
    step, places = where(training, place)
    assert step > 0
    model = network()
    with pytest.raises(NonFiniteLossError, match=rf"loss was nan in epoch 0, step {step} \(from 0"):
        quiet(model, data, objective=Standard(), training=training, out=tmp_path)
    state = torch.load(tmp_path / "nonfinite_0.pt")
    assert (state["epoch"], state["step"]) == (0, step)
    assert torch.equal(state["places"], places)
    assert torch.equal(state["y"], data.y[places])
    share = Plan(48, training).epoch(0)[step]
    seen = next(Loader(data, training, torch.device("cpu"), 0)([share]))
    assert torch.equal(state["x"].nan_to_num(7), torch.cat([x for x, _ in seen]).nan_to_num(7))
    assert not torch.equal(state["x"].nan_to_num(7), data.x[places].nan_to_num(7))
    # Not updated by it: what the steps before it made.
    assert all(value.isfinite().all() for value in weights(model))
    assert not torch.equal(weights(model)[0], weights(network())[0])


def test_a_loss_that_is_not_finite_without_a_folder() -> None:
    data, _ = poisoned()
    with pytest.raises(NonFiniteLossError, match=r"nowhere, since there is no folder to write to"):
        quiet(network(), data)


@pytest.mark.parametrize("look", [2, 3, 50])
def test_looking_seldom_names_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    seldom(monkeypatch, look)
    data, place = poisoned()
    for seed in (0, 1, 2):
        training = settings(seed=seed, batch_size=8)
        step, places = where(training, place)
        with pytest.raises(NonFiniteLossError, match=rf"epoch 0, step {step} \(from 0"):
            quiet(network(), data, training=training, out=tmp_path / f"{seed}")
        state = torch.load(tmp_path / f"{seed}" / "nonfinite_0.pt")
        assert torch.equal(state["places"], places)
        assert not (tmp_path / f"{seed}" / "checkpoint.pt").exists()


def seldom(monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    """Look at the loss as on a GPU."""
    init = Losses.__init__

    def waiting(self: Losses, *arguments: Any) -> None:
        init(self, *arguments)
        self.look = look

    monkeypatch.setattr(Losses, "__init__", waiting)


def test_looking_seldom_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = network(), network()
    training = settings(checkpoint_steps=2)
    often = quiet(model, training=training, out=tmp_path / "often")
    seldom(monkeypatch, 50)
    rarely = quiet(other, training=training, out=tmp_path / "rarely")
    assert all(map(torch.equal, weights(model), weights(other)))
    for a, b in zip(often.history, rarely.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)


def test_an_infinite_gradient_of_a_finite_loss_is_found_at_the_next_loss() -> None:
    """Clipping must not stop there: for 16-bit training it is nothing unusual."""

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return (self.linear(x.flatten(1)) * 0).sqrt()

    with pytest.raises(NonFiniteLossError, match=r"epoch 0, step 1 "):
        quiet(Root(), objective=Standard(), training=settings(clip_norm=1.0))


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    """No loss comes after the last step to say so."""

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return (self.linear(x.flatten(1)) * 0).sqrt()

    sentence = r"the loss was finite and the weights after it are not in epoch 0, step {} \(from 0"
    for name, step, options in (
        ("at the end", 0, {"batch_size": 48}),
        ("in an epoch", 0, {"checkpoint_steps": 1}),
    ):
        out, training = tmp_path / name, settings(epochs=1, **options)
        with pytest.raises(NonFiniteLossError, match=sentence.format(step)):
            quiet(Root(), objective=Standard(), training=training, out=out)
        assert [path.name for path in out.iterdir()] == ["nonfinite_0.pt"]
        places = torch.load(out / "nonfinite_0.pt")["places"]
        assert torch.equal(places, Plan(48, training).epoch(0)[step].indices[0])


# ------------------------------------------------------------------------------------ the sentences


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of two, then interrupted."""
    out = tmp_path_factory.mktemp("begun")
    with pytest.raises(KeyboardInterrupt):
        quiet(Interrupted(6), out=out, training=settings(checkpoint_steps=2), objective=Standard())
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pt", "log.csv"]
    return out


class Interrupted(nn.Module):
    """Ctrl-C in a training pass; its weights have the names of `network()`'s behind "network."."""

    def __init__(self, at: int | None = None, classes: int = CLASSES) -> None:
        super().__init__()
        self.network, self.left = network(classes), at

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.network(x)


def resumed(begun: Path, folder: Path, **options: Any) -> tuple[Path, Fitted]:
    out = folder / "out"
    out.mkdir()
    for name, content in listing(begun).items():
        (out / name).write_bytes(content)
    options = {"model": Interrupted(), "objective": Standard()} | options
    return out, quiet(options.pop("model"), out=out, resume=True, **options)


def test_resumed_is_as_if_it_had_not_been(begun: Path, tmp_path: Path) -> None:
    """Also with another number of steps between two checkpoints, and another model object."""
    whole = Interrupted()
    first = quiet(whole, objective=Standard())
    _, again = resumed(begun, tmp_path)
    assert all(map(torch.equal, weights(whole), weights(again.model)))
    assert [{**row, "ms_per_step": 0} for row in first.history] == [
        {**row, "ms_per_step": 0} for row in again.history
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"model": Interrupted(classes=5)},
            r"is of another model, or not as it was written: Error.* Resume",
        ),
        ({"model": network()}, "is of another model"),
        (
            {"training": settings(learning_rate=0.1)},
            r"learning_rate is 0.05 there and 0.1",
        ),
        ({"training": settings(epochs=3)}, "training.epochs is 2 there and 3 here"),
        ({"training": settings(optimizer="adamw")}, "training.optimizer is 'sgd' there"),
        ({"objective": RAT()}, "objective.name is Standard there and RAT here"),
        (
            {"objective": Standard(nn.CrossEntropyLoss(label_smoothing=0.1))},
            r"criterion is .*cross_entropy there and .*CrossEntropyLoss\(.*smoothing=0\.1",
        ),
        ({"train": images(32)}, "train.images is 48 there and 32 here"),
        ({"train": images(seed=2)}, "train.pixels is sha256:[0-9a-f]{16} there and sha256:"),
        ({"validation": images(20)}, "validation.images is None there and 20 here"),
    ],
)
def test_a_checkpoint_of_another_training(
    begun: Path, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        resumed(begun, tmp_path, **options)
    assert listing(tmp_path / "out") == listing(begun)


@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "a list", "of weights"])
def test_a_file_that_is_no_checkpoint(begun: Path, tmp_path: Path, kind: str) -> None:
    content = (begun / "checkpoint.pt").read_bytes()
    path = tmp_path / "checkpoint.pt"
    if kind == "a list":
        torch.save([1], path)
    elif kind == "of weights":
        torch.save(network().state_dict(), path)
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-300], "text": b"epoch"}[kind])
    before = listing(tmp_path)
    sentence = {"a list": "must hold a dict, and holds list", "of weights": "it lacks"}.get(
        kind, r"checkpoint.pt cannot be read as a file of torch.* Delete it to begin anew"
    )
    with pytest.raises(ValueError, match=sentence):
        quiet(network(), out=tmp_path, resume=True)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model", {"network.0.weight": 3}),
        ("model", {1: torch.ones(2)}),
        ("model", [1]),
        ("optimizer", {}),
        ("optimizer/state", 3),
        ("optimizer/param_groups", [{}]),
        ("schedule", None),
        ("identity", 3),
        ("identity", {"training": 3}),
        ("identity/objective", [1]),
        ("format", 1),
        ("steps", "many"),
        ("progress", {"epoch": "one"}),
        ("progress/epoch", 7),
        ("progress/step", 3),
        ("progress/step", -1),
        ("progress/history", [1]),
    ],
)
def test_a_checkpoint_that_somebody_changed(
    begun: Path, tmp_path: Path, path: str, value: object
) -> None:
    """With sums that fit: a sentence, and nothing is written."""
    state = torch.load(begun / "checkpoint.pt")
    *parts, last = path.split("/")
    inner = state
    for part in parts:
        inner = inner[part]
    inner[last] = value
    torch.save(state, tmp_path / "checkpoint.pt")
    before = listing(tmp_path)
    sentence = (
        r"checkpoint\.pt is (of another|of a|no checkpoint of a) (model, or not|traini|version)"
    )
    with pytest.raises(ValueError, match=sentence):
        quiet(Interrupted(), out=tmp_path, objective=Standard(), resume=True)
    assert listing(tmp_path) == before


def test_a_second_run_into_the_folder_is_refused(tmp_path: Path) -> None:
    """Begun in the middle of the first, with another seed: the files stay of the first."""
    alone, said = network(), []

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.passes = network(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += self.training
            if self.passes in (1, 5) and self.training:  # before there is a checkpoint, and after
                for resume in (False, True):
                    with pytest.raises(BlockingIOError) as refused:
                        quiet(
                            network(),
                            out=tmp_path,
                            resume=resume,
                            training=settings(seed=1),
                            beside={"recipe.yaml": "seed 1"},
                        )
                    said.append(str(refused.value))
            return self.network(x)

    model = Twice()
    quiet(model, out=tmp_path, objective=Standard(), beside={"recipe.yaml": "seed 0"})
    assert len(said) == 4
    assert all(f"{tmp_path} is being written by another run, process " in each for each in said)
    quiet(alone, objective=Standard())
    assert all(map(torch.equal, weights(alone), weights(model)))
    assert (tmp_path / "recipe.yaml").read_text() == "seed 0"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint.pt", "last.pt", "log.csv", "recipe.yaml"]


def test_a_full_disk_is_said_and_the_training_goes_on_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again, left, synced = network(), network(), [12], os.fsync

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    training = settings(checkpoint_steps=1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device\. Its old cont"):
        quiet(network(), out=tmp_path, objective=Standard(), training=training)
    progress = torch.load(tmp_path / "checkpoint.pt")["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 2)
    monkeypatch.setattr(os, "fsync", synced)
    quiet(again, out=tmp_path, objective=Standard(), training=training, resume=True)
    quiet(whole, objective=Standard(), training=training)
    assert all(map(torch.equal, weights(whole), weights(again)))


def test_a_folder_with_a_training_is_not_begun_anew(begun: Path) -> None:
    before = listing(begun)
    with pytest.raises(FileExistsError, match=r"holds a training already: resume it, or give ano"):
        quiet(Interrupted(), out=begun, objective=Standard())
    assert listing(begun) == before


def test_resuming_nothing_begins(tmp_path: Path) -> None:
    one, other = network(), network()
    quiet(one)
    quiet(other, out=tmp_path / "new", resume=True)
    assert all(map(torch.equal, weights(one), weights(other)))


def test_resuming_what_is_over_does_nothing(tmp_path: Path) -> None:
    model = Interrupted()
    first = quiet(model, out=tmp_path, validation=images(20))
    before = listing(tmp_path)
    again = quiet(Interrupted(1), out=tmp_path, validation=images(20), resume=True)
    assert again.history == first.history
    assert again.best_epoch == first.best_epoch
    assert all(map(torch.equal, weights(model), weights(again.model)))
    assert listing(tmp_path) == before


def test_resume_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="resume needs out, the folder with the checkpoint"):
        quiet(network(), resume=True)


def labelled(label: int) -> Split:
    data = images()
    data.y[5] = label
    return data


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"train": labelled(4)}, r"train.y must be labels of 4 classes, .* has 4 in row 5"),
        ({"train": labelled(-1)}, r"train.y must be labels of 4 classes, .* has -1 in row 5"),
        ({"validation": labelled(9)}, "validation.y must be labels of 4 classes"),
        (
            {"objective": OpenMix(torch.rand_like), "train": labelled(3)},
            "train.y must be labels of 3 classes",
        ),
        (
            {
                "objective": Standard(nn.CrossEntropyLoss(ignore_index=-1)),
                "train": Split(images().x, images().y.masked_fill(images().y == 3, -1)),
            },
            r"train must be images with labels, and \d+ have -1, which objective.criterion leaves",
        ),
        ({"train": images(0)}, "train must have .* a whole batch of [0-9]+, got 0"),
        ({"train": images(1)}, "train must have .* a whole batch of [0-9]+, got 1"),
        ({"validation": images(0)}, "validation must hold at least one image, got none"),
        (
            {"train": Split(torch.rand(48, 1, 9, 9), images().y)},
            r"model must take images of shape \[1, 9, 9\], as train has them: mat1 and mat2",
        ),
        (
            {"train": Split(torch.rand(48, 3, 8, 8), images().y)},
            r"model must take images of shape \[3, 8, 8\], as train has them: .*channels",
        ),
        (
            {"validation": Split(torch.rand(20, 1, 9, 9), images(20).y)},
            r"model must take images of shape \[1, 9, 9\], as validation has them: mat1",
        ),
        (
            {"train": Split(torch.rand(40, 1, 8, 8), images().y)},
            "data must have a label per image, and has 40 images and 48 labels",
        ),
        (
            {"objective": Standard(nn.CrossEntropyLoss(reduction="none"))},
            r"objective.criterion must return a scalar, .* got a float32 tensor of shape \[1\]",
        ),
        ({"model": network().requires_grad_(False)}, "model must have parameters that require a g"),
        ({"training": settings(batch_size=9, accumulate=2)}, "batch_size must be a multiple of 2"),
    ],
)
def test_wrong_arguments(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        quiet(options.pop("model", network()), out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_is_asked_for_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        quiet(network(), training=settings(tensorboard=True), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_are_integers_of_any_kind(dtype: torch.dtype) -> None:
    data, one, other = images(), network(), network()
    for model, y in ((one, data.y), (other, data.y.to(dtype))):
        quiet(model, Split(data.x, y), validation=Split(data.x, y))
    assert all(map(torch.equal, weights(one), weights(other)))


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=r"out must be a folder, and .* is a file: give"):
        quiet(network(), out=path)
    with pytest.raises(
        NotADirectoryError, match=re.escape(f"'{path / 'below'}' cannot be: {path}")
    ):
        quiet(network(), out=path / "below")
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_disk_that_is_full_leaves_what_was_there(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        resumed(begun, tmp_path)
    assert listing(tmp_path / "out") == listing(begun)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be an integer of at least 1, got 0"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be an integer of at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"learning_rate": math.nan}, "learning_rate must be finite and at least 0, got nan"),
        ({"clip_norm": -1.0}, "clip_norm must be finite and greater than 0"),
        ({"clip_norm": 0}, "clip_norm must be finite and greater than 0, got 0"),
        ({"validation_score": "mrs"}, "validation_score must be one of .*, got 'mrs'"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, adamw, got 'lion'"),
        ({"optimizer": "adam", "nesterov": True}, "momentum and nesterov are of optimizer='sgd'"),
        ({"optimizer": "adamw", "momentum": 0.5}, "are of optimizer='sgd', got 'adamw'"),
        (
            {"schedule": "step"},
            "schedule must be one of cosine, steps, got 'step'; did you",
        ),
        ({"milestones": (3,)}, "milestones and milestone_factor are of schedule='steps', got 'cos"),
        ({"milestone_factor": 0.5}, "milestones and milestone_factor are of schedule='steps'"),
        ({**STEPS, "milestones": (3, 3)}, r"milestones must rise, from at least 1, got \(3, 3\)"),
        ({**STEPS, "milestones": (0, 3)}, r"milestones must rise, from at least 1, got \(0, 3\)"),
        ({**STEPS, "milestones": (1.5,)}, r"milestones must be a tuple of integers or None, got"),
        ({**STEPS, "milestones": 3}, r"milestones must be a tuple of integers or None, got int 3"),
        ({**STEPS, "milestone_factor": 2}, "milestone_factor must be from 0 to 1, got 2"),
        ({"epochs": 1.5}, "epochs must be an integer, got 1.5"),
        ({"epochs": "3"}, "epochs must be an integer, got '3'"),
        ({"batch_size": None}, "batch_size must be an integer, got None"),
        ({"augment": {"padding": 2}}, "augment must be an Augment or None, got dict"),
        ({"validation_attack": "pgd"}, "validation_attack must be a ValidationAttack or None, got"),
    ],
)
def test_wrong_settings(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        settings(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"objective": "rat"}, "objective must be an Objective, .* got str 'rat'"),
        ({"objective": RAT}, "objective must be an Objective, such as rrfast.RAT.., got ABCMeta"),
        ({"train": []}, "train must be an rrfast.data.Split.x, y., .* got list"),
        ({"train": tuple(images())}, "train must be an rrfast.data.Split.x, y., .* got tuple"),
        ({"validation": tuple(images())}, "validation must be an rrfast.data.Split"),
    ],
)
def test_what_is_no_objective_and_no_data(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        quiet(network(), **options)


def test_no_data_get_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"train must be an rrfast.data.Split.* got NoneType None"):
        fit(network(), None, training=settings(), console=Console(quiet=True))


# -------------------------------------------------------------------------------- the best weights


@pytest.mark.parametrize("score", ["msr", "radius_fast"])
def test_best_is_the_epoch_of_the_lowest_aurc(tmp_path: Path, score: str) -> None:
    validation = images(60, seed=9)
    training = settings(epochs=5, validation_score=score, validation_batch=17, learning_rate=0.3)
    fitted = quiet(network(), validation=validation, training=training, out=tmp_path)
    column = [row["validation_aurc"] for row in fitted.history]
    assert fitted.best_epoch == column.index(min(column))
    model = network().eval()
    model.load_state_dict(torch.load(tmp_path / "best.pt"))
    right = model(validation.x).argmax(dim=1) == validation.y
    # Another size of the batch: scores differ in their last bits, and could tie another way.
    assert aurc(SCORES[score](model, validation.x), right) == pytest.approx(min(column), rel=1e-6)
    row = fitted.history[fitted.best_epoch]
    assert row["validation_accuracy"] == pytest.approx(float(right.double().mean()))
    assert fitted.model.training is False
    last = torch.load(tmp_path / "last.pt")
    assert all(map(torch.equal, last.values(), weights(fitted.model)))


def test_of_equally_good_epochs_the_first_is_the_best(tmp_path: Path) -> None:
    """A step that changes no weight, and no BatchNorm that sees more images."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    training = settings(epochs=3, learning_rate=1e-30)
    fitted = quiet(model, validation=images(20, seed=9), training=training, out=tmp_path)
    assert len({row["validation_aurc"] for row in fitted.history}) == 1
    assert fitted.best_epoch == 0


def test_best_is_the_epoch_most_accurate_under_the_attack(tmp_path: Path) -> None:
    """As IRAT selects; here another epoch than the lowest AURC's, resumed in between."""
    validation = images(60, seed=9)
    attack = ValidationAttack(eps=0.1, first=1, every=2)
    training = settings(epochs=7, validation_batch=17, learning_rate=0.3, validation_attack=attack)
    options = {"validation": validation, "training": training}
    fitted = quiet(network(), out=tmp_path / "whole", **options)
    column = [row["validation_attacked"] for row in fitted.history]
    assert [not math.isnan(share) for share in column] == [False, True] * 3 + [True]
    looked = [share for share in column if not math.isnan(share)]
    assert fitted.best_epoch == column.index(max(looked))
    aurcs = [row["validation_aurc"] for row in fitted.history]
    assert fitted.best_epoch != aurcs.index(min(aurcs))
    model = network().eval()
    model.load_state_dict(torch.load(tmp_path / "whole" / "best.pt"))
    wrong = PGD(0.1, 20)(model, validation.x, validation.y).wrong
    assert 1 - wrong.double().mean() == pytest.approx(max(looked), abs=1e-12)

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rrfast.train.log.Bar.end_of_epoch", lambda _, row: stop(row))
        with pytest.raises(KeyboardInterrupt):
            quiet(network(), out=tmp_path / "cut", **options)
    again = quiet(network(), out=tmp_path / "cut", resume=True, **options)
    assert again.best_epoch == fitted.best_epoch
    best = [torch.load(tmp_path / name / "best.pt") for name in ("whole", "cut")]
    assert all(map(torch.equal, best[0].values(), best[1].values()))


@pytest.mark.parametrize(
    ("validation", "sentence"),
    [
        (None, "validation must be given: training.validation_attack is on its images"),
        (
            Split(images(9).x - 1, images(9).y),
            r"validation.x must lie within bounds=\(0.0, 1.0\)",
        ),
    ],
)
def test_an_attack_needs_images_to_validate_on(validation: Split | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        quiet(
            network(),
            validation=validation,
            training=settings(validation_attack=ValidationAttack()),
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"eps": 0}, "eps must be finite and greater than 0, got 0"),
        ({"every": 0}, "every must be an integer of at least 1, got 0"),
        ({"first": 1.5}, "first must be an integer of at least 0, got 1.5"),
    ],
)
def test_a_wrong_attack(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ValidationAttack(**options)


def test_a_score_of_nan_is_never_best(tmp_path: Path) -> None:
    validation = images(20)
    validation.x[3] = math.nan
    fitted = quiet(network(), validation=validation, out=tmp_path)
    assert fitted.best_epoch is None
    assert math.isnan(fitted.history[0]["validation_aurc"])
    assert not (tmp_path / "best.pt").exists()


# ------------------------------------------------------------------------------ precision, channels


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "64-true", "bf16-true"])
def test_precisions_run(tmp_path: Path, precision: str) -> None:
    training = settings(precision=precision, clip_norm=1.0)
    objective = RAT(eps=0.05)
    fitted = quiet(
        network(), validation=images(20), training=training, objective=objective, out=tmp_path
    )
    assert all(math.isfinite(row["loss"]) for row in fitted.history)
    (tmp_path / "last.pt").unlink()
    again = quiet(
        network(),
        validation=images(20),
        training=training,
        objective=objective,
        out=tmp_path,
        resume=True,
    )
    assert all(map(torch.equal, weights(fitted.model), weights(again.model)))
    assert torch.load(tmp_path / "checkpoint.pt")["scaler"] is None or precision == "16-mixed"


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_lets_pgd_and_the_radius_differentiate(precision: str) -> None:
    """Gradients with respect to the input only are not passed to `fabric.backward`."""
    training = settings(epochs=1, precision=precision, validation_score="radius_fast")
    fitted = quiet(
        network(), validation=images(20), objective=RAT(eps=0.05, steps=3), training=training
    )
    assert math.isfinite(fitted.history[0]["validation_aurc"])


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16", "16"])
def test_mixed_precision_does_not_round_the_images(precision: str) -> None:
    """RAT's step of 1e-3 is less than what bfloat16 tells apart near 1."""
    seen = []

    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return x

    data = images()
    quiet(
        nn.Sequential(First(), network()),
        data,
        objective=RAT(eps=1e-3),
        training=settings(epochs=1, batch_size=48, precision=precision),
    )
    *_, clean, moved = seen
    step = (moved - clean).abs()
    # All but the pixels without a gradient, which the rounding of the layers makes a few of.
    assert (step > 0).float().mean() > 0.99
    torch.testing.assert_close(step[step > 0].mean(), torch.tensor(1e-3), rtol=1e-3, atol=0)


def test_16_bits_scale_the_loss() -> None:
    training = settings(precision="16-mixed", momentum=0, weight_decay=0, epochs=1)
    fabric = make_fabric(training)
    precision = fabric.strategy.precision
    assert isinstance(precision, AutocastPrecision)
    scales = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()
            self.network[3].weight.register_hook(lambda g: scales.append(float(g.abs().max())))

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)

    plain, mixed = Watched(), Watched()
    quiet(plain, objective=Standard(), training=settings(momentum=0, weight_decay=0, epochs=1))
    unscaled = scales.copy()
    scales.clear()
    quiet(mixed, objective=Standard(), training=training, fabric=fabric)
    assert scales[0] / unscaled[0] == pytest.approx(65536, rel=1e-2)
    for a, b in zip(weights(plain), weights(mixed), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("objective", [Standard(), RAT(eps=0.05)])
def test_16_bits_skip_steps_that_overflow(objective: Objective) -> None:
    """The loss is finite, and so are the weights: those of a first step that is too long remain."""

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: Tensor) -> Tensor:
            return 300 * self.network(x)

    model = Steep()
    before = weights(model)
    training = settings(epochs=1, batch_size=48, precision="16-mixed", clip_norm=1.0)
    fitted = quiet(model, objective=objective, training=training)
    assert math.isfinite(fitted.history[0]["loss"])
    assert all(map(torch.equal, before, weights(model)))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_the_scale_of_16_bits_is_resumed(tmp_path: Path) -> None:
    """While it still falls, from step to step: with its first value again, steps are skipped."""

    class Steep(Interrupted):
        def forward(self, x: Tensor) -> Tensor:
            return 10 * super().forward(x)

    training = settings(epochs=4, precision="16-mixed", checkpoint_steps=2, learning_rate=1e-3)
    options = {"objective": Standard(), "training": training}
    whole = quiet(Steep(), **options)
    with pytest.raises(KeyboardInterrupt):
        quiet(Steep(6), out=tmp_path, **options)
    scale = torch.load(tmp_path / "checkpoint.pt")["scaler"]["scale"]
    assert scale < 65536
    again = quiet(Steep(), out=tmp_path, resume=True, **options)
    assert all(map(torch.equal, weights(whole.model), weights(again.model)))


def test_channels_last_reaches_the_model() -> None:
    formats = []

    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            formats.append(x.is_contiguous(memory_format=torch.channels_last))
            return x

    generator = torch.Generator().manual_seed(0)
    data = Split(torch.rand(32, 3, 8, 8, generator=generator), images(32).y)
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, CLASSES))
    model = nn.Sequential(First(), inner)
    quiet(model, data, training=settings(channels_last=True), objective=Standard())
    assert all(formats)
    assert inner[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_class_weights_of_the_loss_are_used() -> None:
    weight = torch.tensor([0.0, 1.0, 1.0, 1.0])
    objective = Standard(nn.CrossEntropyLoss(weight=weight))
    one, other = network(), network()
    quiet(one, objective=objective)
    quiet(other, objective=Standard())
    assert not torch.equal(weights(one)[0], weights(other)[0])


# ------------------------------------------------------------------------------------- what is seen


def test_without_a_terminal_there_is_a_line_per_epoch() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=False, width=40)  # where it would be broken
    fit(network(), images(), training=settings(), validation=images(20), console=console)
    lines = text.getvalue().splitlines()
    assert len(lines) == 2
    number = r"[\d.e+-]+"
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"epoch {epoch} of 2: loss {number}, {number} ms/step, "
            rf"validation: {number} % right, AURC {number}, \d:\d\d:\d\d",
            line,
        )


def test_a_terminal_shows_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=200, color_system=None)
    fit(network(), images(), training=settings(), validation=images(20), console=console)
    shown = text.getvalue()
    number = r"[\d.e+-]+"
    assert re.search(
        rf"epoch 2 of 2 .*loss {number}, {number} ms/step, "
        rf"validation: {number} % right, AURC {number}",
        shown,
    )


@pytest.mark.parametrize("look", [1, 2, 50])
def test_the_bar_shows_the_mean_of_the_losses_that_were_looked_at(
    monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    """With the rate at 0 nothing changes: a mean over too many steps would be too low."""
    seldom(monkeypatch, look)
    shown: list[float] = []
    advance = Bar.advance

    def watched(self: Any, epoch: int, step: int, loss: float) -> None:
        shown.append(loss)
        advance(self, epoch, step, loss)

    monkeypatch.setattr(Bar, "advance", watched)
    data = Split(images(1).x.expand(48, -1, -1, -1), images(1).y.expand(48))
    fitted = quiet(network(), data, training=settings(epochs=1, learning_rate=0, batch_size=8))
    known = [loss for loss in shown if not math.isnan(loss)]
    assert known == pytest.approx([fitted.history[0]["loss"]] * len(known))
    assert len(known) == {1: 6, 2: 5, 50: 0}[look]


def test_tensorboard_has_each_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was killed after the events and before the checkpoint: that epoch is redone."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    save, saved = Checkpoint.save, 0

    def killed(self: Checkpoint, progress: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            raise KeyboardInterrupt
        save(self, progress)

    monkeypatch.setattr(Checkpoint, "save", killed)
    options = {"objective": Standard(), "training": settings(epochs=3, tensorboard=True)}
    with pytest.raises(KeyboardInterrupt):
        quiet(network(), out=tmp_path, **options)
    fitted = quiet(network(), out=tmp_path, resume=True, **options)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 4
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["learning_rate", "loss", "ms_per_step"]
    logged = [(event.step, event.value) for event in events.Scalars("loss")]
    assert logged == [
        (row["epoch"], pytest.approx(row["loss"], rel=1e-6)) for row in fitted.history
    ]


def test_what_does_not_fit_together_is_said() -> None:
    data = images(16)
    with pytest.raises(ValueError, match=r"objective\.epochs must be those of the training, 2,"):
        quiet(network(), data, objective=Mixup(epochs=3), training=settings())
    fabric = pytest.importorskip("lightning_fabric").Fabric(
        devices=1, accelerator="cpu", precision="bf16-mixed"
    )
    with pytest.raises(ValueError, match="fabric must not round the images"):
        quiet(network(), data, training=settings(), fabric=fabric)


def test_weights_of_a_training_without_checkpoint_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"of another training")
    quiet(network(), images(16), training=settings(), out=tmp_path)
    assert not (tmp_path / "best.pt").exists()
