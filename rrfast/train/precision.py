"""Mixed precision that keeps the images in float32."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import Tensor


class AutocastPrecision(MixedPrecision):
    """`torch.autocast`, and a gradient scaler for 16 bits; it differs from Fabric's in two points.

    Fabric's class rounds the images before the model. Between 1/2 and 1 neighbours in bfloat16 are
    2^-8 apart, so that RAT's step of 1e-3 would be lost. Here images stay float32 up to the first
    layer that autocast runs with fewer bits, after the normalisation.

    Fabric's class forbids every backward other than `fabric.backward`, and so gradients with
    respect to the input only, which PGD and some scores need. So losses are scaled by `scaled`
    before `fabric.backward`, which does not scale.

    Args:
        precision: "bf16-mixed" or "16-mixed".
        device: "cpu" or "cuda".
    """

    def __init__(self, precision: Literal["bf16-mixed", "16-mixed"], device: str) -> None:
        super().__init__(precision, device)

    backward = Precision.backward

    def convert_input(self, data: Any) -> Any:
        """Return the data unchanged."""
        return data

    def scaled(self, loss: Tensor) -> Tensor:
        """The scaled loss, to call backward with."""
        if self.scaler is None:
            return loss
        scaled: Tensor = self.scaler.scale(loss)
        return scaled


def precision_options(precision: str) -> dict[str, Any]:
    """Arguments of `Fabric` for `Training.precision`.

    Example:
        >>> precision_options("bf16")["plugins"][0].precision  # Fabric's old name
        'bf16-mixed'
    """
    precision = {"bf16": "bf16-mixed", "16": "16-mixed"}.get(precision, precision)
    if precision not in ("bf16-mixed", "16-mixed"):
        return {"precision": precision}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {"plugins": [AutocastPrecision(precision, device)]}  # type: ignore[arg-type]  # it is
