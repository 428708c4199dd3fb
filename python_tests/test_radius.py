"""Promises of `radius`: an unchanged model, any batch, any context, clear errors."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import math
import resource
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

import rrfast
from rrfast.engine import Engine, frozen
from rrfast.methods import METHODS

PASSES = {
    "fast": (2, 1),
    "bs": (25, 1),
    "search": (6, 1),
    "grad": (1, 1),
    "refined": (1 + 5 + 4, 2 + 5),
    "pgd": (1 + 24 * 10, 1 + 24 * 9),
    "fab": (2 * 100 + 3, 9 * 100),
    "fmn": (100 + 1 + 3, 100),
}


@pytest.fixture(params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return request.param


#: Options of the methods with hundreds of passes, for tests with many calls.
FEWER: dict[str, dict[str, Any]] = {
    "fab": {"steps": 10},
    "fmn": {"steps": 10},
    "pgd": {"steps": 4},
}

#: Options that leave a walk a few passes, for hundreds of calls.
LEAST: dict[str, dict[str, Any]] = {
    "fab": {"steps": 2, "targets": 1, "final_search": 0},
    "fmn": {"steps": 2, "final_search": 0},
    "pgd": {"steps": 2, "step_size": 0.5, "radii": 2},
    "deepfool": {"steps": 2, "candidates": 2},
    "refined": {"rounds": 2, "final_search": 1},
}

#: Methods to try everything with; the others run dozens or hundreds of passes.
QUICK = ("fast", "bs", "search", "refined", "grad")


def convolutional(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 10),
    ).to(dtype)


def images(samples: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(samples, 3, 10, 10, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("method", PASSES)
def test_every_method_says_what_it_costs(method: str) -> None:
    calls = 0

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return model(x)

    model = convolutional().eval()
    result = rrfast.radius(Counting().eval(), images(4), method=method, full_output=True)
    assert (result.forwards, result.backwards) == PASSES[method]
    assert calls == result.forwards


@pytest.mark.parametrize("method", PASSES)
def test_no_backward_but_those(method: str) -> None:
    backwards = 0

    class Marked(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            nonlocal backwards
            backwards += 1
            return grad

    model = convolutional().eval()
    rrfast.radius(lambda x: model(Marked.apply(x)), images(4), method=method)
    assert backwards == PASSES[method][1]


# ----------------------------------------------------------------------------------- left as it was


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "grad": {
            n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()
        },
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "training": {n: m.training for n, m in model.named_modules()},
        "places": {n: (v.data_ptr(), v.stride()) for n, v in model.state_dict().items()},
        "attributes": {n: dict.fromkeys(vars(m), 0) for n, m in model.named_modules()},
        "hooks": {
            n: len(m._forward_hooks) + len(m._backward_hooks) for n, m in model.named_modules()
        },
        "rng": torch.get_rng_state(),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    torch.testing.assert_close(before, after, rtol=0, atol=0)


def mixed_model() -> nn.Module:
    """In training mode except one layer, one parameter frozen, some gradients set."""
    model = convolutional().train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    model[7].weight.grad = torch.randn_like(model[7].weight)
    return model


def test_the_model_and_the_input_are_left_as_they_were(method: str) -> None:
    model, x = mixed_model(), images(8)
    x.requires_grad_(True)
    x.grad = torch.ones_like(x)
    before, pixels = snapshot(model), x.detach().clone()
    r = rrfast.radius(model, x, method=method)
    assert_same(before, snapshot(model))
    assert not frozen._held
    assert torch.equal(x, pixels)
    assert x.requires_grad
    assert torch.equal(x.grad, torch.ones_like(x))
    assert not r.requires_grad


def test_also_after_an_error() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mixed_model()

        def forward(self, x: Tensor) -> Tensor:
            self.inner(x)
            raise RuntimeError("out of luck")

    model = Failing()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="out of luck"):
        rrfast.radius(model, images(2))
    assert_same(before, snapshot(model))


def test_inside_no_parameter_requires_a_gradient_and_all_is_in_eval_mode() -> None:
    seen = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mixed_model()

        def forward(self, x: Tensor) -> Tensor:
            seen.append(
                (
                    any(p.requires_grad for p in self.parameters()),
                    any(m.training for m in self.modules()),
                )
            )
            return self.inner(x)

    rrfast.radius(Looking(), images(2))
    assert seen == [(False, False)] * 2


def test_two_hundred_calls_keep_nothing(method: str) -> None:
    options = LEAST.get(method, {})
    model, x = nn.Linear(81920, 10), torch.rand(1, 81920)

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    for _ in range(10):
        rrfast.radius(model, x, method=method, **options)
    tensors, memory = alive(), resident()
    for _ in range(200):
        rrfast.radius(model, x, method=method, **options)
    assert alive() <= tensors
    # One input kept per call would be two hundred times 320 KiB.
    assert resident() - memory < 200 * x.nbytes / 4


# ---------------------------------------------------------------------------------------- any batch


def test_batch_and_order_do_not_matter(method: str) -> None:
    model, x = convolutional(torch.float64), images(512, torch.float64)
    radius = functools.partial(rrfast.radius, model, method=method, **FEWER.get(method, {}))
    whole = radius(x)
    order = torch.randperm(512)
    torch.testing.assert_close(radius(x[order]), whole[order], rtol=1e-12, atol=0)
    for size in (1, 7):
        parts = [radius(part) for part in x[:21].split(size)]
        torch.testing.assert_close(torch.cat(parts), whole[:21], rtol=1e-12, atol=0)


def test_empty_batch(method: str) -> None:
    result = rrfast.radius(convolutional(), images(0), method=method, full_output=True)
    for tensor in (result.radius, result.lower, result.upper):
        assert (tensor.shape, tensor.dtype) == ((0,), torch.float32)
    assert (result.prediction.shape, result.prediction.dtype) == ((0,), torch.int64)
    assert result.found.shape == (0,)
    assert (result.forwards, result.backwards) == (0, 0)


@pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 4, 6), (5, 2, 3, 4, 5)])
def test_inputs_of_any_shape(method: str, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(
        nn.Unflatten(0, (5, 1)), nn.Flatten(1), nn.Linear(math.prod(shape[1:]), 3)
    )
    r = rrfast.radius(model, torch.rand(shape), method=method, scale=2.0)
    assert r.shape == (5,)
    assert r.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"bounds": (-3.0, 3.0)}, {"scale": 2.0}], ids=str)
def test_a_sample_may_be_a_number(method: str, options: dict[str, Any]) -> None:
    x = torch.randn(6, dtype=torch.float64)
    slopes = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    scalar = rrfast.radius(lambda t: t[:, None] * slopes, x, method=method, **options)
    vector = rrfast.radius(lambda t: t * slopes, x[:, None], method=method, **options)
    assert torch.equal(scalar, vector)


@pytest.mark.parametrize("layout", ["channels_last", "strided", "expanded"])
def test_inputs_of_any_layout(method: str, layout: str) -> None:
    model, x = convolutional(torch.float64), images(4, torch.float64)
    if layout == "expanded":
        x = x[:1].expand(4, -1, -1, -1)
    laid = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "strided": x.transpose(2, 3).contiguous().transpose(2, 3),
        "expanded": x,
    }[layout]
    expected = rrfast.radius(model, x.contiguous(), method=method)
    torch.testing.assert_close(
        rrfast.radius(model, laid, method=method), expected, rtol=1e-10, atol=0
    )


def test_channels_last_stays_channels_last() -> None:
    seen = []

    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
            return model(x)

    model = convolutional().eval().to(memory_format=torch.channels_last)
    rrfast.radius(Looking(), images(4).contiguous(memory_format=torch.channels_last), method="bs")
    assert seen == [True] * 25


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("wrapped", ["bare", "compiled", "ddp"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_lie_channels_last(
    method: str, layout: str, wrapped: str, tmp_path: Path
) -> None:
    seen = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = convolutional(torch.float64).to(memory_format=torch.channels_last)

        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.is_contiguous(memory_format=torch.channels_last), x.is_contiguous()))
            return self.inner(x)

    looking, x = Looking(), images(4, torch.float64)
    expected = rrfast.radius(looking, x, method=method)
    seen.clear()
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    with process_group(tmp_path) if wrapped == "ddp" else contextlib.nullcontext():
        model: nn.Module = looking
        if wrapped == "compiled":
            torch._dynamo.reset()
            model = torch.compile(looking, backend="aot_eager")
        elif wrapped == "ddp":
            model = nn.parallel.DistributedDataParallel(looking)
        before = snapshot(looking)
        r = rrfast.radius(model, x, method=method)
        del model  # before the process group; see there
    torch.testing.assert_close(r, expected, rtol=1e-9, atol=0)
    if wrapped != "compiled":  # where only the tracing is seen
        assert set(seen) == {(layout == "channels_last", layout == "contiguous")}
    assert_same(before, snapshot(looking))


# -------------------------------------------------------------------------------------- any context


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_in_any_grad_mode(method: str, context: Any) -> None:
    model, expected = convolutional(), rrfast.radius(convolutional(), images(4), method=method)
    with context():
        x = images(4)  # under inference_mode: an inference tensor
        r = rrfast.radius(model, x, method=method)
        assert torch.is_grad_enabled() == (context is torch.enable_grad)
    assert torch.equal(r, expected)


def test_works_under_autocast(method: str) -> None:
    model, x = convolutional(), images(64)
    exact = rrfast.radius(model, x, method=method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        r = rrfast.radius(model, x, method=method)
    assert r.dtype == torch.float32
    # bfloat16 has three digits; the radius is a ratio of differences of logits, so what is asked is
    # the ranking.
    assert (
        torch.corrcoef(torch.stack((exact.argsort().argsort(), r.argsort().argsort())).double())[
            0, 1
        ]
        > 0.9
    )


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_models_in_16_bit_give_a_float32_radius(method: str, half: torch.dtype) -> None:
    model, x = nn.Linear(256, 2).to(half), torch.randn(64, 256).to(half)
    r = rrfast.radius(model, x, method=method)
    assert r.dtype == torch.float32
    exact = rrfast.radius(model.float(), x.float(), method=method)
    # Logits of 16 bits: relative to the margin, off by about unit / margin, more where it is small.
    clear = exact > exact.median()
    error = (r[clear] / exact[clear] - 1).abs()
    assert error.median() < (0.1 if half == torch.bfloat16 else 0.02)


def test_a_step_that_rounding_swallows_is_no_radius() -> None:
    model, x = nn.Linear(16, 2).bfloat16(), torch.full((4, 16), 200.0).bfloat16()
    result = rrfast.radius(model, x, full_output=True)
    assert result.radius.isnan().all()
    assert not result.found.any()


@pytest.mark.parametrize(
    ("inputs", "weights"), [(torch.float64, torch.float32), (torch.float32, torch.float64)]
)
def test_the_finer_precision_decides(
    method: str, inputs: torch.dtype, weights: torch.dtype
) -> None:
    model = nn.Linear(16, 4).to(weights)
    x = torch.randn(8, 16).to(inputs)
    r = rrfast.radius(lambda t: model(t.to(weights)), x, method=method)
    assert r.dtype == torch.float64
    exact = rrfast.radius(model.double(), x.double(), method=method)
    torch.testing.assert_close(r, exact, rtol=0.02, atol=0)


def test_a_compiled_model(method: str) -> None:
    few = FEWER.get(method, {})
    model, x = convolutional(), images(4)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(
        rrfast.radius(compiled, x, method=method, **few),
        rrfast.radius(model, x, method=method, **few),
        rtol=1e-4,
        atol=0,
    )
    assert compiled.training


def test_a_compiled_model_that_gives_up_its_activations() -> None:
    """The first backward decides: the graph's last, so all of this model's give up what was saved.

    Each further gradient takes a forward then, and the numbers are right.
    """
    model, x, few = convolutional(), images(4), [0.5, 1.0, 2.0]
    compiled = torch.compile(model, backend="aot_eager")
    rrfast.radius(compiled, x)
    result = rrfast.radius(compiled, x, temperature=few, full_output=True)
    expected = rrfast.radius(model, x, temperature=few)
    torch.testing.assert_close(result.radius, expected, rtol=1e-4, atol=0)
    assert (result.forwards, result.backwards) == (6, 3)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    result = rrfast.radius(compiled, x, temperature=few, full_output=True)
    assert (result.forwards, result.backwards) == (4, 3)


@contextlib.contextmanager
def process_group(folder: Path) -> Iterator[None]:
    store = torch.distributed.FileStore(str(folder / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        # A DDP that lived on would end gloo's threads while it holds the GIL they wait for.
        gc.collect()
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inside_ddp(method: str, tmp_path: Path) -> None:
    few = FEWER.get(method, {})
    x = images(4)
    expected = rrfast.radius(convolutional(), x, method=method, **few)
    with process_group(tmp_path):
        wrapped = nn.parallel.DistributedDataParallel(convolutional())
        assert torch.equal(rrfast.radius(wrapped, x, method=method, **few), expected)
        for _ in range(2):  # training goes on as if nothing had happened
            wrapped(x).sum().backward()
            assert all(p.grad is not None for p in wrapped.parameters())
        del wrapped


def test_ddp_inside_another_module(method: str, tmp_path: Path) -> None:
    few = FEWER.get(method, {})
    x = images(4)
    expected = rrfast.radius(convolutional(), x, method=method, **few)
    with process_group(tmp_path):
        wrapped = nn.Sequential(nn.parallel.DistributedDataParallel(convolutional()))
        assert torch.equal(rrfast.radius(wrapped, x, method=method, **few), expected)
        assert "forward" not in vars(wrapped[0])
        del wrapped


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_sharded_model_is_left_as_it_was(method: str, tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    few = FEWER.get(method, {})
    x = images(4)
    expected = rrfast.radius(convolutional().eval(), x, method=method, **few)
    with process_group(tmp_path):
        model = convolutional()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        torch.testing.assert_close(rrfast.radius(model, x, method=method, **few), expected)
        assert all(p.requires_grad for p in model.parameters())
        model(x).sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_methods_and_partials_of_a_module(method: str) -> None:
    few = FEWER.get(method, {})
    model = mixed_model()
    expected = rrfast.radius(model, images(4), method=method, **few)
    before = snapshot(model)
    for call in (model.forward, functools.partial(model), functools.partial(model.forward)):
        assert torch.equal(rrfast.radius(call, images(4), method=method, **few), expected)
    assert_same(before, snapshot(model))


def test_parameters_of_inference_mode_get_a_sentence() -> None:
    model = convolutional()
    with torch.inference_mode():
        model.append(nn.Linear(10, 10))
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises(ValueError, match="some were made under"):
        rrfast.radius(model, images(2))
    assert before == {n: p.requires_grad for n, p in model.named_parameters()}


def test_frozen_parameters_of_inference_mode_get_a_sentence_where_autograd_needs_them() -> None:
    with torch.inference_mode():
        model = convolutional().eval().requires_grad_(False)
    with pytest.raises(ValueError, match="some were made under"):
        rrfast.radius(model, images(2))
    assert rrfast.engine.logits(model, images(2)).shape == (2, 10)


def test_a_model_that_changes_its_input_gets_a_sentence() -> None:
    x = images(2) - 0.5
    kept = x.clone()
    model = nn.Sequential(nn.ReLU(inplace=True), convolutional())
    with pytest.raises(ValueError, match="model must not change its input in place"):
        rrfast.radius(model, x)
    assert torch.equal(x, kept)
    assert rrfast.radius(lambda t: model(t.clone()), x).isfinite().all()


def test_outputs_with_logits(method: str) -> None:
    model = convolutional().eval()
    expected = rrfast.radius(model, images(4), method=method)
    r = rrfast.radius(
        lambda x: types.SimpleNamespace(logits=model(x), loss=None), images(4), method=method
    )
    assert torch.equal(r, expected)


# ---------------------------------------------------------------------------------- doubtful inputs


def two_logits(h: Tensor) -> Any:
    """A model of two pixels whose logits are pixels, plus fixed logits."""
    return lambda x: x + h.to(x)


def test_a_tie_has_radius_zero(method: str) -> None:
    result = rrfast.radius(
        two_logits(torch.zeros(2)),
        torch.tensor([[0.5, 0.5], [1.0, 0.5]]),
        method=method,
        full_output=True,
    )
    assert result.radius[0].item() == 0
    assert result.prediction.tolist() == [0, 0]
    # `deepfool` goes 2 per cent beyond the boundary, and stays there.
    assert result.radius[1].item() == pytest.approx(
        0.25, rel=0.021 if method == "deepfool" else 0.01
    )
    assert result.found.all()


@pytest.mark.filterwarnings("ignore:the radius of every sample is infinite because every gradient")
def test_a_zero_gradient_finds_nothing(method: str) -> None:
    dead = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    dead[0].bias.data.fill_(-100.0)
    result = rrfast.radius(dead, torch.rand(5, 4), method=method, full_output=True)
    assert (result.radius == math.inf).all()
    assert not result.found.any()
    assert (result.upper == math.inf).all()


@pytest.mark.parametrize("broken", [math.nan, -math.nan])
def test_nan_is_never_a_number(method: str, broken: float) -> None:
    x = torch.tensor([[0.5, 0.25], [broken, 0.25], [0.5, broken]])
    result = rrfast.radius(two_logits(torch.zeros(2)), x, method=method, full_output=True)
    assert result.radius.isnan().tolist() == [False, True, True]
    assert result.found.tolist() == [True, False, False]


def test_a_gradient_that_is_nan_is_no_radius(method: str) -> None:
    def model(x: Tensor) -> Tensor:  # finite logits, but the square root has no slope at 0
        return torch.cat((x.sqrt() + 1, x.flip(1).square()), dim=1)[:, [0, 3]]

    x = torch.tensor([[0.0, 0.0], [0.25, 0.5]])
    assert rrfast.radius(model, x, method=method).isnan()[0]


def test_saturated_logits(method: str) -> None:
    """Logits ten thousand times as large, where softmax sees ones and zeros: the same radius."""
    model, hot, x = nn.Linear(4, 2), nn.Linear(4, 2), torch.rand(8, 4)
    hot.weight.data, hot.bias.data = model.weight.data * 1e4, model.bias.data * 1e4
    expected = rrfast.radius(model, x, method=method)
    assert (torch.softmax(hot(x), dim=1).amax(dim=1) == 1).any()
    # float32 logits are off by a few units in 2^-24 of the largest, and `fast` divides their
    # differences by alpha = 0.01.
    torch.testing.assert_close(rrfast.radius(hot, x, method=method), expected, rtol=1e-3, atol=0)


def test_adding_a_constant_to_the_logits_changes_nothing(method: str) -> None:
    model, x = convolutional(torch.float64).eval(), images(16, torch.float64)
    torch.testing.assert_close(
        rrfast.radius(lambda t: model(t) + 8.0, x, method=method),
        rrfast.radius(model, x, method=method),
        rtol=1e-9,
        atol=0,
    )


# -------------------------------------------------------------------------------------- pixel units


MEAN, STD = torch.tensor([0.49, 0.48, 0.45]).double(), torch.tensor([0.25, 0.2, 0.3]).double()


def normalise(x: Tensor) -> Tensor:
    return (x - MEAN[:, None, None]) / STD[:, None, None]


@pytest.mark.parametrize("boxed", [False, True])
def test_scale_makes_it_a_pixel_radius(method: str, boxed: bool) -> None:
    model, pixels = convolutional(torch.float64).eval(), images(16, torch.float64)
    pixel_box = (0.0, 1.0) if boxed else None
    normalised_box = (-MEAN / STD, (1 - MEAN) / STD) if boxed else None
    inside = rrfast.radius(lambda x: model(normalise(x)), pixels, method=method, bounds=pixel_box)
    outside = rrfast.radius(
        model, normalise(pixels), method=method, bounds=normalised_box, scale=1 / STD
    )
    torch.testing.assert_close(outside, inside, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bounds", [(-math.inf, math.inf), (0.0, math.inf), (-math.inf, 1.0)])
def test_one_sided_boxes(method: str, bounds: tuple[float, float]) -> None:
    model, x = nn.Linear(16, 4).double(), torch.rand(32, 16, dtype=torch.float64)
    x[:, 0], x[:, 1] = 0.0, 1.0  # on the faces
    far = tuple(max(-1e9, min(1e9, b)) for b in bounds)
    expected = rrfast.radius(model, x, method=method, bounds=far)
    torch.testing.assert_close(
        rrfast.radius(model, x, method=method, bounds=bounds), expected, rtol=1e-9, atol=0
    )


def test_doubling_the_scale_halves_the_radius(method: str) -> None:
    model, x = nn.Linear(16, 4).double(), torch.randn(8, 16, dtype=torch.float64)
    # Bisections stop at a bracket of 2^-8 of the radius, or so.
    tolerance = 2e-2 if method in ("bs", "pgd") else 1e-9
    torch.testing.assert_close(
        2 * rrfast.radius(model, x, method=method, scale=2.0),
        rrfast.radius(model, x, method=method),
        rtol=tolerance,
        atol=0,
    )


# ----------------------------------------------------------------------------------------- mistakes


def flat(x: Tensor) -> Tensor:
    return x.sum(dim=1)


MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"x": torch.zeros(2, 4, dtype=torch.uint8)},
        TypeError,
        r"x must be a floating-point tensor.*got a uint8 tensor of shape \[2, 4\].*x.float\(\)",
    ),
    (
        {"x": torch.zeros(2, 4, dtype=torch.int64)},
        TypeError,
        r"got an int64 tensor of shape \[2, 4\].* in place of token ids give their embeddings",
    ),
    ({"x": [[1.0, 2.0]]}, TypeError, "x must be a tensor of float64.*got list"),
    ({"x": torch.tensor(1.0)}, ValueError, "x must have a batch dimension"),
    ({"model": None}, TypeError, "model must be callable, got NoneType"),
    ({"model": nn.Linear}, TypeError, "model must be an object, got the class Linear: make one"),
    (
        {"model": flat},
        ValueError,
        r"the model's logits must have shape \[B, K\], got a float32 tensor of shape \[2\]",
    ),
    (
        {"model": lambda x: x[:, :1]},
        ValueError,
        "the model's logits must have at least two classes",
    ),
    (
        {"model": lambda x: x[:1]},
        ValueError,
        r"logits must have one row per sample of x, 2, got a float32 tensor of shape \[1, 4\]",
    ),
    (
        {"model": lambda x: (x, x)},
        TypeError,
        "model must return a tensor of logits, or an object with .logits, got tuple",
    ),
    (
        {"model": lambda x: x.argmax(1, keepdim=True)},
        TypeError,
        "the model's logits must be a tensor of float64",
    ),
    ({"model": lambda x: x.detach()}, ValueError, "model must be differentiable with respect to x"),
    (
        {"x": torch.rand(4)},
        ValueError,
        r"x must have a batch dimension, .*got a float32 tensor of shape \[4\].*give x\[None\]",
    ),
    (
        {"method": "faster"},
        ValueError,
        "method must be one of fast, bs, search, refined, .* got 'faster'; did you mean fast",
    ),
    (
        {"budget": 10},
        TypeError,
        "method 'fast' has no option 'budget'; its options are temperature, alpha",
    ),
    (
        {"method": "bs", "budget": 1},
        ValueError,
        "budget must be an integer of at least 2, got 1",
    ),
    ({"method": "bs", "budgt": 10}, TypeError, r"'budgt'; its .*; did you mean budget\?"),
    ({"method": "bs", "budget": 2.5}, ValueError, "budget must be an integer"),
    ({"method": "bs", "r_min": 0.0}, ValueError, "r_min must be finite and at least 1e-30"),
    ({"full_output": "no"}, TypeError, "full_output must be a bool, got str 'no'"),
    ({"alpha": -0.01}, ValueError, "alpha must be finite and greater than 0, got -0.01"),
    ({"temperature": math.inf}, ValueError, "temperature must be finite and at least 0, got inf"),
    (
        {"temperature": 0.0, "compat": "released"},
        ValueError,
        "temperature must be finite and greater than 0",
    ),
    ({"compat": "original"}, ValueError, "compat must be one of paper, released, got 'original'"),
    ({"bounds": (1, 0)}, ValueError, r"bounds must have lower <= upper, got \(1, 0\)"),
    ({"bounds": 1.0}, TypeError, r"bounds must be None or a pair \(lower, upper\)"),
    ({"bounds": torch.tensor(1.0)}, TypeError, r"bounds must be None or a pair \(lower, upper\)"),
    ({"scale": ["1", 1, 1, 1]}, TypeError, "scale must be a number or a tensor with one value per"),
    ({"scale": [1, 1]}, ValueError, "scale must be a number or hold one value for each of the 4"),
    ({"bounds": (None, 1)}, TypeError, "bounds must be a number or a tensor with one value"),
    ({"bounds": (0, "1")}, TypeError, "bounds must be a number or a tensor with one value"),
    ({"method": "bs", "r_min": 1e-50}, ValueError, "r_min must be finite and at least 1e-30"),
    (
        {"scale": torch.ones(3)},
        ValueError,
        "scale must be a number or hold one value for each of the 4 channels",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"), MISTAKES, ids=[m[2][:40] for m in MISTAKES]
)
def test_mistakes_get_a_sentence(
    arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    call: dict[str, Any] = {"model": nn.Linear(4, 3), "x": torch.rand(2, 4), **arguments}
    with pytest.raises(error, match=sentence):
        rrfast.radius(call.pop("model"), call.pop("x"), **call)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of its own layouts
@pytest.mark.parametrize(
    ("make", "described"),
    [
        (
            lambda x: x.to_sparse(),
            r"a sparse_coo float32 tensor of shape \[2, 4\]; give x.to_dense",
        ),
        (lambda x: x.to_sparse_csr(), "a sparse_csr float32 tensor of shape"),
        (lambda x: x.to_mkldnn(), "a mkldnn float32 tensor of shape"),
        (lambda x: torch.nested.nested_tensor(list(x)), "a nested float32 tensor; give torch.nest"),
        (
            lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
            "a nested float32 tensor; give torch.nested.to_padded_tensor",
        ),
    ],
    ids=["sparse", "CSR", "MKL-DNN", "nested", "jagged"],
)
def test_x_must_be_dense(make: Callable[[Tensor], Tensor], described: str) -> None:
    model, x, y = nn.Linear(4, 3), make(torch.rand(2, 4)), torch.tensor([0, 1])
    for door in (
        rrfast.radius,
        functools.partial(rrfast.radius, bounds=(0, 1)),
        rrfast.scores.ODIN(),
        lambda f, x: rrfast.attacks.PGD()(f, x, y),
        lambda f, x: rrfast.RAT().backward(f, x, y),
        lambda f, x: rrfast.objectives.RegMixup().backward(f, x, y),
    ):
        with pytest.raises(TypeError, match=f"x must be a dense tensor, got {described}"):
            door(model, x)


def test_x_must_have_elements() -> None:
    """Else some methods gave infinity, and others an error of torch."""
    for door in (
        rrfast.radius,
        rrfast.scores.MSR(),
        lambda f, x: rrfast.attacks.PGD()(f, x, torch.tensor([0, 1])),
    ):
        with pytest.raises(ValueError, match=r"one element per sample, got .* \[2, 0, 4\]"):
            door(nn.Flatten(), torch.rand(2, 0, 4))


def test_a_score_of_the_logits_takes_sparse_x() -> None:
    model, x = nn.Linear(4, 3), torch.rand(2, 4)
    score = rrfast.scores.MSR()
    torch.testing.assert_close(score(model, x.to_sparse()), score(model, x))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(128, 4)),
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4)),
    ],
    ids=["BatchNorm", "Flatten"],
)
def test_an_image_without_a_batch_gets_a_sentence(model: nn.Module) -> None:
    for call in (rrfast.radius, rrfast.scores.MSR(), rrfast.engine.logits):
        with pytest.raises(ValueError, match=r"x must have a batch dimension.*give x\[None\]"):
            call(model, images(1)[0])


def test_a_model_that_fails_by_itself_says_so_itself() -> None:
    def failing(x: Tensor) -> Tensor:
        raise KeyError("its own")

    for x in (torch.rand(4), torch.rand(2, 4), images(2)):
        with pytest.raises(KeyError, match="its own"):
            rrfast.radius(failing, x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own
def test_no_gradient_at_x_gets_a_sentence(method: str) -> None:
    """Though there is one for weights: those of a function are not frozen."""
    model = convolutional()
    quantised = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Flatten(), nn.Linear(300, 4)), {nn.Linear}
    )
    for f in (lambda x: model(x.detach()), quantised):
        with pytest.raises(ValueError, match="model must be differentiable with respect to x"):
            rrfast.radius(f, images(2), method=method)


def test_reentrant_checkpoints_get_a_sentence(method: str) -> None:
    model = convolutional()

    def checkpointed(x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(model, x, use_reentrant=True)

    with pytest.raises(ValueError, match="model must be checkpointed with use_reentrant=False"):
        rrfast.radius(checkpointed, images(2), method=method)


class AsOfCudnn(torch.autograd.Function):
    """Tanh, with the backward of cuDNN's recurrent networks: none of a forward in eval mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.cudnn = torch.backends.cudnn.enabled
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        if ctx.cudnn:
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


def test_recurrent_networks_of_cudnn_are_recorded_without_it(method: str) -> None:
    torch.manual_seed(0)
    inner, outer = nn.Linear(300, 16), nn.Linear(16, 4)
    x = images(3)

    def recurrent(x: Tensor) -> Tensor:
        return outer(AsOfCudnn.apply(inner(x.flatten(1))))

    def plain(x: Tensor) -> Tensor:
        return outer(inner(x.flatten(1)).tanh())

    actual, expected = (rrfast.radius(f, x, method=method) for f in (recurrent, plain))
    torch.testing.assert_close(actual, expected)
    assert torch.backends.cudnn.enabled
    with Engine(recurrent) as running:
        for _ in range(3):
            running.forward_backward(x, 1.0)
    assert (running.forwards, running.backwards) == (4, 3)  # one more, once


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_recurrent_network_on_cuda_has_a_radius() -> None:
    torch.manual_seed(0)
    lstm, head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)
    x = torch.rand(5, 10, 8)

    def model(x: Tensor) -> Tensor:
        return head(lstm(x)[0][:, -1])

    expected = rrfast.radius(model, x)
    lstm.cuda(), head.cuda()
    actual = rrfast.radius(model, x.cuda()).cpu()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("options", [{"method": "deepfool"}, {"method": "search", "tol": 1e-3}])
def test_a_model_of_one_batch_size_gets_a_sentence(options: dict[str, Any]) -> None:
    """Where samples that are done leave the batch."""
    torch.manual_seed(0)
    x = torch.rand(6, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(rrfast.radius(exported, x), rrfast.radius(model, x))
    with pytest.raises(
        ValueError, match=r"take parts of a batch.*took 6 samples but not [1-5], like"
    ):
        rrfast.radius(exported, x, **options)


@pytest.mark.parametrize("method", sorted({*PASSES} - {"grad"}))  # which has one pass
@pytest.mark.parametrize(
    ("changed", "got"),
    [
        (lambda h: h[:, :3], r"float32 tensor of shape \[4, 3\]"),
        (lambda h: h.double(), r"float64 tensor of shape \[4, 4\]"),
        (lambda h: h.bfloat16(), r"bfloat16 tensor of shape \[4, 4\]"),
    ],
    ids=["classes", "finer", "coarser"],
)
def test_a_model_whose_logits_change_their_kind_gets_a_sentence(
    method: str, changed: Callable[[Tensor], Tensor], got: str
) -> None:
    passes, layer = itertools.count(), nn.Linear(8, 4)

    def model(x: Tensor) -> Tensor:
        return layer(x) if next(passes) == 0 else changed(layer(x))

    said = f"model must return .* dtype, 4 in float32 in its first pass, but then got a {got}"
    with pytest.raises(ValueError, match=said):
        rrfast.radius(model, torch.rand(4, 8), method=method)


@pytest.mark.parametrize("make", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_scale_and_bounds_as_lists(make: Any) -> None:
    x, scale = images(4), [1.0, 2.0, 4.0]
    expected = rrfast.radius(convolutional(), x, scale=torch.tensor(scale), bounds=(0, 1))
    bounds = (make([0, 0, 0]), make([1, 1, 1]))
    assert torch.equal(
        rrfast.radius(convolutional(), x, scale=make(scale), bounds=bounds), expected
    )
