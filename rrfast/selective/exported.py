"""Export of a selective classifier as one graph, with the gradient of its score."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
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

#: Operations, and how to do each in others.
Table = Mapping[Any, Callable[..., Any]]

#: The methods of `rrfast.radius` that take a few fixed steps, whatever the values are.
EXPORTED = ("fast", "grad")


def export(
    classifier: SelectiveClassifier, x: Tensor, *, portable: bool = False
) -> ExportedProgram:
    """The classifier as a `torch.export.ExportedProgram`, for any number of inputs.

        program.module()(x) = (prediction, confidence, accept)

    It records all operations of the classifier in eval mode on one batch, forward and backward;
    parameters stay parameters, and their gradients are not computed. The radius `grad` and `fast`,
    ODIN, `Preprocessed`, RelU and every score of the logits can be exported. Radii that search for
    the boundary cannot, nor can a score or model whose control flow depends on values.

    The program runs rrfast's ops; loading it in another process needs `import rrfast.ops`. On the
    device it was exported for, its numbers equal the classifier's bit for bit if torch records an
    operation in the form in which it runs it: convolutions, linear layers, normalisation, pooling,
    activations. Torch runs recurrent layers and attention as fused kernels or by a fast path but
    records their parts; there the last digits differ, and so does the radius: with `torch.nn.LSTM`
    by a measured relative 4e-6. A threshold that `fit` chose lies halfway between two scores, so
    that such digits do not change the decision on the samples of `fit`.

    With `portable`, the functions of `rrfast.reference` replace rrfast's ops, so that the program
    uses only PyTorch's operations and runs wherever PyTorch does. The sums of `plane_distance`, and
    so of `probe_step`, are then added in another order: on a CPU, radius `grad` without bounds
    agrees to a relative 17 * 2**-24 for float32, and to (n + n / 256 + 24) * 2**-53 for float64
    inputs of n elements; with bounds it agrees with the radius of a margin that is off by as much.
    With `fast` the cotangent differs in the last places. This changes the sign of a gradient only
    where the gradient is mere rounding, and changes a step that is not given as much as the radius
    `grad`, and so the secant. A score of another input that lies within such rounding of the
    threshold may fall on its other side.

    Args:
        classifier: From `fit` or `load`; not changed. The program copies its weights and its
            threshold, but not its provenance.
        x: An example [B, ...] for shape, dtype, device and layout; its values and B do not matter.
            The program takes [B, ...] with B >= 1 and the shape, dtype and device of `x`, and
            copies inputs with another layout into that of `x`.
        portable: Whether to run without rrfast.

    Returns:
        Maps x to prediction [B] int64, confidence [B] and accept [B] bool: `Selection` as a tuple.
        If a logit is NaN, confidence is NaN and accept False. `torch.export.save` can write it.

    Raises:
        TypeError: `classifier` is not a `SelectiveClassifier`, or `x` is not floating point.
        ValueError: Its score searches, its model is compiled by `torch.compile` or is for one
            number of inputs only, or the score raises it.
        Exception: Any error that torch raises for a model that it cannot export.

    Cost: the score of two inputs, and tracing, which takes seconds. The program costs as much as
    the score.

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
    return recorded(classifier, x, reference_of_ops() if portable else {})


def recorded(classifier: SelectiveClassifier, x: Tensor, table: Table) -> ExportedProgram:
    """`export`, with the operations of `table` written in others; raises as `export`."""
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
        raise ValueError(f"x must be [B, ...] with at least one more dimension, got {describe(x)}")
    with torch.inference_mode(False), torch.no_grad():
        # Two samples, because torch.export treats a size of one as a constant.
        example = x.new_zeros((2, *x.shape[1:])).to(memory_format=ops.memory_format(x))
        # Run the score once: errors get its own messages, and cached values (RelU's D) are
        # computed.
        with warnings.catch_warnings():
            # A warning about zero gradients, which zeros as inputs may well have.
            warnings.simplefilter("ignore", RuntimeWarning)
            classifier(example)
        traced = _traced(classifier, example, table)
        batch = torch.export.Dim("batch", min=1)
        try:
            return torch.export.export(traced, (example,), dynamic_shapes=({0: batch},))
        except Exception as error:
            if "Constraints violated (batch)" not in str(error):
                raise
            raise ValueError(
                "classifier must have a model for any number of inputs: one that reads the number "
                "as a Python int fixes it, as len(x) does and x.shape[0] does not"
            ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what torch says about itself: deprecations, TF32, operators of torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "TF32 acceleration", UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _traced(classifier: SelectiveClassifier, x: Tensor, table: Table) -> torch.fx.GraphModule:
    """The classifier's operations on a batch of any size, with its weights under their own names.

    `torch.export` records above autograd, where `torch.autograd.grad` is not an operation;
    `make_fx` records below it, where a backward consists of ordinary operations.
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
    # Only the batch size is symbolic, and no other size of equal value is confused with it (by
    # default `make_fx` makes all sizes symbolic, and equal sizes share a symbol).
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    sizes = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * (x.dim() - 1)]
    fake_x = mode.from_tensor(x, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))
    fake = {name: mode.from_tensor(t.detach(), static_shapes=True) for name, t in held.items()}

    layout = ops.memory_format(x)

    def select(weights: dict[str, Tensor], x: Tensor) -> tuple[Tensor, ...]:
        # In the layout of the example: the recorded views are right only for it.
        x = x.clone(memory_format=layout)
        return tuple(torch.func.functional_call(classifier, weights, (x,)))

    graph = make_fx(select, decomposition_table=table, tracing_mode="symbolic")(fake, fake_x)
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.view.default):
        # A view needs strides that whoever decomposes an operation before it may change.
        node.target = torch.ops.aten.reshape.default
    return _holding(graph, held)


def reference_of_ops() -> Table:
    """Decompositions of rrfast's ops."""
    return {getattr(torch.ops.rrfast, op).default: plain for op, plain in ops.OPS.items()}


def _holding(traced: torch.fx.GraphModule, held: dict[str, Tensor]) -> torch.fx.GraphModule:
    """Turn a graph of (weights, x) into a module of x with copies of the weights that it reads."""
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
    # `make_fx` turns the tuple into a list.
    graph.output(tuple(graph.graph_copy(traced.graph, values)))  # type: ignore[arg-type]
    # Constants that are neither weight nor input: tensors as bounds or scale, RelU's D.
    for node in graph.nodes:
        if node.op == "get_attr" and node.target not in attributes:
            attributes[node.target] = getattr(traced, node.target)
    return torch.fx.GraphModule(attributes, graph)
