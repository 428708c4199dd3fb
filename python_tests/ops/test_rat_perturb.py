from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from op_tester import (
    CLASSES,
    SHAPES,
    Case,
    OpTester,
    channels_last,
    inputs,
    logits,
    non_finite_logits,
    with_non_finite,
)
from steps import box_and_scale

from rrfast import ops


class TestRatPerturb(OpTester):
    op = "rat_perturb"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for shape in SHAPES:
            x, grad, _ = inputs(dtype, device, shape)
            h = logits(dtype, device, shape[0], 10)
            y = torch.where(torch.arange(shape[0], device=device) % 2 == 0, h.argmax(dim=1), 0)
            for mode in ("rat", "at", "reverse_at"):
                yield f"{shape}, {mode}", (x, grad, h, y, 0.01, mode)
            yield (
                f"{shape}, non-finite",
                (with_non_finite(x), with_non_finite(grad.flip(0)), h, y, 0.01),
            )
            for name, box in box_and_scale(x):
                yield f"{shape}, {name}", (x, grad, h, y, 0.01, "rat", *box)
            if len(shape) >= 4:
                yield (
                    f"{shape}, channels-last",
                    (channels_last(x), grad, h, y, 0.01),
                )
        for classes in CLASSES:
            x, grad, _ = inputs(dtype, device, (12, 5))
            for h in (
                logits(dtype, device, 12, classes),
                non_finite_logits(dtype, device, classes),
            ):
                yield f"K={classes}", (x, grad, h, h.argmax(dim=1), 0.5)
                yield (
                    f"K={classes}, no such label",
                    (x, grad, h, torch.full((12,), -100, device=device), 0.5),
                )
        x, grad, _ = inputs(torch.float32, device, (5, 8))
        yield (
            "logits of another precision",
            (
                x,
                grad,
                logits(dtype, device, 5, 10),
                torch.zeros(5, dtype=torch.int64, device=device),
                0.5,
            ),
        )

    def schema_arguments(self, x, grad, h, y, eps, mode="rat", bounds=None, scale=None) -> Case:
        correct, wrong = {"rat": (eps, -eps), "at": (eps, eps), "reverse_at": (-eps, -eps)}[mode]
        return (
            x,
            grad,
            h,
            y,
            correct,
            wrong,
            ops.channel_bounds(bounds, x),
            ops.channel_scale(scale, x),
        )

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        x, grad, _ = inputs(dtype, device, (5, 3, 8, 8))
        return x, grad, logits(dtype, device, 5, 10), torch.arange(5, device=device), 0.01

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        x, grad, _ = inputs(dtype, device, (0, 3, 8, 8))
        return (
            x,
            grad,
            torch.empty(0, 10, dtype=dtype, device=device),
            torch.empty(0, dtype=torch.int64, device=device),
            0.01,
        )

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        x, h, y = torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
        yield (x, x.half(), h, y, 0.1), TypeError, "grad must have the dtype of x"
        yield (x, x, h[:1], y, 0.1), ValueError, "logits must have one row per sample of x, 2, got"
        yield (x, x, h[:, :1], y, 0.1), ValueError, "logits must have at least two classes"
        yield (x, x, h, y.float(), 0.1), TypeError, "labels must be an int64 tensor, got a float32"
        yield (x, x, h, h, 0.1), TypeError, "labels must be an int64 tensor"
        yield (x, x, h, y, -0.1), ValueError, "eps must be finite and at least 0, got -0.1"
        yield (
            (x, x, h, y, 0.1, "mixup"),
            ValueError,
            "mode must be one of rat, at, reverse_at, got 'mixup'",
        )


@pytest.mark.parametrize(
    ("mode", "steps"), [("rat", [0.5, -0.5]), ("at", [0.5, 0.5]), ("reverse_at", [-0.5, -0.5])]
)
def test_the_sign_belongs_to_the_sample(mode: ops.Mode, steps: list[float]) -> None:
    x, grad = torch.zeros(2, 3), torch.tensor([[1.0, -1.0, 0.0]]).expand(2, 3)
    h, y = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])  # right, wrong
    moved, correct = ops.rat_perturb(x, grad, h, y, 0.5, mode)
    assert correct.tolist() == [True, False]
    assert moved.tolist() == [[s, -s, 0.0] for s in steps]


def test_a_gradient_of_nan_moves_nothing(dtype: torch.dtype, device: torch.device) -> None:
    """A scaler's overflow must not reach BatchNorm's running statistics through the inputs."""
    x = torch.rand(2, 3, device=device).to(dtype)
    grad = torch.full_like(x, torch.nan)
    h, y = (
        torch.rand(2, 4, device=device).to(dtype),
        torch.zeros(2, dtype=torch.int64, device=device),
    )
    moved, _ = ops.rat_perturb(x, grad, h, y, 0.5)
    assert torch.equal(moved, x)
