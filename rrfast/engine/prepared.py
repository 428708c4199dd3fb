"""Faster forms of a model: 16 bits, channels-last, folded BatchNorm, compiled."""

from __future__ import annotations

import copy
import warnings
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from rrfast._checks import check_bool, describe, output_logits
from rrfast.engine.engine import Model
from rrfast.engine.modules_inside import device_of
from rrfast.ops import accumulate_dtype


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
        model: The user's model; it must be a module if any option is given.
        dtype: Runs only the model under autocast; logits are converted to float32.
        memory_format: `torch.channels_last` runs a copy with channels-last weights.
        fold_batchnorm: Runs a copy, recorded by torch.fx, in which each BatchNorm is folded into
            the convolution or linear layer before it. Layers with hooks are not folded.
        compile: Compiles with `torch.compile(dynamic=False)`.

    Raises:
        TypeError: An option is given, and `model` is not a module; or a flag is no bool.
        ValueError: An option has an unknown value; or the copy would not compute the same as the
            model: its forward cannot be traced, or torch.fx does not record all of it.

    Cost: `memory_format` and `fold_batchnorm` share one copy of the weights, made now: later
    changes of `model` do not reach it.

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
    check_bool("fold_batchnorm", fold_batchnorm)
    check_bool("compile", compile)
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
    if dtype == torch.float16 and _runs_on_cpu(model):
        warnings.warn(
            "dtype=torch.float16 takes many times as long as float32 on a CPU, which converts "
            "number by number; leave dtype out there, or give torch.bfloat16 where the processor "
            "has instructions for it",
            RuntimeWarning,
            stacklevel=3,
        )
    module: nn.Module = model
    if fold_batchnorm or memory_format is not None:
        if isinstance(module, nn.parallel.DistributedDataParallel):
            module = module.module
        _check_copied(module, ", ".join(given))
        with torch.inference_mode(False):  # of whose tensors autograd can use none
            module = copy.deepcopy(module).eval().requires_grad_(False)
            if fold_batchnorm:
                module = _folded(module)
            if memory_format is not None:
                module = module.to(memory_format=memory_format)  # type: ignore[call-overload]
    return Prepared(module, dtype, compile) if dtype is not None or compile else module


def _runs_on_cpu(model: nn.Module) -> bool:
    device = device_of(model)
    return device is not None and device.type == "cpu"


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
        self._compile()  # compiled code is not copied

    def _compile(self) -> None:
        if self.compiled:
            self.compile(dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; in float32 under autocast, so that seeds, margins and radii are float32."""
        if self.dtype is None:
            return output_logits(self.model(x))
        with torch.autocast(x.device.type, self.dtype):
            logits = output_logits(self.model(x))
        return logits.to(accumulate_dtype(logits.dtype))

    def extra_repr(self) -> str:  # noqa: D102
        return f"dtype={self.dtype}, compile={self.compiled}"


def _check_copied(model: nn.Module, options: str) -> None:
    """Raise if a copy of the model would run the original.

    A function that was set as a module's forward is not copied: it still refers to the original.
    """
    for name, module in model.named_modules():
        if isinstance(vars(module).get("forward"), FunctionType):
            of = f"its module {name!r}" if name else "the model"
            raise ValueError(
                f"{options} runs a copy of the model, and the function that was set as the forward "
                f"of {of} would not be one: make it the forward of a class, or leave {options} out"
            )


def _folded(model: nn.Module) -> nn.Module:
    """A module in eval mode, each BatchNorm folded into the layer before it; consumes `model`."""
    for module in model.modules():
        module.training = False  # eval() may have been overridden
    tracer, drawn = _Tracer(), _random_states()
    try:
        if _has_any_global_hook():
            raise _LostError("lacks the hooks that are registered for all modules")
        tracer.check(model, "the model")
        with torch.enable_grad():
            graph = tracer.trace(model)
        if any(not torch.equal(a, b) for a, b in zip(drawn, _random_states(), strict=True)):
            raise _LostError("has random numbers that were drawn while it was made")
    except _LostError as error:
        raise ValueError(
            f"fold_batchnorm=True runs what torch.fx records of the model, and the record {error}; "
            "leave fold_batchnorm out"
        ) from None
    except Exception as error:
        raise ValueError(
            "fold_batchnorm=True needs a model that torch.fx can trace symbolically, and this one "
            f"decides by values or shapes, or calls what cannot be traced: {error}"
        ) from error
    traced = fx.GraphModule(model, graph)
    for node in graph.nodes:
        if node.op == "call_module":
            _fold(traced, node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


#: The BatchNorm that can be folded into a layer, by the layer's exact class: a subclass may have
#: another forward, or compute its weight.
_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    nn.Linear: nn.BatchNorm1d,
}


def _fold(traced: fx.GraphModule, node: fx.Node) -> None:
    """Replace a layer and its BatchNorm by one layer, if `node` calls such a BatchNorm.

    A layer or BatchNorm with hooks is not replaced. The new layer has a new name, so that other
    calls of the old layer, and other uses of its weights, are unchanged.
    """
    before = node.args[0] if len(node.args) == 1 and not node.kwargs else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return
    layer, norm = (traced.get_submodule(str(n.target)) for n in (before, node))
    if _NORMS.get(type(layer)) is not type(norm) or not (_plain(layer) and _plain(norm)):
        return
    assert isinstance(norm, _BatchNorm)
    if not norm.track_running_stats or norm.running_mean is None:
        return
    folded: nn.Module
    if not isinstance(layer, nn.Linear):
        folded = fuse_conv_bn_eval(layer, norm)  # type: ignore[type-var]
    elif layer.out_features == norm.num_features:
        folded = _FoldedLinear(layer, norm)
    else:
        return  # [B, L, C], where BatchNorm1d normalises over L
    name = f"folded_{node.name}"
    traced.add_submodule(name, folded)
    before.target = name
    node.replace_all_uses_with(before)
    traced.graph.erase_node(node)


class _FoldedLinear(nn.Module):
    """A linear layer with a BatchNorm after it: one layer for [B, C].

    For [B, L, C] with L = C the same BatchNorm1d normalises over L, which no weight can do; only an
    input shows which case it is.
    """

    def __init__(self, linear: nn.Linear, norm: _BatchNorm) -> None:
        super().__init__()
        self.folded = fuse_linear_bn_eval(linear, norm)
        self.linear, self.norm = linear, norm

    def forward(self, x: Tensor) -> Tensor:
        """The output of both layers."""
        h: Tensor = self.folded(x) if x.dim() == 2 else self.norm(self.linear(x))
        return h


class _LostError(Exception):
    """Something of a model that is missing in its recorded graph; the end of an error message."""


class _Tracer(fx.Tracer):
    """Traces as `torch.fx.symbolic_trace`, and raises for what that silently drops."""

    def __init__(self) -> None:
        super().__init__()
        with torch.enable_grad():
            self._modes = _modes()

    def check(self, module: nn.Module, called: str) -> None:
        """Raise if a recorded module has more than its class's forward."""
        if not _plain(module):
            raise _LostError(f"lacks the hooks of {called}, or the forward that was set on it")

    def call_module(self, m: nn.Module, *rest: Any, **keywords: Any) -> Any:
        """Leaves become calls in the graph; other modules are recorded."""
        name = self.path_of_module(m)
        if not self.is_leaf_module(m, name):
            self.check(m, f"its module {name!r}")
        return super().call_module(m, *rest, **keywords)

    def create_node(self, *rest: Any, **keywords: Any) -> fx.Node:
        """Check each operation's autograd and autocast modes, which the model may have set."""
        if _modes() != self._modes:
            raise _LostError("lacks the no_grad or the autocast that the model sets itself")
        return super().create_node(*rest, **keywords)


def _plain(module: nn.Module) -> bool:
    """Whether calling a module runs its class's forward and nothing else."""
    hooks = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    )
    return not any(hooks) and "forward" not in vars(module)


def _modes() -> tuple[bool, int]:
    """The modes that a `with` block can change: gradients on or off, and autocast."""
    depth = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    # Inside inference_mode gradients are off, too.
    return torch.is_grad_enabled(), depth


def _random_states() -> list[Tensor]:
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_devices]
