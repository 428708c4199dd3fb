"""`rat_perturb`: the inner step of Radius Aware Training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rrfast._checks import (
    check_batch,
    check_device,
    check_logits,
    check_number,
    check_one_of,
    check_per_sample,
    check_same,
    describe,
)
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops._step import moved
from rrfast.ops.box import Bounds, Scale, channel_bounds, channel_scale
from rrfast.ops.layout import accumulate_dtype, empty_like


def reference(
    x: Tensor,
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    eps_correct: float,
    eps_wrong: float,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The perturbation of RAT, AT and ReverseAT (RAT Eq. 9 to 11); see `rrfast.ops.rat_perturb`."""
    correct = logits.argmax(dim=1) == labels
    dtype = accumulate_dtype(x.dtype)
    # From Python floats, not from a tensor on the host, which would be copied to the device.
    eps = torch.full_like(correct, eps_wrong, dtype=dtype).masked_fill(correct, eps_correct)
    # `torch.sign` of NaN is 0: where the gradient overflowed, x does not move.
    return moved(x, eps, grad.to(dtype).sign(), bounds, scale), correct


#: The direction of the inner step of training; see `rat_perturb`.
Mode = Literal["rat", "at", "reverse_at"]

_SIGNS: dict[str, tuple[float, float]] = {
    "rat": (1.0, -1.0),
    "at": (1.0, 1.0),
    "reverse_at": (-1.0, -1.0),
}


def fake(
    x: Tensor,
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    eps_correct: float,
    eps_wrong: float,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return empty_like(x, x.dtype), logits.new_empty(logits.shape[0], dtype=torch.bool)


_op = define(
    "rat_perturb",
    """(Tensor x, Tensor grad, Tensor logits, Tensor labels, float eps_correct,
        float eps_wrong, Tensor? bounds=None, Tensor? scale=None)
        -> (Tensor perturbed, Tensor correct)""",
    reference,
    fake,
)


def check_mode(mode: object) -> None:
    """Raise a ValueError unless `mode` is a `Mode`."""
    check_one_of("mode", mode, _SIGNS)


def rat_perturb(
    x: Tensor,
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    eps: float,
    mode: Mode = "rat",
    bounds: Bounds | None = None,
    scale: Scale | None = None,
    *,
    out: Out | None = None,
) -> tuple[Tensor, Tensor]:
    """The inner step of RAT: right samples move up the loss, wrong ones down.

        perturbed = clamp(x + s_b * eps * scale_c * sign(grad), lower_c, upper_c)

    with s = +1 where argmax(logits) == label and -1 elsewhere for `"rat"`, +1 for `"at"`, -1 for
    `"reverse_at"`.

    Args:
        x: [B, ...].
        grad: Gradient of the loss with respect to `x`: dtype and shape of `x`. Where it is NaN, `x`
            is not moved: with a gradient scaler overflow is normal, and NaN inputs would stay in
            BatchNorm's running statistics. The parameters' gradients still become NaN.
        logits: Logits at x, [B, K]; any floating dtype.
        labels: [B] int64.
        eps: Length of the step, >= 0, in units of `scale`.
        mode: `"rat"` (RAT Eq. 11), `"at"` (Eq. 9) or `"reverse_at"` (Eq. 10).
        bounds: The box, see `channel_bounds`; None for no clamp.
        scale: The unit of a step, see `channel_scale`; None for 1.
        out: None, or the two tensors to write the results into; see `rrfast.ops`.

    Returns:
        perturbed, shape, dtype and layout of `x`; correct [B] bool.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device,
            or `mode` is unknown.

    Source: RAT Eq. 9 to 11. Cost: reads x, grad and the logits, writes x.

    Example:
        >>> x, grad = torch.zeros(2, 1), torch.tensor([[3.0], [3.0]])
        >>> logits, labels = torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1])
        >>> rat_perturb(x, grad, logits, labels, eps=0.5)
        (tensor([[ 0.5000],
                [-0.5000]]), tensor([ True, False]))
    """
    check_batch(x)
    check_same("grad", grad, "x", x)
    check_logits("logits", logits)
    check_device("logits", logits, "x", x)
    if logits.shape[0] != x.shape[0]:
        raise ValueError(
            f"logits must have one row per sample of x, {x.shape[0]}, got {describe(logits)}"
        )
    check_per_sample("labels", labels, torch.int64, "logits", logits)
    check_number("eps", eps, least=0)
    check_mode(mode)
    correct, wrong = _SIGNS[mode]
    box = channel_bounds(bounds, x), channel_scale(scale, x)
    if out is not None:
        inputs = x, grad, logits, labels, *box
        check_out(out, inputs, perturbed=(x, x.dtype), correct=(labels, torch.bool))
    return _op(x, grad, logits, labels, correct * eps, wrong * eps, *box, out=out)
