"""Refuses models that were recorded in training mode (`torch.export`, torch.fx, `torch.jit`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from rrfast._remembered import Remembered

#: Arguments that put an operation into training mode.
_MODES = {"training", "train"}
#: For each module that passed the check, its recorded graph at that time.
_passed: Remembered[object] = Remembered()


def check_recorded(module: nn.Module) -> None:
    """Refuse a module that was recorded in training mode: `eval()` does not change it.

    Cost: the first call for each module looks at each of its operations.

    Raises:
        ValueError: It has BatchNorm or dropout in training mode.
    """
    if isinstance(module, fx.GraphModule):
        state: object = module._code
    elif isinstance(module, torch.jit._trace.TopLevelTracedModule):
        state = True
    else:
        return
    passed = _passed.by_id.get(id(module))
    if passed is not None and passed[0] == state:
        return
    operations = _of_graph(module) if isinstance(module, fx.GraphModule) else _of_trace(module)
    for operation in operations:
        raise ValueError(
            "model must have been recorded in eval mode, but it has "
            f"{operation} as in training, which no eval() changes: call eval() before "
            "torch.export.export, torch.fx.symbolic_trace or torch.jit.trace"
        )
    _passed.keep(module, state)


def _of_graph(module: fx.GraphModule) -> Iterator[str]:
    """The operations of a graph that are in training mode."""
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        given = _arguments(node)
        normalises_by_batch_anyway = given.get("running_mean", node) is None
        if any(given.get(mode) is True for mode in _MODES) and not normalises_by_batch_anyway:
            yield str(node.target)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """A call's arguments by name, as far as known."""
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        names = [argument.name for argument in schema.arguments]
    else:
        try:
            names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
        except (TypeError, ValueError):  # a function written in C
            names = []
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _of_trace(module: nn.Module) -> Iterator[str]:
    """The operations of a trace that are in training mode."""
    for node in _nodes(module.inlined_graph):
        if not node.kind().startswith("aten::"):
            continue
        try:
            names = [a.name for a in torch._C.parse_schema(node.schema()).arguments]
        except RuntimeError:  # an unknown one
            continue
        given = dict(zip(names, node.inputs(), strict=False))
        mean = given.get("running_mean")
        normalises_by_batch_anyway = mean is not None and mean.type().kind() == "NoneType"
        if (
            any(name in _MODES and value.toIValue() is True for name, value in given.items())
            and not normalises_by_batch_anyway
        ):
            yield str(node.kind())


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
