"""The gradient with respect to the input alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward

#: The error message.
NO_GRADIENT = (
    "model must be differentiable with respect to x, but its logits carry no gradient: it detaches "
    "x or them, runs under torch.no_grad(), ignores x, or is quantised"
)


def input_gradient(
    output: Tensor, x: Tensor, seed: Tensor | None = None, *, retain_graph: bool = False
) -> Tensor:
    """The gradient of sum(seed * output), or of a scalar output, with respect to `x`.

    Raises:
        ValueError: There is none, or torch's reentrant checkpointing does not allow it.
    """
    try:
        if seed is None or torch.compiler.is_compiling():
            options = {"retain_graph": retain_graph, "allow_unused": True}
            grads = torch.autograd.grad(output, x, seed, **options)
        else:
            # As torch.autograd.grad, but without its comparison of shapes, which agree here. For
            # that comparison it imports sympy at its first call, which takes a second, and which a
            # Ctrl-C breaks for good.
            grads = _engine_run_backward(
                (output,), (seed,), retain_graph, False, (x,), True, accumulate_grad=False
            )
    except RuntimeError as error:
        if "use_reentrant=True" not in str(error):
            raise
        raise ValueError(
            "model must be checkpointed with use_reentrant=False where only the gradient at x is "
            "needed: torch does not compute it with use_reentrant=True"
        ) from error
    if grads[0] is None:
        raise ValueError(NO_GRADIENT)
    return grads[0]
