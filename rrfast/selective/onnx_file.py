"""A selective classifier as an ONNX file, with the gradient of its score."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from rrfast._checks import describe
from rrfast._errors import first_line, require
from rrfast._files import write
from rrfast.selective.agreement import agreement, check_arguments
from rrfast.selective.classifier import SelectiveClassifier
from rrfast.selective.exported import quiet, recorded, reference_of_ops

#: The version of ONNX's operators: onnxruntime runs these files from 1.18 on.
OPSET = 20
#: Protobuf writes no larger message.
LARGEST = 2**31


def save_onnx(
    classifier: SelectiveClassifier,
    x: Tensor,
    path: str | os.PathLike[str],
    *,
    tolerance: float = 1e-3,
) -> float:
    """Write the classifier as an ONNX file that onnxruntime runs, for any number of inputs.

        session.run(None, {"x": x}) = [prediction, confidence, accept]

    The same scores as in `export`: of the logits, and with the gradient in the graph ODIN,
    `Preprocessed` and the radius `grad` and `fast`. Operations that ONNX lacks are written in
    others: the backward of a convolution as a transposed convolution, those of pooling and
    interpolation as matrices, attention as its matrix products. NaN passes through maxima as in
    torch. The arithmetic is onnxruntime's, so that the last digits differ; docs/deployment.md has
    how many.

    Before the file is written, onnxruntime runs it on the CPU: on x, on another number of inputs,
    and on two with a NaN.

    Args:
        classifier: From `fit` or `load`; not changed.
        x: Inputs [B, ...] such as the classifier will get, to compare on; float32, for which
            onnxruntime has most of its kernels. All sizes but B are part of the file.
        path: The file; its folder must exist.
        tolerance: By how much a confidence may differ at most, relative to its size, or to the
            mean size of those of x where that is larger.

    Returns:
        By how much one differs at most.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed: rrfast[onnx] has them.
        OSError: The file cannot be written, or its folder does not exist.
        RuntimeError: ONNX has no form for an operation of the model, which is named; onnxruntime
            cannot run the file; or it decides otherwise than the classifier. No file is written.
        TypeError, ValueError: As `export`; `x` is empty; the weights have 2 GiB; `x` is
            bfloat16, which NumPy lacks.

    Cost: `export`, and the translation, which takes seconds to a minute.

    Source: ours, as `export`.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require("save_onnx", package, install="'rrfast[onnx]'")
    x, path = check_arguments(x, path, tolerance)
    if x.dtype == torch.bfloat16:
        raise TypeError(
            f"x must be of a dtype of NumPy, through which onnxruntime gets it, got {describe(x)}"
        )
    content = _translated(classifier, x)
    found = agreement(_runner(content), classifier, x, tolerance, "onnxruntime")
    write(path, lambda file: file.write(content))
    return found


def _translated(classifier: SelectiveClassifier, x: Tensor) -> bytes:
    from rrfast.selective.onnx_ops import ONNX_OPS

    # ONNX lacks fused attention, the recurrent layers of oneDNN and cuDNN, and cuDNN's BatchNorm.
    onednn, cudnn = torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags()
    with quiet(), sdpa_kernel(SDPBackend.MATH), onednn, cudnn:
        program = recorded(classifier, x, {**reference_of_ops(), **ONNX_OPS})
        size = sum(tensor.nbytes for tensor in program.state_dict.values())
        if size >= LARGEST:
            raise ValueError(
                f"classifier must have less than {LARGEST} bytes of weights for an ONNX file, got "
                f"{size}"
            )
        try:
            translated: Any = torch.onnx.export(
                program,
                input_names=["x"],
                output_names=["prediction", "confidence", "accept"],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise RuntimeError(_untranslated(classifier, x, error)) from error
    translated.rename_axes({translated.model.graph.inputs[0].shape[0]: "batch"})
    return bytes(translated.model_proto.SerializeToString())


def _runner(content: bytes) -> Any:
    import onnxruntime

    def run(x: Tensor) -> list[Tensor]:
        values = _told(session.run, None, {"x": x.cpu().numpy()})
        return [torch.from_numpy(value) for value in values]

    session = _told(onnxruntime.InferenceSession, content, providers=["CPUExecutionProvider"])
    return run


def _told(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return call(*args, **options)
    except Exception as error:  # onnxruntime's have no class in common
        raise RuntimeError(
            f"onnxruntime cannot run the classifier: {first_line(error)}. It has most kernels for "
            "float32; no file was written"
        ) from error


def _untranslated(classifier: SelectiveClassifier, x: Tensor, error: BaseException) -> str:
    """The operation that stopped the translation, and the modules that run it."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    named = re.search(r"No ONNX function found for .*op='([\w.]+)'", str(cause))
    if named is None:
        return (
            f"torch.onnx cannot translate the classifier: {first_line(cause)}; no file was written"
        )
    op = named[1]
    running = _modules_that_run(classifier, x, op.removesuffix("_backward"))
    whose = f", which {' and '.join(running)} of the model runs" if running else ""
    return f"ONNX has no form for the operation {op}{whose}: no file was written"


def _modules_that_run(classifier: SelectiveClassifier, x: Tensor, op: str) -> list[str]:
    """The innermost modules in whose forward an operation of that name runs, by name and class."""
    running: list[str] = []
    found: dict[str, None] = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            if running and str(func).startswith(op):
                found[running[-1]] = None
            return func(*args, **(kwargs or {}))

    hooks = []
    for name, module in classifier.model.named_modules():
        told = f"{name} ({type(module).__name__})" if name else type(module).__name__
        hooks.append(module.register_forward_pre_hook(lambda *_, told=told: running.append(told)))
        hooks.append(module.register_forward_hook(lambda *_: _none(running.pop())))
    try:
        with Watch():  # type: ignore[no-untyped-call]
            classifier(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)


def _none(_: object) -> None:
    """A forward hook's result would replace the output."""
