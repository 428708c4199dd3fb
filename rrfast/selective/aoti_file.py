"""A selective classifier as a package of AOTInductor: compiled, for PyTorch without rrfast."""

from __future__ import annotations

import io
import os

import torch
from torch import Tensor

from rrfast._errors import first_line
from rrfast._files import write
from rrfast.selective.agreement import agreement, check_arguments
from rrfast.selective.classifier import SelectiveClassifier
from rrfast.selective.exported import export, quiet

#: Ending of the package's name, which torch asks for when it loads one.
PACKAGE = ".pt2"


def save_aoti(
    classifier: SelectiveClassifier,
    x: Tensor,
    path: str | os.PathLike[str],
    *,
    tolerance: float = 1e-3,
) -> float:
    """Compile the classifier into a package of AOTInductor, for any number of inputs.

        torch._inductor.aoti_load_package(path)(x) = (prediction, confidence, accept)

    The package is `export(..., portable=True)`, compiled: it needs no rrfast and no compiler, but
    the version of torch, the kind of device and of processor that it was made with. As the C++ of
    the package is compiled for the layout of `x`, it is to be called with tensors of that layout;
    it checks shape, dtype and layout only where `AOTI_RUNTIME_CHECK_INPUTS=1` is in the
    environment, and otherwise reads what it gets.

    Before the file is written it is run: on x, on another number of inputs, and on two with a NaN.

    Args:
        classifier: From `fit` or `load`; not changed.
        x: Inputs [B, ...] such as the classifier will get, to compare on.
        path: The file, NAME.pt2; its folder must exist.
        tolerance: As of `save_onnx`.

    Returns:
        By how much a confidence differs from the classifier's at most, as `save_onnx`.

    Raises:
        OSError: The file cannot be written, or its folder does not exist.
        RuntimeError: AOTInductor cannot compile it, for example without a C++ compiler; or it
            decides otherwise than the classifier. No file is written.
        TypeError, ValueError: As `export`; `x` is empty; `path` does not end in .pt2.

    Cost: `export`, and the C++ compiler, half a minute for a small network.

    Source: ours, as `export`.
    """
    x, path = check_arguments(x, path, tolerance)
    if path.suffix != PACKAGE:
        raise ValueError(f"path must end in {PACKAGE}, got {str(path)!r}")
    program = export(classifier, x, portable=True)
    package = io.BytesIO()
    try:
        # oneDNN and NNPACK do some convolutions from 16 inputs on. Torch asks at the two inputs of
        # the example, and would take the answer for a bound of every batch.
        onednn = torch.backends.mkldnn.flags(enabled=False)
        with quiet(), onednn, torch.backends.nnpack.flags(enabled=False):
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=package,
                # AOTI_RUNTIME_CHECK_INPUTS would refuse a single input.
                inductor_configs={"aot_inductor.check_lowerbound": False},
            )
        package.seek(0)
        run = torch._inductor.aoti_load_package(package)
    except Exception as error:
        raise RuntimeError(
            f"AOTInductor cannot compile the classifier: {first_line(error)}. It needs a C++ "
            "compiler"
        ) from error
    found = agreement(run, classifier, x, tolerance, "AOTInductor")
    write(path, lambda file: file.write(package.getvalue()))
    return found
