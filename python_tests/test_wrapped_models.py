"""Models that are wrapped, sharded, quantised or captured: the numbers of the plain model."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import environment
from test_radius import (
    FEWER,
    assert_same,
    convolutional,
    images,
    process_group,
    snapshot,
)
from torch import Tensor, nn

import rrfast
from rrfast.engine import Engine
from rrfast.methods import METHODS


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_forward_that_the_user_set_on_ddp_runs_and_stays(tmp_path: Path) -> None:
    x = images(4)
    plain = convolutional()
    expected = rrfast.radius(lambda z: 2 * plain(z / 2), x, alpha=0.01)

    def check() -> None:  # what refers to the wrapper is gone before the process group
        wrapped = nn.parallel.DistributedDataParallel(convolutional())
        original = wrapped.forward

        def doubled(z: Tensor) -> Tensor:
            return 2 * original(z / 2)

        wrapped.forward = doubled
        before = vars(wrapped).copy()
        torch.testing.assert_close(rrfast.radius(wrapped, x, alpha=0.01), expected)
        assert vars(wrapped) == before
        wrapped(x).sum().backward()  # training goes on
        assert all(p.grad is not None for p in wrapped.parameters())

    with process_group(tmp_path):
        check()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_fsdp1_is_refused_before_a_pass(tmp_path: Path) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with process_group(tmp_path):
        model = FullyShardedDataParallel(convolutional(), device_id=torch.device("cpu"))
        inner = nn.Sequential(model)
        for refused in (model, inner, lambda z: model(z / 2)):
            with pytest.raises(ValueError, match="shard it by"):
                rrfast.radius(refused, images(2))
        assert model.training
        assert all(p.requires_grad for p in model.parameters())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_sharded_model_makes_a_selective_classifier(tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    plain, x, y = convolutional(), images(40), torch.arange(40) % 10
    expected = rrfast.SelectiveClassifier(plain, "radius_grad").fit([(x, y)], coverage=0.5)
    with process_group(tmp_path):
        model = convolutional()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        classifier = rrfast.SelectiveClassifier(model, "radius_grad")
        classifier.fit([(x, y)], coverage=0.5)
        assert classifier.intact()
        torch.testing.assert_close(classifier.threshold, expected.threshold)
        assert classifier.provenance["weights"] == expected.provenance["weights"]


def test_fabrics_wrapper(tmp_path: Path) -> None:
    fabric_of = pytest.importorskip("lightning_fabric").Fabric
    from lightning_fabric.strategies import SingleDeviceStrategy

    class Strict(SingleDeviceStrategy):
        def backward(self, tensor: Tensor, module: Any, *args: Any, **options: Any) -> None:
            super().backward(tensor, module, *args, **options)

    model, x = convolutional(), images(4)
    expected = rrfast.radius(model, x)
    fabric = fabric_of(strategy=Strict(torch.device("cpu")))
    wrapped = fabric.setup(model)
    wrapped.train()
    model[1].eval()
    before = snapshot(wrapped)
    assert torch.equal(rrfast.radius(wrapped, x), expected)
    assert_same(before, snapshot(wrapped))
    with pytest.raises(RuntimeError, match=r"fabric\.backward"):  # its own rule is in force again
        wrapped(x).sum().backward()
    fabric.backward(wrapped(x).sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["fused", "plain", "observers"])
def test_observers_do_not_move(kind: str) -> None:
    from torch.ao import quantization

    def observed() -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3)
        model = nn.Sequential(quantization.QuantStub(), *layers).train()
        if kind == "observers":
            model.eval().qconfig = quantization.get_default_qconfig("fbgemm")
            return quantization.prepare(model)
        model.qconfig = quantization.get_default_qat_qconfig(
            "fbgemm", **({"version": 0} if kind == "plain" else {})
        )
        return quantization.prepare_qat(model)

    model, x = observed(), torch.rand(32, 10)
    model(x)
    before = snapshot(model)
    radius = rrfast.radius(model, 3 * x, method="grad")
    assert_same(before, snapshot(model))
    still = copy.deepcopy(model).eval().apply(quantization.disable_observer)
    assert torch.equal(radius, rrfast.radius(still, 3 * x, method="grad"))
    parts = [rrfast.radius(model, part, method="grad") for part in (3 * x).split(8)]
    torch.testing.assert_close(torch.cat(parts), radius)
    model.train()(3 * x)  # and they move again where it is trained
    moved = model.state_dict()
    assert any(not torch.equal(v, moved[n]) for n, v in before["state"].items() if v.numel())


class Captured(nn.Module):
    """As `torch.cuda.make_graphed_callables` makes them: one memory for all calls.

    Input, output and what the backward reads lie where they lay in the call before.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.places: dict[torch.Size, tuple[Tensor, Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape not in self.places:
            with torch.enable_grad():
                place = torch.zeros_like(x).requires_grad_()
                self.places[x.shape] = place, self.model(place).detach(), torch.zeros_like(x)
        place, output, _ = self.places[x.shape]
        model = self.model

        class Replayed(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                place.data.copy_(x)
                output.data.copy_(model(place))
                return output.detach()

            @staticmethod
            def backward(ctx: Any, seed: Tensor) -> Tensor:
                with torch.enable_grad():
                    (grad,) = torch.autograd.grad(model(place), place, seed)
                return grad

        return Replayed.apply(x)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_uses_its_memory_again(method: str) -> None:
    model, x = convolutional(torch.float64).eval(), images(6, torch.float64)
    options = FEWER.get(method, {})
    expected = rrfast.radius(model, x, method=method, **options)
    assert expected.isfinite().any()
    torch.testing.assert_close(
        rrfast.radius(Captured(model), x, method=method, **options), expected
    )


def test_logits_do_not_lie_in_the_memory_of_the_model() -> None:
    """They stay when it runs again; those without a copy go."""
    model, x = convolutional(torch.float64).eval(), images(6, torch.float64)
    captured = Captured(model)
    with Engine(captured) as engine:
        first, recorded = engine.forward(x), engine.record(x)
        before = first.clone()
        engine.forward(x.flip(0))
        assert torch.equal(first, before)
        assert torch.equal(recorded.logits, before)
        lent = engine.forward(x, copy=False), engine.record(x, copy=False).logits
        engine.forward(x.flip(0))
        assert not any(torch.equal(logits, before) for logits in lent)


def test_temperatures_scores_and_attacks_of_a_model_that_uses_its_memory_again() -> None:
    model, x = convolutional(torch.float64).eval(), images(6, torch.float64)
    captured, y = Captured(model), torch.arange(6)
    few = [0.5, 1.0, 2.0]
    torch.testing.assert_close(
        rrfast.radius(captured, x, temperature=few), rrfast.radius(model, x, temperature=few)
    )
    few_steps: list[tuple[str, dict[str, int]]] = [
        ("pgd", {"steps": 5}),
        ("apgd_dlr", {"steps": 5}),
        ("fab_t", {"steps": 5}),
        ("square", {"queries": 50}),
    ]
    for name, options in few_steps:
        attack, found = rrfast.attacks.ATTACKS[name](eps=0.02, **options), []
        for net in (captured, model):
            torch.manual_seed(0)
            found.append(attack(net, x, y).x)
        torch.testing.assert_close(*found, msg=name)
    for name, score in rrfast.scores.SCORES.items():
        if score.fitted:
            torch.testing.assert_close(score(captured, x), score(model, x), msg=name)
    kept = rrfast.engine.logits(captured, x)
    rrfast.engine.logits(captured, x + 1)
    torch.testing.assert_close(kept, rrfast.engine.logits(model, x))


class OneOutput(nn.Module):
    """Every call writes its output where that of the call before lies."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.place = model, torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        self.place = torch.empty_like(logits) if self.place.shape != logits.shape else self.place
        place = self.place.detach()

        class Placed(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, logits: Tensor) -> Tensor:
                return place.copy_(logits).detach()

            @staticmethod
            def backward(ctx: Any, seed: Tensor) -> Tensor:
                return seed

        return Placed.apply(logits)


@pytest.mark.parametrize("options", [{}, {"mixup": 1.0}, {"mixup": 1.0, "steps": 3}], ids=str)
def test_rat_of_a_model_that_uses_its_output_again(options: dict[str, Any]) -> None:
    """Which samples are right is seen before the mixed pass, and needed after it."""
    x, y = torch.rand(64, 8, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 3
    grads = []
    for wrap in (OneOutput, nn.Sequential):
        torch.manual_seed(0)
        model = wrap(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)))
        rrfast.RAT(eps=0.1, **options).backward(model, x, y)
        grads.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*grads)


def test_the_first_call_loads_no_compiler() -> None:
    """Loading it takes a second, and a Ctrl-C in it breaks it for the process."""
    code = (
        "import sys, torch, rrfast\n"
        "model, x = torch.nn.Linear(4, 3), torch.rand(2, 4)\n"
        "for method in rrfast.radius_methods:\n"
        "    rrfast.radius(model, x, method=method)\n"
        "rrfast.RadiusEstimator(model)(x)\n"
        "rrfast.RAT().backward(model, x, torch.tensor([0, 1]))\n"
        "compilers = {'torch._dynamo', 'torch._inductor', 'sympy'}\n"
        "print(sorted(compilers & set(sys.modules)))\n"
    ).replace("rrfast.radius_methods", repr(sorted(METHODS)))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
