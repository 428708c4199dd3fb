"""A model as it runs faster: at 16 bits, channels-last, with folded BatchNorm, compiled."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from rrfast.checks import describe
from rrfast.engine import Model, output_logits
from rrfast.reference import accumulate_dtype


def prepared(
    model: Model,
    *,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    fold_batchnorm: bool = False,
    compile: bool = False,  # noqa: A002 - torch's own word
) -> Model:
    """The model to run in place of `model`, which is never changed; `model` itself by default.

    Args:
        model: The user's model; a module if any option is given.
        dtype: Runs the model, and only it, under autocast; logits come back in float32.
        memory_format: `torch.channels_last` runs a copy whose weights lie channels-last.
        fold_batchnorm: Runs a copy in whose convolutions and linear layers the BatchNorm after them
            is folded.
        compile: Compiles with `torch.compile(dynamic=False)`.

    Raises:
        TypeError: `model` is no module though an option is given.
        ValueError: An option is none of its values, or BatchNorm cannot be folded.

    Cost: `memory_format` and `fold_batchnorm` share one copy of the weights, taken now: what
    becomes of `model` later does not reach it.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> prepared(model) is model
        True
        >>> prepared(model, dtype=torch.bfloat16)(torch.zeros(2, 4)).dtype
        torch.float32
    """
    if dtype not in (None, torch.bfloat16, torch.float16):
        raise ValueError(
            f"dtype must be None, torch.bfloat16 or torch.float16, got {describe(dtype)}"
        )
    if memory_format not in (None, torch.channels_last):
        raise ValueError(
            f"memory_format must be None or torch.channels_last, got {describe(memory_format)}"
        )
    options = {
        "dtype": dtype,
        "memory_format": memory_format,
        "fold_batchnorm": fold_batchnorm,
        "compile": compile,
    }
    given = [f"{name}={value}" for name, value in options.items() if value]
    if not given:
        return model
    if not isinstance(model, nn.Module):
        raise TypeError(f"{', '.join(given)} needs an nn.Module as model, got {describe(model)}")
    module: nn.Module = model
    if fold_batchnorm or memory_format is not None:
        if isinstance(module, nn.parallel.DistributedDataParallel):
            module = module.module
        module = copy.deepcopy(module).eval().requires_grad_(False)
    if fold_batchnorm:
        module = _folded(module)
    if memory_format is not None:
        module = module.to(memory_format=memory_format)  # type: ignore[call-overload]
    return Prepared(module, dtype, compile) if dtype is not None or compile else module


class Prepared(nn.Module):
    """A model under autocast, compiled, or both."""

    def __init__(self, model: nn.Module, dtype: torch.dtype | None, compiled: bool) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.compiled = compiled
        self._compile()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._compile()  # what was compiled is not copied

    def _compile(self) -> None:
        if self.compiled:
            self.compile(dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; in float32 under autocast, so that seeds, margins and radii are float32's."""
        if self.dtype is None:
            return output_logits(self.model(x))
        with torch.autocast(x.device.type, self.dtype):
            logits = output_logits(self.model(x))
        return logits.to(accumulate_dtype(logits.dtype))

    def extra_repr(self) -> str:  # noqa: D102
        return f"dtype={self.dtype}, compile={self.compiled}"


def _folded(model: nn.Module) -> nn.Module:
    """A module in eval mode with BatchNorm folded into the layer before it; consumes `model`."""
    try:
        traced = fx.symbolic_trace(model)
    except Exception as error:
        raise ValueError(
            "fold_batchnorm=True needs a model that torch.fx can trace symbolically, and this one "
            f"decides by values or shapes, or calls what cannot be traced: {error}"
        ) from error
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for name, times in calls.items():
        layer = traced.get_submodule(str(name))
        weighted = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))
        # Folding changes the layer for all its calls, and a hook may make its weight anew.
        if weighted and (times > 1 or layer._forward_pre_hooks):
            raise ValueError(
                "fold_batchnorm=True needs convolutions and linear layers that are called once and "
                f"have no forward pre-hooks, and {str(name)!r} is not one"
            )
    return fuse(traced, inplace=True, no_trace=True)
