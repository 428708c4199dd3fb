"""Export of a selective classifier as one graph, with the gradient of its score."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rrfast import ops
from rrfast._checks import describe
from rrfast.engine import check_input
from rrfast.scores import Radius
from rrfast.selective.classifier import SelectiveClassifier

if TYPE_CHECKING:
    from torch.export import ExportedProgram

#: The methods of `rrfast.radius` that take the same steps whatever the numbers are, and few.
EXPORTED = ("fast", "grad")


def export(
    classifier: SelectiveClassifier, x: Tensor, *, portable: bool = False
) -> ExportedProgram:
    """The classifier as a `torch.export.ExportedProgram`, for any number of inputs.

        program.module()(x) = (prediction, confidence, accept)

    What the classifier computes in eval mode on one batch, forward and backward, is recorded
    operation by operation; parameters stay parameters, and no gradient of them is computed. The
    radius `grad` and `fast`, ODIN, `Preprocessed`, RelU and every score of the logits can be
    exported; the radii that search for the boundary cannot, nor can a score or model whose course
    depends on the numbers it meets.

    The program runs rrfast's ops; to load it in another process needs `import rrfast`. On the
    device it was exported for its numbers are those of the classifier, bit for bit, where torch
    records an operation as it runs it: convolutions, linear layers, normalisation, pooling,
    activations. Recurrent layers and attention, which torch runs fused or by a fast path of its own
    and records in their parts, differ in the last digits, and the radius with them: with
    `torch.nn.LSTM` by a relative 4e-6, as measured. A threshold that `fit` chose lies halfway
    between two scores, where there is room, so that such digits decide nothing of the samples it
    saw.

    With `portable`, the functions of `rrfast.reference` take the place of rrfast's ops, in
    PyTorch's own operations: it runs wherever PyTorch does. The sums of `plane_distance` are then
    added in another order: on a CPU, radius `grad` without bounds agrees to a relative 17 * 2**-24
    for float32, and to (n + n / 256 + 24) * 2**-53 for float64 inputs of n elements; with bounds it
    is that of a margin off by as much. With `fast` the cotangent differs in the last places, which
    changes the sign of a gradient only where that is nothing but rounding, and a step that is not
    given by as much as the radius `grad`: the secant is another by that. Another input's score
    that lies within such rounding of the threshold may fall on its other side.

    Args:
        classifier: As `fit` or `load` left it; left as it is. The program has copies of its weights
            and of its threshold, and no part of its provenance.
        x: Inputs [B, ...] that say shape, dtype, device and layout; their numbers are not read, nor
            how many they are. The program takes [B, ...] with B >= 1 and the shape, dtype and
            device of `x`, and copies what lies another way into the layout of `x`.
        portable: Whether to run without rrfast.

    Returns:
        Maps x to prediction [B] int64, confidence [B] and accept [B] bool: `Selection` as a tuple.
        Where a logit is NaN, confidence is NaN and accept False. `torch.export.save` takes it.

    Raises:
        TypeError: `classifier` is none, or `x` is not floating point.
        ValueError: Its score searches, or its model is one of `torch.compile`; as the score.
        Exception: What torch raises of a model that it cannot export.

    Cost: the score of two inputs, and tracing: seconds. The program costs what the score does.

    Source: ours; RAT §3, errata 3 and 4 through the score.

    Example:
        >>> from rrfast.data import digits
        >>> from rrfast.models import digits_cnn
        >>> data = digits()
        >>> classifier = SelectiveClassifier(digits_cnn(), "radius_grad")
        >>> loader = zip(data.validation.x.split(100), data.validation.y.split(100))
        >>> program = export(classifier.fit(loader, coverage=0.8), data.test.x)
        >>> prediction, confidence, accept = program.module()(data.test.x[:7])
        >>> bool((confidence == classifier(data.test.x[:7]).confidence).all())
        True
    """
    if not isinstance(classifier, SelectiveClassifier):
        raise TypeError(
            f"classifier must be a rrfast.SelectiveClassifier, got {describe(classifier)}"
        )
    score = classifier.score
    if isinstance(score, Radius) and score.method not in EXPORTED:
        raise ValueError(
            f"classifier must have a score without a search to be exported, got {score!r}: of the "
            f"radii, {' and '.join(EXPORTED)} can be"
        )
    dynamo = sys.modules.get("torch._dynamo")  # not imported: nothing is compiled
    if dynamo and any(isinstance(part, dynamo.OptimizedModule) for part in classifier.modules()):
        raise ValueError(
            "classifier must have a model that torch.compile has not wrapped: build it with what "
            "torch.compile was given"
        )
    x = check_input(x)
    if x.dim() == 1:
        raise ValueError(f"x must be [B, ...] with something in place of ..., got {describe(x)}")
    with torch.inference_mode(False), torch.no_grad():
        # Two samples: torch.export takes a size of one for a constant.
        example = x.new_zeros((2, *x.shape[1:])).to(memory_format=ops.memory_format(x))
        # An error is the score's own sentence, and what is computed once (RelU's D) is computed.
        with warnings.catch_warnings():
            # Of the numbers, which are zeros here: they may well be without a gradient.
            warnings.simplefilter("ignore", RuntimeWarning)
            classifier(example)
        traced = _traced(classifier, example, portable)
        batch = torch.export.Dim("batch", min=1)
        return torch.export.export(traced, (example,), dynamic_shapes=({0: batch},))


def _traced(classifier: SelectiveClassifier, x: Tensor, portable: bool) -> torch.fx.GraphModule:
    """The classifier's operations on a batch of any size, its weights under their own names.

    `torch.export` records above autograd, where `torch.autograd.grad` is no operation; `make_fx`
    records below, where a backward is operations like all others.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import (
        DimDynamic,
        ShapeEnv,
        StatelessSymbolicContext,
    )

    held: dict[str, Tensor] = {**dict(classifier.named_parameters())}
    held.update(classifier.named_buffers())
    # Only the batch has an unknown size, and no other size that happens to be equal is taken for it
    # (`make_fx` by itself gives all sizes symbols, and equal ones the same).
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    sizes = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * (x.dim() - 1)]
    fake_x = mode.from_tensor(x, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))
    fake = {name: mode.from_tensor(t.detach(), static_shapes=True) for name, t in held.items()}

    layout = ops.memory_format(x)

    def select(weights: dict[str, Tensor], x: Tensor) -> tuple[Tensor, ...]:
        # As the example lies: what views were recorded is right for that layout alone.
        x = x.clone(memory_format=layout)
        return tuple(torch.func.functional_call(classifier, weights, (x,)))

    table = _reference_of_ops() if portable else {}
    graph = make_fx(select, decomposition_table=table, tracing_mode="symbolic")(fake, fake_x)
    return _holding(graph, held)


def _reference_of_ops() -> dict[Any, Callable[..., Any]]:
    return {getattr(torch.ops.rrfast, op).default: plain for op, plain in ops.OPS.items()}


def _holding(traced: torch.fx.GraphModule, held: dict[str, Tensor]) -> torch.fx.GraphModule:
    """A graph of (weights, x) as a module of x that has copies of the weights that it reads."""
    graph = torch.fx.Graph()
    values: dict[torch.fx.Node, Any] = {}
    attributes: dict[str, Any] = {}
    *weights, x = (node for node in traced.graph.nodes if node.op == "placeholder")
    for node, (name, tensor) in zip(weights, held.items(), strict=True):
        values[node] = None
        if node.users:
            values[node] = graph.get_attr(name)
            copy = tensor.detach().clone()
            parameter = isinstance(tensor, nn.Parameter)
            attributes[name] = nn.Parameter(copy, requires_grad=False) if parameter else copy
    values[x] = graph.placeholder("x")
    # `make_fx` makes a list of what was a tuple.
    graph.output(tuple(graph.graph_copy(traced.graph, values)))  # type: ignore[arg-type]
    # What is neither weight nor input: bounds and scale that are tensors, RelU's D.
    for node in graph.nodes:
        if node.op == "get_attr" and node.target not in attributes:
            attributes[node.target] = getattr(traced, node.target)
    return torch.fx.GraphModule(attributes, graph)
