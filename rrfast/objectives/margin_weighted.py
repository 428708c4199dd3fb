"""The probability margin of MAIL and WMMR, and IRAT's reweighting of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rrfast import ops, reference
from rrfast._checks import check_count, check_number, describe
from rrfast.objectives.reweighted import Reweighted


@dataclass(frozen=True, eq=False)
class MarginWeighted(Reweighted):
    """Weights that grow with the margin of x^.

        m  = max_{k != y} p_k - p_y                     in [-1, 1]: larger = worse (errata 14)
        m~ = m (tau - o) c,    o = max_{k != y} p_k / (1 - p_y),    c = cos(p, p without p_y)

    of p = softmax(f(x^)); see `rrfast.ops.probability_margin`. With `tau` the weights are computed
    from m~ in place of m, as printed: a larger (tau - o) c makes the weight of a right sample,
    whose m is below 0, smaller, and that of a wrong sample larger (errata 16). So the weights never
    decrease as m~ grows, but they may decrease as m grows: when p_y approaches 1, c and m~ approach
    0.

    Source: IRAT Eq. 4, 10, 11, 13 and 14.

    Attributes:
        eps, steps, step_size, start, bounds, scale: See `Adversarial`.
        warmup, epochs: See `Reweighted`.
        tau: Parameter of margin reweighting, an integer >= 2; None: no reweighting. The paper takes
            2, and 3 for a ResNet-18 on CIFAR-100.
        similarity: Whether c is in m~; False: the ablation of Tables 4 and 7.
        factor: A factor of all weights, > 0: the M of Alg. 1, 3 there and in MAIL's released code.
            It is not the M of Eq. 12, a mask (errata 18).
        printed: Whether weights have the signs of Eq. 15 and 16 as printed. They then never grow
            with m or m~, so that a wrong sample weighs less than a right one. But of two right
            samples with the same margin the one nearer to many classes weighs more, which the paper
            wants and the default does not give (errata 15, 16).
        detach: Whether weights are constants. False: the gradient flows through them, as in WMMR's
            released code.
    """

    tau: int | None = None
    similarity: bool = True
    factor: float = 3.0
    printed: bool = False
    detach: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau is not None:
            check_count("tau", self.tau, least=2)
        check_number("factor", self.factor)
        if not isinstance(self.printed, bool):
            raise TypeError(f"printed must be True or False, got {describe(self.printed)}")

    def margin(self, logits: Tensor, y: Tensor) -> Tensor:
        """m, or m~ with `tau`: [B], accumulation dtype.

        Args:
            logits: [B, K].
            y: Labels [B] int64.

        Example:
            >>> import torch
            >>> from rrfast.objectives import MAIL
            >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
            >>> MAIL().margin(logits, torch.tensor([0]))
            tensor([-0.2500])
        """
        if self.detach:
            margin, ratio, similarity, _ = ops.probability_margin(logits.detach(), y)
        else:
            margin, ratio, similarity, _ = reference.probability_margin(logits, y)
        if self.tau is None:
            return margin
        moved = margin * (self.tau - ratio)
        return moved * similarity if self.similarity else moved

    @abstractmethod
    def of_margin(self, margin: Tensor) -> Tensor:
        """The weight [B] of a margin [B], without `factor`; never decreasing in the margin.

        With `printed` never increasing.
        """

    def weights(self, logits: Tensor, y: Tensor, iterates: Sequence[Tensor]) -> Tensor:
        """The weights [B]; see `Reweighted`. PGD's iterates are not used."""
        del iterates
        return self.factor * self.of_margin(self.margin(logits, y))
