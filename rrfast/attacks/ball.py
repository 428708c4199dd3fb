"""The L-infinity ball around the inputs, cut by the box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rrfast import ops
from rrfast.engine.box import faces, number_faces, numbers, rounded_inside
from rrfast.ops import accumulate_dtype, per_channel, unchecked
from rrfast.ops.layout import empty_like


class Ball:
    """{z: |z_c - x_c| <= eps scale_c, lower_c <= z_c <= upper_c}, for every sample of a batch.

    In spite of rounding no point of it is further away than eps or outside the box: if x + eps or a
    face of the box, such as 0.3, lies between two numbers of x's dtype, the one inside is taken (in
    float64 x + eps is rounded once). x must lie in the box; elements outside are moved to its face.
    Nothing waits for the device.

    Args:
        x: [B, ...], floating point.
        eps: Radius in units of `scale`, a number.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own.

    Attributes:
        x: As given.
        least: [B, ...], dtype and layout of x, the lowest point of the ball.
        most: [B, ...], the highest point.
        eps: As given.

    Cost: a few passes over the memory of x, once per attack.

    Example:
        >>> ball = Ball(torch.tensor([[0.1, 0.9]]), 0.25, bounds=(0, 1))
        >>> ball.least, ball.most
        (tensor([[0.0000, 0.6500]]), tensor([[0.3500, 1.0000]]))
        >>> ball.step(ball.x, torch.tensor([[-2.0, 0.1]]), torch.tensor([0.05]))
        tensor([[0.0500, 0.9500]])
    """

    _layout: tuple[Any, ...] = ()  # of those
    _made: tuple[Tensor, Tensor, Tensor]

    @torch.no_grad()  # autograd cannot follow writing into memory
    def __init__(
        self,
        x: Tensor,
        eps: float,
        bounds: ops.Bounds | None = None,
        scale: ops.Scale | None = None,
    ) -> None:
        self.x, self.eps = x, eps
        self._scale = ops.channel_scale(scale, x)
        # In float64 the distance of a number from x is exact.
        exact = x.double()
        reach = eps * (1.0 if self._scale is None else per_channel(self._scale.double(), x))
        # In 16 bits two numbers may be further apart than eps: x itself is always in the ball.
        self.least = rounded_inside(exact - reach, x.dtype, up=True).minimum(x)
        self.most = rounded_inside(exact + reach, x.dtype, up=False).maximum(x)
        if bounds is not None:
            ends: Any
            if numbers(bounds) and len(bounds) == 2:
                ends = number_faces(bounds[0], bounds[1], x.dtype)  # type: ignore[arg-type]
            else:
                box = ops.channel_bounds(bounds, exact)
                assert box is not None
                ends = faces(box, x)
            self.least = torch.clamp(self.least, *ends)
            self.most = torch.clamp(self.most, *ends)

    def nearest(self, z: Tensor) -> Tensor:
        """The point of the ball that is nearest to z."""
        return torch.clamp(z, self.least, self.most)

    @torch.no_grad()
    def step(
        self, z: Tensor, gradient: Tensor, length: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """The point of the ball nearest to z + length_b scale_c sign(gradient).

        An element with a NaN gradient does not move, as in RAT's step.

        Args:
            z: [B, ...].
            gradient: [B, ...], dtype of z.
            length: [B], accumulation dtype, in units of `scale`.
            out: None, or the tensor to write the result into; it may be z.

        Cost: one pass over the gradient to find NaN, one for the step, and one for the projection.
        """
        slope, moved, sign = self._buffers(z)
        torch.nan_to_num(gradient, 0.0, out=slope)
        unchecked.fgsm_step_into(moved, sign, z, slope, length, None, self._scale)
        return torch.clamp(moved, self.least, self.most, out=out)

    def _buffers(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a step writes into, laid out as `z`; the same for the next such step."""
        layout = z.shape, z.stride()
        if layout != self._layout:
            with torch.inference_mode(False):  # so that they can be written to in any mode
                moved = empty_like(z, z.dtype)
                self._made = torch.empty_like(moved), moved, empty_like(z, torch.int8)
            self._layout = layout
        return self._made

    def walk(self, z: Tensor, direction: Tensor, length: Tensor) -> Tensor:
        """The point of the ball nearest to z + length_b scale_c direction, without a sign."""
        unit = 1.0 if self._scale is None else per_channel(self._scale, z).to(z.dtype)
        step = length.view(-1, *[1] * (z.dim() - 1)).to(z.dtype) * unit
        return self.nearest(torch.addcmul(z, direction, step))

    def anywhere(self, share: Tensor) -> Tensor:
        """The point of the ball nearest to x + share eps scale_c, share [B, ...] in [-1, 1]."""
        return self.walk(self.x, share.to(self.x.dtype), self.lengths(self.eps))

    def lengths(self, length: float) -> Tensor:
        """[B], the same length for every sample, as `step` needs it."""
        dtype = accumulate_dtype(self.x.dtype)
        return torch.full(self.x.shape[:1], length, dtype=dtype, device=self.x.device)
