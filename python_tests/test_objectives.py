"""What every objective keeps to: formula, passes, and one batch on any number of processes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networks
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from waiting import Calls

import rrfast
from rrfast import _reading
from rrfast.objectives import (
    ACET,
    CCAT,
    CEDA,
    EWAT,
    GAIRAT,
    MAIL,
    OBJECTIVES,
    RAT,
    WMMR,
    AdversarialTraining,
    Mixup,
    Objective,
    OpenMix,
    RegMixup,
    Standard,
)
from rrfast.objectives.mixing import Mixing, neighbours

CLASSES = 4


network = partial(networks.convolutional, CLASSES + 1)


def batch(samples: int = 32) -> tuple[Tensor, Tensor]:
    return networks.batch((samples, 1, 8, 8), CLASSES)


def negative(x: Tensor) -> Tensor:
    """Outliers or noise that a share of the batch makes as the whole does."""
    return 1 - x


ATTACK: dict[str, Any] = {"eps": 0.05, "steps": 3, "start": "input"}
#: Every objective as a user would build it, and some that combine.
MADE: dict[str, Callable[[], Objective]] = {
    "standard": Standard,
    "rat": lambda: RAT(eps=0.05),
    "at": lambda: RAT(eps=0.05, mode="at"),
    "reverse_at": lambda: RAT(eps=0.05, mode="reverse_at"),
    "rat_pgd": lambda: RAT(eps=0.05, steps=4),
    "rat_mixup": lambda: RAT(eps=0.05, mixup=1.0),
    "rat_clean": lambda: RAT(eps=0.05, mixup=1.0, steps=3, batch_norm="clean"),
    "mixup": Mixup,
    "regmixup": RegMixup,
    "openmix": lambda: OpenMix(negative),
    "pgd_at": lambda: AdversarialTraining(**ATTACK),
    "gairat": lambda: GAIRAT(**ATTACK),
    "mail": lambda: MAIL(**ATTACK),
    "mail_margin": lambda: MAIL(**ATTACK, tau=2, detach=False),
    "wmmr": lambda: WMMR(**ATTACK),
    "ewat": lambda: EWAT(**ATTACK, normalize=False),
    "ceda": lambda: CEDA(negative),
    "acet": lambda: ACET(negative, **ATTACK),
    "ccat": lambda: CCAT(eps=0.05, steps=3, starts=["input"]),
}
#: Those whose loss is a criterion's.
WITH_CRITERION = [
    name for name, make in MADE.items() if "criterion" in inspect.signature(type(make())).parameters
]
#: Those that scale or divide the batch of a process: two halves of a batch are not the whole.
OWN_BATCH = {"gairat", "ccat"}


@pytest.fixture(params=MADE)
def objective(request: pytest.FixtureRequest) -> Objective:
    return MADE[request.param]()


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_every_objective_is_tested() -> None:
    assert set(OBJECTIVES) <= set(MADE)


# ------------------------------------------------------------------------------------ the formulas


def loss_of(h: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy per sample, written out."""
    return torch.logsumexp(h, dim=1) - h.gather(1, y[:, None])[:, 0]


def drawn(alpha: float) -> float:
    """The share that an objective draws next."""
    return torch.distributions.Beta(alpha, alpha).sample().item()


def partner(samples: int) -> Tensor:
    order = torch.arange(samples)
    even = samples // 2 * 2
    order[:even] = order[:even].view(-1, 2).flip(1).flatten()
    return order


def test_mixup_is_its_formula() -> None:
    x, y = batch()
    torch.manual_seed(3)
    share, other = drawn(0.7), partner(32)
    h = network()(share * x + (1 - share) * x[other])
    expected = (share * loss_of(h, y) + (1 - share) * loss_of(h, y[other])).mean()
    model = network()
    torch.manual_seed(3)
    loss = Mixup(alpha=0.7)(model, x, y)
    torch.testing.assert_close(loss, expected)


def test_regmixup_is_its_formula() -> None:
    x, y = batch()
    torch.manual_seed(3)
    share, other = drawn(20.0), partner(32)
    h, mixed = network()(torch.cat([x, share * x + (1 - share) * x[other]])).split(32)
    expected = (
        loss_of(h, y).mean()
        + 0.5 * (share * loss_of(mixed, y) + (1 - share) * loss_of(mixed, y[other])).mean()
    )
    model = network()
    torch.manual_seed(3)
    torch.testing.assert_close(RegMixup(weight=0.5)(model, x, y), expected)


def test_openmix_is_its_formula() -> None:
    x, y = batch()
    torch.manual_seed(3)
    share = drawn(10.0)
    h, mixed = network()(torch.cat([x, share * x + (1 - share) * (1 - x)])).split(32)
    outside = torch.full_like(y, CLASSES)
    expected = (
        loss_of(h, y).mean()
        + 2 * (share * loss_of(mixed, y) + (1 - share) * loss_of(mixed, outside)).mean()
    )
    model = network()
    torch.manual_seed(3)
    torch.testing.assert_close(OpenMix(negative, weight=2)(model, x, y), expected)


@pytest.mark.parametrize("mode", ["rat", "at", "reverse_at"])
def test_rat_with_mixup_is_errata_13(mode: Any) -> None:
    """The mask from the batch as it is, the gradient of the mixed loss, the hard label."""
    x, y = batch()
    torch.manual_seed(3)
    share, other = drawn(1.0), partner(32)
    model = network()
    right = model(x).argmax(dim=1) == y
    leaf = x.clone().requires_grad_()
    h = model(share * leaf + (1 - share) * leaf[other])
    mixed = (share * loss_of(h, y) + (1 - share) * loss_of(h, y[other])).mean()
    (grad,) = torch.autograd.grad(mixed, leaf, retain_graph=True)
    sign = {"rat": right.double() * 2 - 1, "at": torch.ones(32), "reverse_at": -torch.ones(32)}
    moved = x + 0.05 * sign[mode][:, None, None, None] * grad.sign()
    expected = mixed + loss_of(model(moved), y).mean()
    expected.backward()
    assert 0 < right.sum() < 32
    by_hand, statistics = gradients(model), model[1].running_mean.clone()

    for call in (lambda o, m: o.backward(m, x, y), lambda o, m: o(m, x, y)):
        model = network()
        torch.manual_seed(3)
        loss = call(RAT(eps=0.05, mode=mode, mixup=1.0), model)
        if loss.requires_grad:
            loss.backward()
        torch.testing.assert_close(loss.detach(), expected.detach())
        torch.testing.assert_close(gradients(model), by_hand)
        assert model[1].num_batches_tracked == 3
        torch.testing.assert_close(model[1].running_mean, statistics)


@pytest.mark.parametrize("mode", ["rat", "at", "reverse_at"])
@pytest.mark.parametrize("options", [{}, {"bounds": (0, 1)}, {"scale": torch.tensor([2.0])}])
def test_pgd_is_projected_steps_of_a_fixed_sign(mode: Any, options: dict[str, Any]) -> None:
    eps, steps, step_size = 0.05, 5, 0.4
    x, y = batch()
    model = network().eval()
    reach = eps * float(options.get("scale", 1))
    right = model(x).argmax(dim=1) == y
    sign = {"rat": right.double() * 2 - 1, "at": torch.ones(32), "reverse_at": -torch.ones(32)}
    moved = x.clone()
    for _ in range(steps):
        leaf = moved.requires_grad_()
        (grad,) = torch.autograd.grad(loss_of(model(leaf), y).sum(), leaf)
        moved = leaf.detach() + step_size * reach * sign[mode][:, None, None, None] * grad.sign()
        if "bounds" in options:
            moved = moved.clamp(0, 1)
        moved = torch.minimum(torch.maximum(moved, x - reach), x + reach)
    expected = (loss_of(model(x), y) + loss_of(model(moved), y)).mean()
    objective = RAT(eps=eps, mode=mode, steps=steps, step_size=step_size, **options)
    torch.testing.assert_close(objective.backward(model, x, y), expected.detach())


def test_pgd_raises_the_loss_of_at_beyond_fgsm() -> None:
    model, (x, y) = network().eval(), batch()
    fgsm, pgd = (RAT(eps=0.2, mode="at", steps=steps)(model, x, y).item() for steps in (1, 10))
    assert pgd > fgsm


def test_backward_is_the_gradient_of_the_call(objective: Objective) -> None:
    x, y = batch()
    model = network()
    torch.manual_seed(3)
    loss = objective(model, x, y, epoch=0)
    loss.backward()
    expected = gradients(model)
    model = network()
    torch.manual_seed(3)
    value = objective.backward(model, x, y, epoch=0)
    assert not value.requires_grad
    torch.testing.assert_close(value, loss.detach())
    torch.testing.assert_close(gradients(model), expected)


# ------------------------------------------------------------------------------------- the mixing


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 8])
def test_neighbours_is_its_own_inverse(samples: int) -> None:
    x = torch.rand(samples, 3, 2, 2)
    assert torch.equal(neighbours(x), x[partner(samples)])
    assert torch.equal(neighbours(neighbours(x)), x)


def test_neighbours_keeps_channels_last() -> None:
    x = torch.rand(4, 3, 5, 5).to(memory_format=torch.channels_last)
    assert neighbours(x).is_contiguous(memory_format=torch.channels_last)


def test_parts_of_even_size_keep_their_pairs() -> None:
    x = torch.arange(12)
    parts = [torch.cat([neighbours(part) for part in x.split(size)]) for size in (6, 4, 2, 3)]
    assert [torch.equal(part, neighbours(x)) for part in parts] == [True, True, True, False]


def test_shares_are_drawn_on_the_cpu() -> None:
    shares = []
    for device in ("cpu", "meta"):
        torch.manual_seed(3)
        with torch.device(device):
            shares.append(Mixing(0.7).mix(torch.zeros(1, device="cpu")).share)
    assert shares[0] == shares[1] == drawn_again(0.7)


def drawn_again(alpha: float) -> float:
    torch.manual_seed(3)
    return drawn(alpha)


def test_mixing_ends() -> None:
    mixing = Mixing(1.0, off_epochs=3, epochs=10)
    assert [mixing.on(epoch) for epoch in range(11)] == [True] * 7 + [False] * 4
    assert Mixing(1.0).on(None)


@pytest.mark.parametrize("made", [Mixup, RAT])
def test_the_last_epochs_are_not_mixed(made: Any) -> None:
    options = {"mixup": 1.0} if made is RAT else {}
    objective = made(mixup_off_epochs=2, epochs=5, **options)
    plain = RAT() if made is RAT else Standard()
    x, y = batch()
    state = torch.get_rng_state()
    loss = objective(network(), x, y, epoch=3)
    torch.testing.assert_close(loss, plain(network(), x, y))
    torch.manual_seed(5)
    assert objective(network(), x, y, epoch=2) != loss
    torch.set_rng_state(state)
    with pytest.raises(ValueError, match="epoch must be the number of the epoch, from 0"):
        objective(network(), x, y)


def test_shares_are_of_the_beta_distribution() -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)); five standard errors of 2000 draws."""
    for alpha in (0.2, 1.0, 20.0):
        shares = torch.tensor([Mixing(alpha).mix(torch.zeros(1)).share for _ in range(2000)])
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(shares.mean() - 0.5) < 5 * math.sqrt(variance / 2000)
        assert abs(shares.var() / variance - 1) < 5 * math.sqrt(2 / 2000)


# -------------------------------------------------------------------------- passes, and the batch


class Counted(nn.Module):
    """Counts the passes through a network, and the backwards that reach the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.forwards = self.backwards = self.weights = 0
        self.network[4].register_full_backward_hook(self.count)
        self.network[4].weight.register_hook(self.count_weights)

    def count(self, *_: object) -> None:
        self.backwards += 1

    def count_weights(self, _: Tensor) -> None:
        self.weights += 1

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        return self.network(x)


#: Forwards, backwards, and those that give gradients of the weights, as the docstrings say.
PASSES = {
    "standard": (1, 1, 1),
    "rat": (2, 2, 2),
    "at": (2, 2, 2),
    "reverse_at": (2, 2, 2),
    "rat_pgd": (5, 5, 2),
    "rat_mixup": (3, 2, 2),
    "rat_clean": (5, 4, 2),
    "mixup": (1, 1, 1),
    "regmixup": (1, 1, 1),
    "openmix": (1, 1, 1),
    **dict.fromkeys(["pgd_at", "gairat", "mail", "mail_margin", "wmmr", "ewat"], (4, 4, 1)),
    "ceda": (1, 1, 1),
    "acet": (6, 4, 1),
    "ccat": (5, 4, 1),
}


@pytest.mark.parametrize("name", MADE)
def test_passes(name: str) -> None:
    model = Counted()
    MADE[name]().backward(model, *batch(), epoch=0)
    assert (model.forwards, model.backwards, model.weights) == PASSES[name]


@pytest.mark.parametrize("name", ["pgd_at", "gairat", "mail", "wmmr", "ewat", "ceda", "acet"])
def test_nothing_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But in the first call, and for CCAT's start, which is drawn on the CPU.

    There a GPU would not be waited for.
    """
    objective, model, pair = MADE[name](), network(), batch()
    monkeypatch.setattr(_reading, "is_on_host", lambda _: False)  # as a GPU's tensors are not
    objective.backward(model, *pair)
    with Calls() as calls:
        objective.backward(model, *pair)
    assert "convolution_backward" in calls.names  # it sees what runs
    assert calls.waiting == set()


def test_the_batch_is_left_alone(objective: Objective) -> None:
    model, (x, y) = network(), batch()
    pixels, labels = x.clone(), y.clone()
    objective.backward(model, x, y, epoch=0)
    assert torch.equal(x, pixels)
    assert torch.equal(y, labels)
    assert x.grad is None
    assert not x.requires_grad
    assert model.training


def test_no_gradient_is_left_with_the_batch(objective: Objective) -> None:
    """Neither by the objective's own backward, nor by that of a caller."""
    x, y = batch()
    x.requires_grad_()
    objective.backward(network(), x, y, epoch=0)
    objective(network(), x, y, epoch=0).backward()
    assert x.grad is None


def test_a_batch_of_inference_mode(objective: Objective) -> None:
    with torch.inference_mode():
        pair = [part.clone() for part in batch()]
    losses = []
    for x, y in (pair, batch()):
        torch.manual_seed(3)
        losses.append(objective.backward(network(), x, y, epoch=0))
    assert torch.equal(*losses)


@pytest.mark.parametrize("samples", [1, 5])
def test_odd_batches_are_ordinary(objective: Objective, samples: int) -> None:
    loss = objective.backward(network().eval(), *batch(samples), epoch=0)
    assert loss.isfinite()


def test_seeded_alike_is_alike(objective: Objective) -> None:
    x, y = batch()
    losses = []
    for seed in (1, 1, 2):
        model = network()
        torch.manual_seed(seed)
        losses.append(objective.backward(model, x, y, epoch=0).item())
    assert losses[0] == losses[1]
    draws = isinstance(objective, (Mixup, RegMixup, OpenMix)) or (
        isinstance(objective, RAT) and objective.mixup is not None
    )
    assert (losses[0] != losses[2]) == draws


@pytest.mark.parametrize("name", WITH_CRITERION)
def test_label_smoothing_and_class_weights_pass_through(name: str) -> None:
    """The criterion is all that makes a loss of labels: twice of it is twice the objective."""
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    criterion = nn.CrossEntropyLoss(weight=weight, label_smoothing=0.1)
    losses = []
    for made in (
        MADE[name](),
        _with_criterion(name, criterion),
        _with_criterion(name, lambda h, y: 2 * criterion(h, y)),
    ):
        torch.manual_seed(0)
        losses.append(made.backward(network().eval(), *batch(), epoch=0))
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[2], 2 * losses[1])


def _with_criterion(name: str, criterion: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    made = MADE[name]()
    fields = {
        field: getattr(made, field)
        for field in inspect.signature(type(made)).parameters
        if field != "criterion"
    }
    if isinstance(made, CEDA):
        fields["weight"] = 0  # of what has no label
    return type(made)(**fields, criterion=criterion)


def test_outputs_with_logits_and_with_a_callable_backward(objective: Objective) -> None:
    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: Tensor) -> Output:
            return Output(self.network(x))

    x, y = batch()
    model, losses = Wrapped(), []

    def backward(loss: Tensor) -> None:  # as fabric.backward
        losses.append(loss.item())
        loss.backward()

    torch.manual_seed(3)
    total = objective.backward(model, x, y, epoch=0, backward=backward)
    assert total.item() == pytest.approx(sum(losses))
    expected = network()
    torch.manual_seed(3)
    objective.backward(expected, x, y, epoch=0)
    torch.testing.assert_close(gradients(model), gradients(expected))


# ----------------------------------------------------------------- checkpoints, and where x is from


class Checkpointed(nn.Module):
    """A network whose first part is computed again in the backward."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.network = network()
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        body, head = self.network[:4], self.network[4]
        return head(checkpoint(body, x, use_reentrant=self.use_reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("wanted", [True, False], ids=["x requires a gradient", "x does not"])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoints_leave_the_gradients(
    objective: Objective, use_reentrant: bool, wanted: bool
) -> None:
    """Those of the plain network; with use_reentrant=True as torch's are: x requires a gradient.

    RAT's does in any case.
    """
    x, y = batch()
    x.requires_grad_(wanted)
    plain, model = network(), Checkpointed(use_reentrant)
    rat, steps = isinstance(objective, RAT), getattr(objective, "steps", 1)
    if use_reentrant and not (rat or wanted):
        pytest.skip("torch warns, and gives the part no gradient")
    torch.manual_seed(3)
    objective.backward(plain, x, y, epoch=0)
    torch.manual_seed(3)
    if use_reentrant and steps > 1:
        with pytest.raises(ValueError, match="model must be checkpointed with use_reentrant=False"):
            objective.backward(model, x, y, epoch=0)
        return
    objective.backward(model, x, y, epoch=0)
    torch.testing.assert_close(gradients(model), gradients(plain), rtol=0, atol=0)
    assert x.grad is None


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("options", [{}, {"mixup": 1.0}, {"steps": 3}], ids=str)
def test_clean_statistics_of_checkpoints(options: dict[str, Any], use_reentrant: bool) -> None:
    """What is computed again moves them as little as x' does."""
    if use_reentrant and "steps" in options:
        pytest.skip("a sentence, see above")
    (x, y), plain, model = batch(), network(), Checkpointed(use_reentrant)
    before = {name: id(value) for name, value in model.named_buffers()}
    for net in (plain, model):
        torch.manual_seed(3)
        RAT(eps=0.05, batch_norm="clean", **options).backward(net, x, y)
    torch.testing.assert_close(gradients(model), gradients(plain), rtol=0, atol=0)
    for mine, other in zip(model.buffers(), plain.buffers(), strict=True):
        assert torch.equal(mine, other)
    assert plain[1].num_batches_tracked == 1
    assert before == {name: id(value) for name, value in model.named_buffers()}


def test_clean_statistics_of_torchscript() -> None:
    (x, y), plain = batch(), network()
    model = torch.jit.script(network())
    for net in (plain, model):
        RAT(eps=0.05, batch_norm="clean").backward(net, x, y)
    for mine, other in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, other)


def test_what_gave_x_is_not_left_untrained_in_silence(objective: Objective) -> None:
    x, y = batch()
    before = nn.Conv2d(1, 1, 1).double()
    with pytest.raises(
        ValueError, match=r"x must have no graph.*got one from ConvolutionBackward0"
    ):
        objective.backward(network(), before(x), y, epoch=0)
    objective.backward(network(), before(x).detach().clamp(0, 1), y, epoch=0)


def test_an_optimizer_in_the_backward() -> None:
    """RAT's two backwards would be two steps; one of the whole objective is one."""
    (x, y), model, expected = batch(), network(), network()
    for parameter in model.parameters():

        @torch.no_grad()
        def step(parameter: Tensor) -> None:
            parameter.sub_(0.1 * parameter.grad)
            parameter.grad = None

        parameter.register_post_accumulate_grad_hook(step)
    RAT(eps=0.05)(model, x, y).backward()
    RAT(eps=0.05).backward(expected, x, y)
    torch.optim.SGD(expected.parameters(), lr=0.1).step()
    for mine, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    with pytest.raises(
        ValueError, match=r"an optimizer in the backward.*half a step.*which is one"
    ):
        RAT(eps=0.05).backward(model, x, y)


def test_hooks_that_only_look_are_let_be() -> None:
    (x, y), model, seen = batch(), network(), []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.norm()))
    RAT().backward(model, x, y)
    assert len(seen) == 2 * len(list(model.parameters()))


# ----------------------------------------------------------------------------------- two processes


def _train_on_a_share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    reductions = 0

    def counting(
        state, bucket
    ):  # unannotated: torch wants its own class there, and not as a string
        nonlocal reductions
        reductions += 1
        total = torch.distributed.all_reduce(bucket.buffer().div_(2), async_op=True).get_future()
        return total.then(lambda future: future.value()[0])

    x, y = batch()
    results = {}
    for name, made in MADE.items():
        # BatchNorm frozen: shares are seen as the whole is.
        model = nn.parallel.DistributedDataParallel(network().eval())
        model.register_comm_hook(None, counting)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        counts = []
        torch.manual_seed(7)
        for _ in range(3):
            optimizer.zero_grad()
            reductions = 0
            made().backward(model, x.chunk(2)[rank], y.chunk(2)[rank], epoch=0)
            optimizer.step()
            counts.append(reductions)
        results[name] = ([p.detach().clone() for p in model.parameters()], counts)
        # Before the process group: gloo's threads must not end holding the GIL.
        del model, optimizer
    model = nn.parallel.DistributedDataParallel(network().eval(), static_graph=True)
    try:
        RAT(eps=0.05)(model, x.chunk(2)[rank], y.chunk(2)[rank])
    except ValueError as error:
        results["static_graph, called"] = str(error)
    RAT(eps=0.05).backward(model, x.chunk(2)[rank], y.chunk(2)[rank])
    results["static_graph"] = gradients(model)
    del model
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_processes_make_one_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_train_on_a_share, (str(tmp_path),), nprocs=2)
    x, y = batch()
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, made in MADE.items():
        for share in shares:
            _, counts = share[name]
            assert counts == [1, 1, 1], name
        if name in OWN_BATCH:
            continue
        model = network().eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        torch.manual_seed(7)
        for _ in range(3):
            optimizer.zero_grad()
            made().backward(model, x, y, epoch=0)
            optimizer.step()
        for share in shares:
            parameters, _ = share[name]
            for mine, joint in zip(parameters, model.parameters(), strict=True):
                torch.testing.assert_close(mine, joint.detach(), rtol=0, atol=1e-6, msg=name)
    model = network().eval()
    RAT(eps=0.05).backward(model, x, y)
    for share in shares:
        torch.testing.assert_close(share["static_graph"], gradients(model), rtol=0, atol=1e-6)
        sentence = "model must not be DistributedDataParallel(static_graph=True)"
        assert share["static_graph, called"].startswith(sentence)


# ------------------------------------------------------------------------------------ the sentences


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: Mixup(alpha=0), ValueError, "alpha must be finite and greater than 0, got 0"),
        (lambda: Mixup(mixup_off_epochs=1), ValueError, "mixup_off_epochs=1 needs epochs"),
        (
            lambda: Mixup(mixup_off_epochs=3, epochs=3),
            ValueError,
            "mixup_off_epochs must be less than all 3 epochs, or none is left, got 3",
        ),
        (
            lambda: RAT(mixup_off_epochs=1, epochs=3),
            ValueError,
            "mixup_off_epochs=1 needs mixup, its alpha",
        ),
        (lambda: RAT(mixup="1"), TypeError, "mixup must be a number, got str '1'"),
        (lambda: RAT(steps=0), ValueError, "steps must be an integer of at least 1, got 0"),
        (lambda: RAT(steps=2, step_size=0), ValueError, "step_size must be finite and greater"),
        (lambda: RegMixup(weight=-1), ValueError, "weight must be finite and at least 0, got -1"),
        (lambda: OpenMix(3), TypeError, "outliers must be a function of a batch .* got int"),
    ],
)
def test_wrong_options(make: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make()


def test_a_class_weight_of_outliers_cancels() -> None:
    """Their part of the loss is a mean over them alone; at 0 it is 0 / 0."""
    losses = []
    for last in (1.0, 100.0, 0.0):
        weight = torch.tensor([1.0] * CLASSES + [last], dtype=torch.float64)
        torch.manual_seed(3)
        objective = OpenMix(negative, criterion=nn.CrossEntropyLoss(weight))
        losses.append(objective.backward(network(), *batch()))
    torch.testing.assert_close(losses[0], losses[1])
    assert losses[2].isnan()


def test_wrong_outliers() -> None:
    with pytest.raises(ValueError, match="outliers must have the shape of x"):
        OpenMix(lambda x: x[:1]).backward(network(), *batch())


def test_wrong_batches(objective: Objective) -> None:
    x, y = batch()
    for wrong_x, wrong_y, error, sentence in (
        (x.long(), y, TypeError, "x must be a tensor of float64"),
        (x, y.double(), TypeError, "y must be an int64 tensor of class labels"),
        (x, y[:3], ValueError, "y must have one label per sample"),
        (x[:0], y[:0], ValueError, "x must hold at least one sample"),
    ):
        with pytest.raises(error, match=sentence):
            objective.backward(network(), wrong_x, wrong_y, epoch=0)
    with pytest.raises(TypeError, match="backward must be None, a GradScaler or a callable"):
        objective.backward(network(), x, y, epoch=0, backward=3)
    model = network()
    for off in (torch.no_grad(), torch.inference_mode()):
        with off, pytest.raises(ValueError, match="gradient must be taken where gradients are on"):
            objective.backward(model, x, y, epoch=0)
    with pytest.raises(ValueError, match="model must have a parameter that requires a gradient"):
        objective.backward(network().requires_grad_(False), x, y, epoch=0)


@pytest.mark.parametrize("name", WITH_CRITERION)
def test_a_loss_for_each_sample(name: str) -> None:
    none = nn.CrossEntropyLoss(reduction="none")
    objective = dataclasses.replace(MADE[name](), criterion=none)
    for run in (objective, objective.backward):
        with pytest.raises(ValueError, match=r"criterion must give a scalar.*of shape \[32\]"):
            run(network(), *batch(), epoch=0)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_rat_under_no_grad(off: Any) -> None:
    model = network()
    with off(), pytest.raises(ValueError, match="gradient must be taken where gradients are on"):
        RAT()(model, *batch())


def test_rat_called_on_a_compiled_model() -> None:
    """Whose first backward was its graph's last: it gives what it saved to every first backward."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))
    x, y = torch.rand(6, 8), torch.arange(6) % CLASSES
    # As with inductor, which takes seconds more: AOTAutograd is what gives the memory away.
    expected, compiled = copy.deepcopy(model), torch.compile(model, backend="aot_eager")
    RAT(eps=0.05).backward(compiled, x, y)
    RAT(eps=0.05).backward(expected, x, y)
    torch.testing.assert_close(gradients(model), gradients(expected))
    with pytest.raises(ValueError, match=r"call RAT\(\).backward\(model, x, y\), which takes one"):
        RAT()(compiled, x, y)


def test_rat_is_at_hand() -> None:
    assert rrfast.RAT is OBJECTIVES["rat"]
