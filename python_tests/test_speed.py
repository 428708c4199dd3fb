"""Options of speed: the model untouched, the radius as near as was measured."""

from __future__ import annotations

import copy
import functools
import pickle
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from test_estimator import together
from test_radius import QUICK, assert_same, images, process_group, snapshot
from torch import Tensor, nn

import rrfast
from rrfast import RadiusEstimator
from rrfast._turns import Timed, Turns
from rrfast.data import digits
from rrfast.engine import Engine
from rrfast.engine.prepared import Prepared, prepared
from rrfast.models import digits_cnn

pytestmark = pytest.mark.filterwarnings("ignore:dtype=torch.float16 takes")

LAYOUT = {"memory_format": torch.channels_last}
FOLD = {"fold_batchnorm": True}
EXACT = [LAYOUT, FOLD, {**LAYOUT, **FOLD}]
BFLOAT16 = {"dtype": torch.bfloat16}
FLOAT16 = {"dtype": torch.float16}
COARSE = [BFLOAT16, FLOAT16, {**BFLOAT16, **LAYOUT, **FOLD}]


def test_float16_on_a_cpu_warns() -> None:
    with pytest.warns(RuntimeWarning, match="dtype=torch.float16 takes many times as long"):
        RadiusEstimator(digits_cnn(), **FLOAT16)
    RadiusEstimator(digits_cnn(), **BFLOAT16)


def named(options: dict[str, Any]) -> str:
    return "+".join(options) + "=" + str(options.get("dtype", ""))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor]:
    """The digits' CNN after a few epochs, in training mode, and test images."""
    torch.manual_seed(0)
    data, model = digits(), digits_cnn().train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(6):
        for x, y in zip(data.train.x.split(64), data.train.y.split(64), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model, data.test.x


def with_marks(model: nn.Module) -> list[str]:
    """A hook on the first layer, and the inputs that it has seen."""
    seen: list[str] = []
    next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(
        lambda *_: seen.append("called")
    )
    return seen


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("options", EXACT, ids=named)
def test_same_radius_but_for_the_last_digits(
    trained: tuple[nn.Module, Tensor], method: str, options: dict[str, Any]
) -> None:
    model, x = trained
    expected = rrfast.radius(model, x, method=method)
    error = (RadiusEstimator(model, method, **options)(x) / expected - 1).abs()
    # Measured: medians up to 2e-6, largest 1e-4 ("fast"), 3e-4 ("bs").
    assert error.median() < 1e-5
    assert error.max() < 3e-3


@pytest.mark.parametrize("options", COARSE, ids=named)
def test_the_radius_of_16_bits(trained: tuple[nn.Module, Tensor], options: dict[str, Any]) -> None:
    model, x = trained
    expected = rrfast.radius(model, x)
    radius = RadiusEstimator(model, **options)(x)
    assert radius.dtype == torch.float32
    error = (radius / expected - 1).abs()
    # Measured: 3.3 % and 11 % in bfloat16, 0.4 % and 1.7 % in float16.
    median, most = (0.06, 0.2) if options["dtype"] == torch.bfloat16 else (0.01, 0.04)
    assert error.median() < median
    assert error.quantile(0.95) < most


@pytest.mark.parametrize("options", [*EXACT, BFLOAT16, {"speed": "auto"}], ids=named)
def test_inside_inference_mode(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """Made and called there, and called again outside."""
    monkeypatch.setattr(rrfast.estimator, "Turns", Clocked)
    monkeypatch.setattr(Clocked, "seconds", {"channels_last + fold_batchnorm": 0.5})
    model, x = normed().float(), images(6)
    expected = RadiusEstimator(model, "grad", **options)(x)
    with torch.inference_mode():
        estimator = RadiusEstimator(model, "grad", **options)
        assert torch.equal(estimator(x), expected)
        assert estimator.speed in (None, "channels_last + fold_batchnorm")
    assert torch.equal(estimator(x), expected)


@pytest.mark.parametrize("options", [*EXACT, *COARSE], ids=named)
def test_the_model_is_left_bit_for_bit(options: dict[str, Any]) -> None:
    model, x = digits_cnn().train(), torch.rand(4, 1, 8, 8)
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    seen = with_marks(model)
    strides = {name: value.stride() for name, value in model.state_dict().items()}
    before, pixels = snapshot(model), x.clone()
    estimator = RadiusEstimator(model, **options)
    estimator.eval()
    model.train()
    estimator(x)
    with pytest.raises(RuntimeError):
        estimator(x[:, :, :1])
    assert_same(before, snapshot(model))
    assert strides == {name: value.stride() for name, value in model.state_dict().items()}
    assert torch.equal(x, pixels)
    assert seen


def test_without_options_it_is_the_model_itself() -> None:
    model = digits_cnn()
    assert RadiusEstimator(model).model is model
    assert prepared(model) is model


# -------------------------------------------------------------------------------------- each option


def test_logits_are_widened_and_the_gradient_with_them() -> None:
    model, x = digits_cnn().eval(), torch.rand(4, 1, 8, 8)
    with Engine(prepared(model, **BFLOAT16)) as engine:
        recorded = engine.record(x)
        seed = torch.randn_like(recorded.logits)
        grad = recorded.grad(seed)
    assert recorded.logits.dtype == grad.dtype == torch.float32
    with Engine(model) as engine, torch.autocast("cpu", torch.bfloat16):
        narrow = engine.record(x)
        expected = narrow.grad(seed.bfloat16())
    assert narrow.logits.dtype == torch.bfloat16
    assert torch.equal(recorded.logits, narrow.logits.float())
    assert torch.equal(grad, expected)


def test_only_the_model_runs_under_autocast() -> None:
    seen = []

    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
            return x.flatten(1)[:, :3]

    RadiusEstimator(Looking(), **BFLOAT16)(images(2))
    assert seen == [(torch.float32, True)] * 2
    assert not torch.is_autocast_enabled("cpu")


def test_a_float64_model_is_not_narrowed() -> None:
    model, x = digits_cnn().double(), torch.rand(4, 1, 8, 8, dtype=torch.float64)
    assert torch.equal(RadiusEstimator(model, **BFLOAT16)(x), rrfast.radius(model, x))


@pytest.mark.parametrize("method", QUICK)
def test_channels_last_from_the_input_to_the_weights(method: str) -> None:
    seen = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 2, 10)

        def forward(self, x: Tensor) -> Tensor:
            layout = {"memory_format": torch.channels_last}
            seen.append(
                x.is_contiguous(**layout) and self.convolution.weight.is_contiguous(**layout)
            )
            return self.convolution(x).flatten(1)

    RadiusEstimator(Looking(), method, **LAYOUT)(images(4))
    assert seen
    assert all(seen)


def test_batchnorm_is_gone() -> None:
    folded = RadiusEstimator(digits_cnn(), **FOLD).model
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_a_compiled_copy_and_its_copies(trained: tuple[nn.Module, Tensor]) -> None:
    model, x = trained[0], trained[1][:8]
    before = snapshot(model)
    estimator = RadiusEstimator(model, compile=True, temperature=[0.5, 1.0])
    expected = rrfast.radius(model, x, temperature=[0.5, 1.0])
    # Measured: 4e-6.
    torch.testing.assert_close(estimator(x), expected, rtol=1e-3, atol=0)
    assert isinstance(estimator.model, Prepared)
    assert estimator.model._compiled_call_impl is not None
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert twin.model._compiled_call_impl is not None
    assert_same(before, snapshot(model))
    assert model._compiled_call_impl is None


@pytest.mark.parametrize("options", [*EXACT, *COARSE], ids=named)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_prepared_models_copy(options: dict[str, Any], copied: Callable[[Any], Any]) -> None:
    estimator, x = RadiusEstimator(digits_cnn(), **options), torch.rand(4, 1, 8, 8)
    assert torch.equal(copied(estimator)(x), estimator(x))


def test_prepared_models_in_threads() -> None:
    model, x = digits_cnn().train(), torch.rand(8, 1, 8, 8)
    before = snapshot(model)
    estimators = [RadiusEstimator(model, **options) for options in (BFLOAT16, FOLD)]
    expected = [estimator(x) for estimator in estimators]

    def job(i: int) -> None:
        for _ in range(30):
            assert torch.equal(estimators[i](x), expected[i])

    together(*(functools.partial(job, i) for i in (0, 1)))
    assert_same(before, snapshot(model))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inside_ddp(tmp_path: Path) -> None:
    model, x = digits_cnn(), torch.rand(4, 1, 8, 8)
    expected = [RadiusEstimator(model, **options)(x) for options in (*EXACT, BFLOAT16)]
    with process_group(tmp_path):
        wrapped = nn.parallel.DistributedDataParallel(model)
        for options, radius in zip((*EXACT, BFLOAT16), expected, strict=True):
            assert torch.equal(RadiusEstimator(wrapped, **options)(x), radius)
        del wrapped  # before the process group; see there


# ------------------------------------------------------------------------------------- speed="auto"


class Clocked(Turns):
    """Times by name that are made up, as parts of the eager one's; None for an error."""

    seconds: ClassVar[dict[str, float | None]] = {}
    asked: ClassVar[list[list[str]]] = []

    def take(self) -> dict[str, Timed]:
        self.asked.append(list(self._contestants))
        made = {name: self.seconds.get(name, 2.0) for name in self._contestants}
        return {
            name: Timed(error="RuntimeError: none") if own is None else Timed(floor=[1], own=[own])
            for name, own in made.items()
        }


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> type[Clocked]:
    monkeypatch.setattr(rrfast.estimator, "Turns", Clocked)
    monkeypatch.setattr(Clocked, "asked", [])
    return Clocked


@pytest.mark.parametrize(
    ("seconds", "chosen", "options"),
    [
        ({"fold_batchnorm": 0.8}, "fold_batchnorm", FOLD),
        ({"fold_batchnorm": 0.8, "channels_last": 0.7}, "channels_last", LAYOUT),
        (
            {"channels_last + fold_batchnorm": 0.5, "channels_last": 0.7},
            "channels_last + fold_batchnorm",
            LAYOUT | FOLD,
        ),
        ({"fold_batchnorm": 0.98}, "eager", {}),  # too little to be sure of
        ({"fold_batchnorm": None, "channels_last": 0.9}, "channels_last", LAYOUT),
    ],
)
def test_auto_takes_the_fastest_from_the_first_batch_on(
    clocked: type[Clocked],
    monkeypatch: pytest.MonkeyPatch,
    trained: tuple[nn.Module, Tensor],
    seconds: dict[str, float | None],
    chosen: str,
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(Clocked, "seconds", seconds)
    model, x = trained
    estimator = RadiusEstimator(model, "grad", speed="auto")
    assert estimator.speed == "auto"
    estimator(x[:0])
    assert not clocked.asked  # an empty batch says nothing
    expected = RadiusEstimator(model, "grad", **options)
    for part in (x[:16], x[16:40]):
        assert torch.equal(estimator(part), expected(part))
        assert estimator.speed == chosen
    assert clocked.asked == [
        ["eager", "channels_last", "fold_batchnorm", "channels_last + fold_batchnorm"]
    ]
    assert f"speed='{chosen}'" in repr(estimator)


def test_auto_leaves_out_what_a_model_does_not_support(clocked: type[Clocked]) -> None:
    for model, x in (
        (lambda x: x.flatten(1), torch.rand(2, 3, 4, 4)),
        (Deciding(), torch.rand(2, 1, 8, 8)),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), torch.rand(2, 4)),
    ):
        estimator = RadiusEstimator(model, "grad", speed="auto")
        assert torch.equal(estimator(x), rrfast.radius(model, x, method="grad"))
        assert estimator.speed == "eager"
    assert clocked.asked == [["eager", "channels_last"], ["eager", "fold_batchnorm"]]


#: What changes a model between two calls. A fused step counts no version of what it changes.
CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "step": lambda model: stepped(torch.optim.SGD(model.parameters(), 0.1)),
    "fused step": lambda model: stepped(torch.optim.AdamW(model.parameters(), 0.1, fused=True)),
    "statistics": lambda model: model.train()(torch.rand(8, 3, 10, 10)),
    "loaded": lambda model: model.load_state_dict(normed(1).float().state_dict()),
    "assigned": lambda model: model.load_state_dict(normed(1).float().state_dict(), assign=True),
    "another layer": lambda model: model.__setitem__(3, nn.Linear(256, 4)),
}


def stepped(optimizer: torch.optim.Optimizer) -> None:
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("chosen", ["eager", "channels_last", "fold_batchnorm"])
def test_auto_follows_the_model_whatever_it_chose(
    clocked: type[Clocked], monkeypatch: pytest.MonkeyPatch, chosen: str, change: str
) -> None:
    """What a copy would not see may not depend on the clock of the machine."""
    monkeypatch.setattr(Clocked, "seconds", {chosen: 0.5})
    model, x = normed().float(), images(6)
    estimator = RadiusEstimator(model, "grad", speed="auto")
    names = list(estimator.state_dict())
    before = estimator(x)
    again = estimator._following.of(model)
    estimator(x)
    assert estimator._following.of(model) is again  # nothing has changed
    CHANGES[change](model)
    expected = rrfast.radius(model, x, method="grad")
    assert (expected / before - 1).abs().max() > 0.01
    torch.testing.assert_close(estimator(x), expected, rtol=1e-3, atol=0)
    assert estimator.speed == chosen
    assert estimator.model is model
    assert list(estimator.state_dict()) == names


def test_auto_after_a_move_and_in_copies(
    clocked: type[Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clocked, "seconds", {"fold_batchnorm": 0.5})
    model, x = normed().float(), images(6)
    estimator = RadiusEstimator(model, "grad", speed="auto")
    radius = estimator(x)
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert twin.speed == "fold_batchnorm"
        assert torch.equal(twin(x), radius)
        stepped(torch.optim.SGD(twin.model.parameters(), 0.1))
        assert not torch.equal(twin(x), radius)
    assert torch.equal(estimator(x), radius)
    assert estimator.double()(x.double()).dtype == torch.float64


def test_auto_by_the_clock(
    monkeypatch: pytest.MonkeyPatch, trained: tuple[nn.Module, Tensor]
) -> None:
    monkeypatch.setattr(rrfast.estimator, "SECONDS", 0.05)
    model, x = trained
    estimator = RadiusEstimator(model, "grad", speed="auto")
    expected = rrfast.radius(model, x, method="grad")
    # As for each of them above.
    assert (estimator(x) / expected - 1).abs().max() < 3e-3
    layouts = {"channels_last", "fold_batchnorm", "channels_last + fold_batchnorm"}
    assert estimator.speed in {"eager"} | layouts


# ----------------------------------------------------------------------------------------- mistakes


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = digits_cnn()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.sum() > 0 else self.inner(-x)


class Ungraded(nn.Module):
    """What torch.fx records, and the context around it not."""

    def __init__(self, context: str = "no_grad") -> None:
        super().__init__()
        self.context = context
        self.layer = nn.Linear(300, 3)

    def forward(self, x: Tensor) -> Tensor:
        no_grad = self.context == "no_grad"
        with torch.no_grad() if no_grad else torch.autocast("cpu", enabled=False):
            shift = x.mean()
        return self.layer((x - shift).flatten(1))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.randn(3, 10, 10)).flatten(1)


@pytest.mark.parametrize(
    ("model", "options", "error", "sentence"),
    [
        (lambda x: x, BFLOAT16, TypeError, "dtype=torch.bfloat16 needs an nn.Module as model"),
        (lambda x: x, {"compile": True}, TypeError, "compile=True needs an nn.Module"),
        (digits_cnn(), {"dtype": torch.float64}, ValueError, "dtype must be None, torch.bfloat16"),
        (digits_cnn(), {"dtype": "bf16"}, ValueError, "dtype must be None.*got str 'bf16'"),
        (
            digits_cnn(),
            {"memory_format": torch.preserve_format},
            ValueError,
            "memory_format must be None or torch.channels_last, got memory_format",
        ),
        (Deciding(), FOLD, ValueError, "needs a model that torch.fx can trace symbolically"),
        (Ungraded(), FOLD, ValueError, "the record lacks the no_grad or the autocast that the"),
        (Ungraded("autocast"), FOLD, ValueError, "lacks the no_grad or the autocast"),
        (Noisy(), FOLD, ValueError, "the record has random numbers that were drawn while"),
        (digits_cnn(), {"speed": "fast"}, ValueError, "speed must be None or 'auto', got str"),
        (digits_cnn(), {"speed": "auto", **FOLD}, ValueError, "got 'auto' and fold_batchnorm"),
    ],
)
def test_mistakes_get_a_sentence(
    model: Any, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        RadiusEstimator(model, **options)


def test_channels_last_needs_images() -> None:
    estimator = RadiusEstimator(nn.Linear(4, 3), **LAYOUT)
    with pytest.raises(ValueError, match=r"x must be \[B, C, H, W\] with memory_format"):
        estimator(torch.rand(2, 4))


@pytest.mark.filterwarnings("ignore:model has a BatchNorm2d without")
def test_folding_does_not_touch_what_it_cannot_fold() -> None:
    class Branching(nn.Module):
        """The convolution's output goes elsewhere too; the second BatchNorm keeps no statistics."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)
            self.last = nn.BatchNorm2d(3, track_running_stats=False)

        def forward(self, x: Tensor) -> Tensor:
            h = self.convolution(x)
            return self.last(self.norm(h) + h).flatten(1)

    model, x = Branching().double(), images(4, torch.float64)
    model.norm.running_var.uniform_(0.5, 2)
    expected = rrfast.radius(model, x)
    torch.testing.assert_close(RadiusEstimator(model, **FOLD)(x), expected, rtol=1e-9, atol=0)


# -------------------------------------------------------------------- hooks, and what is no fold


def normed(seed: int = 0) -> nn.Sequential:
    """A convolution and a BatchNorm with statistics, within another module."""
    torch.manual_seed(seed)
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    # Tanh, for which nothing is dead, whatever a hook makes of its input.
    model = nn.Sequential(inner, nn.Tanh(), nn.Flatten(), nn.Linear(256, 4)).double()
    for _ in range(3):
        model(images(8, torch.float64) * 3 - 1)
    return model.eval()


#: How a module is made to compute something else than its class's forward does.
OWN: dict[str, Callable[[nn.Module], object]] = {
    "forward pre-hook": lambda m: m.register_forward_pre_hook(lambda _, a: (2 * a[0] - 1,)),
    "forward hook": lambda m: m.register_forward_hook(lambda _, a, h: 2 * h.abs() + a[0].mean()),
    "backward pre-hook": lambda m: m.register_full_backward_pre_hook(lambda _, g: (g[0] ** 2,)),
    "backward hook": lambda m: m.register_full_backward_hook(lambda *a: (a[1][0] ** 2,)),
    "forward": lambda m: vars(m).update(
        forward=types.MethodType(lambda self, x: type(self).forward(self, 2 * x - 1), m)
    ),
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", ["0.0", "0.1", "1", "3"])
def test_layers_that_do_more_are_not_folded(own: str, name: str) -> None:
    model, x = normed(), images(6, torch.float64)
    OWN[own](model.get_submodule(name))
    expected = rrfast.radius(model, x, method="grad")
    assert expected.isfinite().all()
    radius = RadiusEstimator(model, "grad", **FOLD)(x)
    torch.testing.assert_close(radius, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", ["", "0"])
def test_modules_that_do_more_are_not_recorded(own: str, name: str) -> None:
    model = normed()
    OWN[own](model.get_submodule(name))
    called = "its module '0'" if name else "the model"
    with pytest.raises(ValueError, match=f"the record lacks the hooks of {called}, or the forward"):
        RadiusEstimator(model, **FOLD)


def test_hooks_of_all_modules_are_not_recorded() -> None:
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.raises(ValueError, match="lacks the hooks that are registered for all modules"):
            RadiusEstimator(normed(), **FOLD)
    finally:
        hook.remove()


@pytest.mark.parametrize("options", [LAYOUT, FOLD], ids=named)
def test_a_function_set_as_forward_is_not_copied(options: dict[str, Any]) -> None:
    model = normed()
    model[0].forward = lambda x: nn.Sequential.forward(model[0], 2 * x)
    with pytest.raises(ValueError, match="function that was set as the forward of its module '0'"):
        RadiusEstimator(model, **options)


def test_a_layer_that_is_called_twice_or_read_elsewhere() -> None:
    class Twice(nn.Module):
        """One convolution before two BatchNorms, and its weight in a third place."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3, padding=1)
            self.one, self.two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.two(self.convolution(self.one(self.convolution(x))))
            return nn.functional.conv2d(h, self.convolution.weight).flatten(1)

    model, x = Twice().double(), images(4, torch.float64)
    model.one.running_mean.uniform_()
    model.two.running_var.uniform_(0.5, 2)
    estimator = RadiusEstimator(model, **FOLD)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in estimator.modules())
    torch.testing.assert_close(estimator(x), rrfast.radius(model, x), rtol=1e-9, atol=0)


class Features(nn.Module):
    """BatchNorm1d after a linear layer: over the features of [B, 8], the tokens of [B, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x)).flatten(1)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 8)])
def test_batchnorm_after_a_linear_layer(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Features().double(), torch.rand(shape, dtype=torch.float64)
    for _ in range(3):
        model(x * torch.arange(1.0, 9.0, dtype=x.dtype).view(8, *[1] * (x.dim() - 2)))
    expected = rrfast.radius(model, x)
    torch.testing.assert_close(RadiusEstimator(model, **FOLD)(x), expected, rtol=1e-9, atol=0)
