"""ODIN: MSR at a high temperature, after a step that raises it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rrfast import ops
from rrfast.engine import Model
from rrfast.methods.method import Compat
from rrfast.scores.grids import EPSILONS, TEMPERATURES
from rrfast.scores.msr import MSR
from rrfast.scores.preprocessed import Preprocessed
from rrfast.scores.score import Point, Score, Scored


@dataclass(frozen=True, eq=False)
class ODIN(Score):
    """max_k softmax(h(x~) / T)_k as its log-odds, x~ = x + eps sign(grad_x log S_T(x)).

    `Preprocessed(MSR(T), eps)` under its own name with the paper's defaults. Larger = more
    confident: the paper's detector decides in-distribution above its threshold (errata 20).

    Cost: 2 forwards and 1 backward; see `Preprocessed` for a grid.

    Source: Liang et al. 2018 (ODIN), Eq. 1 and 2; RAT B.1, B.3; errata 10, 20.

    Attributes:
        temperature: T > 0; 1000 as in the paper.
        eps: Step, >= 0, in units of `scale`; 0.0014 as in the paper on CIFAR-10, in pixels.
        bounds: As for `Preprocessed`; the paper does not clamp.
        scale: As for `Preprocessed`.
        compat: "released" lowers the confidence, as RAT's code does.

    Raises:
        TypeError, ValueError: As `Preprocessed`.

    Example:
        >>> import torch
        >>> ODIN(temperature=1.0, eps=0.125)(torch.nn.Identity(), torch.tensor([[2.0, 0.0]]))
        tensor([2.2500], dtype=torch.float64)
    """

    temperature: float = 1000.0
    eps: float = 0.0014
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    compat: Compat = "paper"

    def __post_init__(self) -> None:
        self.preprocessed()

    @property
    def grids(self) -> dict[str, tuple[float, ...]]:
        """T and eps as in RAT B.1; its largest eps, 0.001, is below the 0.0014 of ODIN's paper."""
        return {"temperature": TEMPERATURES, "eps": EPSILONS}

    def preprocessed(self) -> Preprocessed:
        """The same score as a `Preprocessed`."""
        return Preprocessed(
            MSR(self.temperature), self.eps, self.bounds, self.scale, compat=self.compat
        )

    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        """As `Preprocessed.measure`."""
        return self.preprocessed().measure(model, x, points)
