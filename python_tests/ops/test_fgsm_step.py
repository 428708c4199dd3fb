from __future__ import annotations

from collections.abc import Iterator

import torch
from op_tester import SHAPES, Case, OpTester, channels_last, inputs, with_non_finite
from steps import box_and_scale

from rrfast import ops
from rrfast.ops._step import NAN_DIRECTION


class TestFgsmStep(OpTester):
    op = "fgsm_step"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for shape in SHAPES:
            x, grad, step = inputs(dtype, device, shape)
            yield f"{shape}", (x, grad, step)
            yield (
                f"{shape}, non-finite",
                (with_non_finite(x), with_non_finite(grad.flip(0)), with_non_finite(step)),
            )
            for name, box in box_and_scale(x):
                yield f"{shape}, {name}", (x, grad, step, *box)
            if len(shape) >= 4:
                last = channels_last(x)
                for name, box in box_and_scale(x):
                    yield f"{shape}, channels-last x, {name}", (last, grad, step, *box)
                yield (
                    f"{shape}, channels-last grad",
                    (x, channels_last(grad), step),
                )

    def schema_arguments(self, x, grad, step, bounds=None, scale=None) -> Case:
        return x, grad, step, ops.channel_bounds(bounds, x), ops.channel_scale(scale, x)

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return *inputs(dtype, device, (4, 3, 8, 8)), (0.1, 0.9), torch.tensor([1.0, 2.0, 3.0])

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        return inputs(dtype, device, (0, 3, 8, 8))

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        x, s = torch.zeros(2, 3), torch.zeros(2)
        yield (x.long(), x, s), TypeError, "x must be a tensor of float64"
        yield (torch.tensor(1.0), torch.tensor(1.0), s), ValueError, "x must have a batch dimension"
        yield (x, x[:1], s), ValueError, r"grad must have the shape of x, \[2, 3\], got .*\[1, 3\]"
        yield (x, x.double(), s), TypeError, "grad must have the dtype of x"
        yield (x, x, 0.1), TypeError, "step must be a float32 tensor, got float 0.1"
        yield (x, x, s[:1]), ValueError, r"step must have one value per sample, shape \[2\]"
        yield (
            (x, x, s, 1.0),
            TypeError,
            r"bounds must be None or a pair \(lower, upper\), got float 1.0",
        )
        yield (x, x, s, (0, 1, 2)), TypeError, "bounds must be None or a pair"
        yield (x, x, s, (1, 0)), ValueError, r"bounds must have lower <= upper, got \(1, 0\)"
        yield (
            (x, x, s, (torch.zeros(2), 1)),
            ValueError,
            "bounds must be a number or hold one value for each of the 3 channels",
        )
        yield (
            (x, x, s, None, torch.ones(4)),
            ValueError,
            "scale must be a number or hold one value for each of the 3",
        )
        yield (x, x, s, None, -1.0), ValueError, "scale must be finite and greater than 0, got -1.0"
        yield (x, x, s, None, "1"), TypeError, "scale must be a number or a tensor .*, got str '1'"


def test_every_kind_of_gradient_has_its_code(dtype: torch.dtype, device: torch.device) -> None:
    grad = torch.tensor(
        [[2.0, -1e-7, 0.0, -0.0, torch.nan, torch.inf, -torch.inf]], device=device
    ).to(dtype)
    x = torch.full_like(grad, 0.5)
    moved, direction = ops.fgsm_step(
        x,
        grad,
        torch.full(
            (1,),
            0.25,
            device=device,
            dtype=torch.float64 if dtype == torch.float64 else torch.float32,
        ),
    )
    assert direction.tolist() == [[1, -1, 0, 0, NAN_DIRECTION, 1, -1]]
    torch.testing.assert_close(
        moved.double().cpu(),
        torch.tensor([[0.75, 0.25, 0.5, 0.5, torch.nan, 0.75, 0.25]]).double(),
        rtol=0,
        atol=0,
        equal_nan=True,
    )
