"""Mixed precision that leaves the images in float32."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import Tensor


class AutocastPrecision(MixedPrecision):
    """`torch.autocast`, and a gradient scaler for 16 bits, without two habits of Fabric's.

    Fabric's own rounds the images before the model sees them. Between 1/2 and 1 neighbours of
    bfloat16 are 2^-8 apart: RAT's step of 1e-3 would be lost there. Here images stay float32 up to
    the first layer that autocast runs in fewer bits, behind the normalisation.

    Fabric's own forbids every backward that is not `fabric.backward`, and with it gradients with
    respect to the input alone, of which PGD and some scores are made. So losses are scaled with
    `scaled` before `fabric.backward`, which scales nothing itself.

    Args:
        precision: "bf16-mixed" or "16-mixed".
        device: "cpu" or "cuda".
    """

    def __init__(self, precision: Literal["bf16-mixed", "16-mixed"], device: str) -> None:
        super().__init__(precision, device)

    backward = Precision.backward

    def convert_input(self, data: Any) -> Any:
        """As it is."""
        return data

    def scaled(self, loss: Tensor) -> Tensor:
        """What to call backward with."""
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
