"""The books of captured calls: when one is captured, kept and given up. No graph is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from test_estimator import together
from test_radius import QUICK, convolutional, images, process_group
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import rrfast
from rrfast import RadiusEstimator
from rrfast.engine import Engine
from rrfast.methods import METHODS, Estimate, Fast, cuda_graphs
from rrfast.methods.cuda_graphs import LIMIT, PATIENCE, CaptureError
from rrfast.methods.measure import Measured


class Pool:
    """In place of CUDA's: "captures" by noting it, "replays" by running."""

    captures: ClassVar[list[tuple[int, ...]]] = []
    breaks: ClassVar[bool] = False

    def __init__(self, device: torch.device) -> None:
        pass

    def capture(self, run: Callable[[Tensor], Measured], x: Tensor) -> Callable[[Tensor], Measured]:
        self.captures.append(tuple(x.shape))
        if self.breaks:
            raise CaptureError("the model could not be captured in a CUDA graph: no")
        return run


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(cuda_graphs, "Pool", Pool)
    monkeypatch.setattr(cuda_graphs, "_obstacle", lambda *_: "")
    monkeypatch.setattr(Pool, "captures", [])
    return Pool


def test_auto_captures_the_third_call_of_a_kind(pool: type[Pool]) -> None:
    estimator = RadiusEstimator(convolutional(), "grad")
    for size in (4, 4, 2, 4):  # an odd batch between them
        estimator(images(size))
    assert PATIENCE == 3
    assert pool.captures == [(4, 3, 10, 10)]
    estimator(images(4))
    estimator(images(2))
    assert len(pool.captures) == 1


def test_true_captures_the_first_and_false_none(pool: type[Pool]) -> None:
    RadiusEstimator(convolutional(), cuda_graph=True)(images(4))
    assert len(pool.captures) == 1
    never = RadiusEstimator(convolutional(), cuda_graph=False)
    for _ in range(5):
        never(images(4))
    assert len(pool.captures) == 1


def test_an_empty_batch_is_not_captured(pool: type[Pool]) -> None:
    assert RadiusEstimator(convolutional(), cuda_graph=True)(images(0)).shape == (0,)
    assert not pool.captures


def test_a_kind_is_shape_layout_dtype_and_autocast(pool: type[Pool]) -> None:
    model, x = convolutional(), images(4)
    estimator = RadiusEstimator(lambda t: model(t.float()), "grad", cuda_graph=True)
    kinds = (x, x[:3], x.contiguous(memory_format=torch.channels_last), x.double())
    for _ in range(2):
        for kind in kinds:
            estimator(kind)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            estimator(x)
    assert len(pool.captures) == 5


def test_the_least_recently_used_graph_goes(pool: type[Pool]) -> None:
    estimator = RadiusEstimator(convolutional(), "grad", cuda_graph=True)
    for size in range(1, LIMIT + 2):
        estimator(images(size))
        estimator(images(1))  # used again and again
    assert len(pool.captures) == LIMIT + 1
    estimator(images(1))
    estimator(images(3))
    assert len(pool.captures) == LIMIT + 1
    estimator(images(2))
    assert len(pool.captures) == LIMIT + 2


def test_many_shapes_in_turn_are_not_captured_over_and_over(pool: type[Pool]) -> None:
    estimator = RadiusEstimator(nn.Sequential(nn.Flatten(), nn.Linear(300, 3)), "grad")
    for _ in range(100):
        for size in range(1, LIMIT + 3):
            estimator(images(size))
    # 3, 6, 12, ... calls for each beyond the LIMIT
    assert LIMIT < len(pool.captures) < 2 * LIMIT


@pytest.mark.parametrize("method", QUICK)
def test_what_moves_weights_captures_anew(pool: type[Pool], method: str) -> None:
    model = convolutional()
    estimator, x = RadiusEstimator(model, method, cuda_graph=True), images(4)

    def captures_after(change: Callable[[], object]) -> int:
        before = len(pool.captures)
        change()
        radius = estimator(x)
        assert torch.equal(radius, rrfast.radius(model, x, method=method))
        return len(pool.captures) - before

    state = {name: 2 * value for name, value in model.state_dict().items()}
    assert captures_after(lambda: None) == 1
    assert captures_after(lambda: None) == 0
    assert captures_after(lambda: model.load_state_dict(state)) == 0  # in place
    assert captures_after(lambda: model.load_state_dict(state, assign=True)) == 1
    assert captures_after(lambda: model.__setitem__(7, nn.Linear(72, 10))) == 1
    assert captures_after(lambda: setattr(model[0], "weight", nn.Parameter(model[0].weight))) == 0
    assert captures_after(lambda: model[1].register_buffer("extra", torch.ones(1))) == 1
    assert captures_after(lambda: model.__setitem__(2, nn.SiLU())) == 1
    assert captures_after(lambda: model[2].register_forward_hook(lambda *args: 2 * args[2])) == 1
    assert captures_after(model.train) == 0


def test_a_failed_capture_warns_once_and_goes_on(
    pool: type[Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "breaks", True)
    model, x = convolutional(), images(4)
    estimator = RadiusEstimator(model, "grad")
    for _ in range(PATIENCE - 1):
        estimator(x)
    with pytest.warns(RuntimeWarning, match="could not be captured .* rrfast goes on without"):
        radius = estimator(x)
    assert torch.equal(radius, rrfast.radius(model, x, method="grad"))
    for _ in range(PATIENCE):  # warnings are errors here
        estimator(x)
        estimator(x[:2])
    assert len(pool.captures) == 1
    with pytest.raises(CaptureError, match="could not be captured"):
        RadiusEstimator(model, cuda_graph=True)(x)


def test_threads_share_the_books(pool: type[Pool]) -> None:
    model, x = convolutional().train(), images(4)
    estimator, expected = RadiusEstimator(model), rrfast.radius(model, x)

    def job() -> None:
        for _ in range(30):
            assert torch.equal(estimator(x), expected)

    together(job, job)
    assert len(pool.captures) == 1


def test_auto_captures_no_function(pool: type[Pool]) -> None:
    """What it closes over may change unseen."""
    model, x = convolutional().eval(), images(4)
    for function in (lambda t: 1 * model(t), functools.partial(model), model.forward):
        estimator = RadiusEstimator(function, "grad")
        for _ in range(PATIENCE):
            assert torch.equal(estimator(x), rrfast.radius(function, x, method="grad"))
    assert len(pool.captures) == 2  # of those whose module is known


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_are_no_plain_tensors_are_not_captured(
    pool: type[Pool], tmp_path: Path
) -> None:
    expected = rrfast.radius(convolutional(), images(4))
    with process_group(tmp_path):
        sharded = convolutional()
        fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
        estimator = RadiusEstimator(sharded)
        for _ in range(PATIENCE):
            torch.testing.assert_close(estimator(images(4)), expected)
        with pytest.raises(RuntimeError, match="needs weights that are plain tensors"):
            RadiusEstimator(sharded, cuda_graph=True)(images(4))
    assert not pool.captures


# ---------------------------------------------------------------------------------------- sentences


def test_true_without_cuda_gets_a_sentence() -> None:
    estimator = RadiusEstimator(convolutional(), cuda_graph=True)
    with pytest.raises(
        RuntimeError, match="cuda_graph=True needs x on a CUDA device, got x on cpu"
    ):
        estimator(images(2))


def test_a_method_that_waits_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Waiting:
        def __call__(self, engine: Engine, x: Tensor) -> Estimate:
            return Fast()(engine, x)

    monkeypatch.setitem(METHODS, "waiting", Waiting)
    estimator = RadiusEstimator(convolutional(), "waiting", cuda_graph=True)
    with pytest.raises(RuntimeError, match="a method that never waits for the device, which Wait"):
        estimator(images(2))


def test_another_word_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="cuda_graph must be 'auto', True or False, got 'always'"):
        RadiusEstimator(convolutional(), cuda_graph="always")  # type: ignore[arg-type]
