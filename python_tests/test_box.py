"""Inputs and their box: the same rule at every door, for radii, scores, attacks and objectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from networks import images, linear
from torch import Tensor, nn
from waiting import Calls

import rrfast
from rrfast import _reading, attacks, ops, scores
from rrfast import objectives as training
from rrfast.engine.box import within
from rrfast.methods import METHODS

Door = Callable[[nn.Module, Tensor, Any, Any], Any]


def network() -> nn.Module:
    return linear(4).eval()


LABELS = torch.arange(8) % 4


def _radius(method: str) -> Door:
    return lambda model, x, bounds, scale: rrfast.radius(
        model, x, method=method, bounds=bounds, scale=scale
    )


def _attack(make: Callable[..., attacks.Attack]) -> Door:
    return lambda model, x, bounds, scale: make(bounds=bounds, scale=scale)(model, x, LABELS)


def _objective(make: Callable[..., training.Objective]) -> Door:
    return lambda model, x, bounds, scale: make(bounds=bounds, scale=scale).backward(
        model, x, LABELS
    )


#: All that takes a box and a unit.
DOORS: dict[str, Door] = {
    **{f"radius {method}": _radius(method) for method in METHODS},
    "estimator": lambda model, x, bounds, scale: rrfast.RadiusEstimator(
        model, bounds=bounds, scale=scale, temperature=[0.5, 1.0]
    )(x),
    "score radius": lambda model, x, bounds, scale: scores.Radius(
        "grad", options={"bounds": bounds, "scale": scale}
    )(model, x),
    "odin": lambda model, x, bounds, scale: scores.ODIN(bounds=bounds, scale=scale)(model, x),
    "preprocessed": lambda model, x, bounds, scale: scores.Preprocessed(
        scores.DoctorAlpha(), 0.01, bounds, scale
    )(model, x),
    "selective": lambda model, x, bounds, scale: rrfast.SelectiveClassifier(
        model, scores.ODIN(bounds=bounds, scale=scale)
    )(x),
    "pgd attack": _attack(attacks.PGD),
    "apgd": _attack(partial(attacks.APGD, steps=3)),
    "fab attack": _attack(partial(attacks.FAB, steps=2, targets=2)),
    "square": _attack(partial(attacks.Square, queries=3)),
    "ensemble": _attack(lambda **options: attacks.Ensemble([attacks.PGD(**options)])),
    "rat": _objective(training.RAT),
    "rat pgd, mixup": _objective(partial(training.RAT, steps=3, mixup=1.0)),
    "adversarial": _objective(partial(training.AdversarialTraining, start="input")),
    "gairat": _objective(partial(training.GAIRAT, start="input")),
    "mail": _objective(partial(training.MAIL, start="input")),
    "wmmr": _objective(partial(training.WMMR, start="input")),
    "ewat": _objective(partial(training.EWAT, start="input")),
    "ccat": _objective(partial(training.CCAT, steps=3)),
    "acet": _objective(partial(training.ACET, torch.clone, steps=3, start="input")),
}
#: Those that look in every call, as attacks do, which wait anyway.
ATTACKS = ("pgd attack", "apgd", "fab attack", "square", "ensemble")
#: Those that wait by themselves, or draw a number on the CPU.
WAITING = ("radius deepfool", "rat pgd, mixup", "ccat")


@pytest.mark.parametrize("name", DOORS)
def test_x_outside_the_box_is_an_error(name: str) -> None:
    """Bytes and normalised images, in the box of pixels; a single channel is also found."""
    argument = "noise" if name == "acet" else "x"
    for x, seen in ((images() * 255, "to 25[0-9.]+"), ((images() - 0.48) / 0.22, "-2.13.* to 2.3")):
        with pytest.raises(
            ValueError, match=rf"{argument} must lie within bounds=\(0, 1\), .*{seen}"
        ):
            DOORS[name](network(), x, (0, 1), None)
    box = (torch.tensor([0.0, 0.0, 0.0]), [1, 0.5, 1])
    with pytest.raises(ValueError, match=r"bounds=\(0, 0.5\), got values from 0.* in channel 1"):
        DOORS[name](network(), images(), box, None)


@pytest.mark.parametrize("name", DOORS)
def test_tensors_that_are_no_box_and_no_unit(name: str) -> None:
    # Attacks of one ensemble have one box, and NaN is none.
    door = DOORS["pgd attack" if name == "ensemble" else name]
    column = torch.ones(3)
    for bounds in (
        torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]),
        (column, 0.0),
        (torch.tensor([0.0, math.nan, 0.0]), column),
        torch.tensor([[math.nan], [1.0]]),
    ):
        with pytest.raises(ValueError, match=r"bounds must have lower <= upper, got \(") as error:
            door(network(), images(), bounds, None)
        assert "channel" in str(error.value) or len(bounds[0]) == 1
    for unit in (0.0, -1.0, math.nan, math.inf):
        scale = column.clone()
        scale[2] = unit
        for value in (scale, scale.numpy(), scale.tolist()):
            with pytest.raises(ValueError, match=r"scale must be finite and .* in channel 2"):
                door(network(), images(), (0, 1), value)
    with pytest.raises(ValueError, match=r"scale must be from 1\.17"):  # 0 in float32
        door(network(), images(), None, 1e-60)


# ACET's x is in no box, but its noise.
@pytest.mark.parametrize("name", [name for name in DOORS if name != "acet"])
def test_rounding_is_moved_to_the_face(name: str) -> None:
    """Denormalised bytes: the numbers are those of x in the box, and the caller's x stays."""
    x = images()
    x[0, 0, 0, :2] = torch.tensor([1 + 1.2e-7, -3e-8])
    before = x.clone()
    results = []
    for point in (x, x.clamp(0, 1)):
        torch.manual_seed(2)
        model = network()
        result = DOORS[name](model, point, (0.0, 1.0), None)
        parts = result if isinstance(result, tuple) else (result,)
        results.append([*parts, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert torch.equal(x, before)
    assert len(results[0]) == len(results[1])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_how_far_outside_is_rounding() -> None:
    """A millionth of the width, or a rounding of the dtype; what is there is said beyond that."""
    for value, bounds in ((1 + 0.9e-6, (0, 1)), (255 + 2e-4, (0, 255)), (1000.00006, (999, 1000))):
        assert within(torch.tensor([[value]]), bounds, None, None).item() == bounds[1]
    for value, said in (
        (1 + 3e-6, r"to 1 \+ 3e-06$"),
        (-3e-6, r"from -3e-06 to -3e-06$"),
        (math.inf, "to inf$"),
    ):
        with pytest.raises(ValueError, match=said):
            within(torch.tensor([[value]]), (0, 1), None, None)
    half = torch.tensor([[1 + 2**-7, 0.3]], dtype=torch.bfloat16)
    assert within(half, (0, 1), None, None).tolist() == [[1.0, half[0, 1].item()]]
    moved = within(half, (0.305, 1), None, None)  # bfloat16 has 0.3008 and 0.3027, then 0.3047
    assert 0.305 <= moved[0, 1].item() < 0.305 + 2**-9
    # Without an end nothing is rounding, and without numbers nothing is outside.
    assert within(torch.tensor([[1e30]]), (0, math.inf), None, None).item() == torch.tensor(1e30)
    with pytest.raises(ValueError, match="within bounds"):
        within(torch.tensor([[-1e-7]]), (0, math.inf), None, None)
    nan = torch.tensor([[math.nan, 0.5]])
    assert within(nan, (0, 1), None, None).data_ptr() == nan.data_ptr()  # no copy
    with pytest.raises(ValueError, match=r"to 2$"):
        within(torch.tensor([[math.nan, 2.0]]), (0, 1), None, None)
    # Nor does NaN, or an infinity that is in the box, hide it where an end is infinite.
    for first in (math.nan, -math.inf):
        with pytest.raises(ValueError, match=r"to 5$"):
            within(torch.tensor([[first, 5.0]]), (-math.inf, 1), None, None)
        with pytest.raises(ValueError, match=r"from -5 "):
            within(torch.tensor([[-first, -5.0]]), (-1, math.inf), None, None)
    assert within(nan[:0], (0, 1), None, None).shape == (0, 2)


@pytest.mark.parametrize("name", [name for name in DOORS if name not in ATTACKS])
def test_on_a_device_the_first_call_looks_and_later_ones_are_nan(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU that counts as a device: no number of a point outside, and no wait for it."""
    monkeypatch.setattr(_reading, "is_on_host", lambda _: False)
    model, outside = network(), images()
    outside[0, 1, 2, 3] = 1.5
    with pytest.raises(ValueError, match="must lie within bounds"):
        DOORS[name](network(), outside, (0, 1), None)
    first = DOORS[name](model, images(), (0, 1), None)
    with Calls() as calls:
        later = DOORS[name](model, outside, (0, 1), None)
    assert name in WAITING or not calls.waiting
    results = [result if isinstance(result, tuple) else (result,) for result in (first, later)]
    for before, after in zip(*results, strict=True):
        if before.is_floating_point():
            assert before.isfinite().any()
            assert after.reshape(-1)[0].isnan()


def test_ops_take_lists_and_arrays() -> None:
    x = images()
    box = ops.channel_bounds(([0, 0.1, 0], torch.ones(3).numpy()), x)
    assert torch.equal(box, torch.tensor([[0, 0.1, 0], [1, 1, 1]]))
    assert torch.equal(ops.channel_scale([4, 2, 1], x), torch.tensor([4.0, 2.0, 1.0]))
    assert ops.channel_bounds((0, 1e300), x)[1].item() == math.inf
    for scale in (["a"] * 3, [[1], [2, 3]], object()):
        with pytest.raises(TypeError, match="scale must be a number or a tensor with one value"):
            ops.channel_scale(scale, x)
