"""EWAT: weights by the entropy of the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rrfast import ops, reference
from rrfast._checks import check_number
from rrfast.objectives.reweighted import Reweighted, mean_one


@dataclass(frozen=True, eq=False)
class EWAT(Reweighted):
    """Entropy-weighted adversarial training.

        w_i = v_i / mean_j v_j,    v_i = offset + H_i,    H = -sum_k p_k log p_k

    with p = softmax(f(x^)). In the paper the weight is proportional to the entropy, and no code is
    released: `offset` 0 and the mean of 1, which preserves the meaning of the learning rate, are
    our choice. The mean is over the batch of a call; each process of a distributed training has its
    own. If `offset` and the entropy of every sample are 0, so are the weights.

    Cost: `steps` + 1 forwards and backwards.

    Source: Kim et al. (2021), "Entropy Weighted Adversarial Training"; IRAT 2.2.

    Attributes:
        eps, steps, step_size, start, bounds, scale: See `Adversarial`.
        warmup, epochs: See `Reweighted`.
        offset: Added to the entropy, in nats, >= 0; with 1 no weight is 0.
        normalize: Whether weights are scaled to a mean of 1; False: w = v.
        detach: Whether weights are constants; False: the gradient flows through them.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> EWAT(eps=0.1, offset=1).backward(model, x, y).shape
        torch.Size([])
    """

    offset: float = 0.0
    normalize: bool = True
    detach: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("offset", self.offset, least=0)

    def weights(self, logits: Tensor, y: Tensor, iterates: Sequence[Tensor]) -> Tensor:
        """The weights [B]; see `Reweighted`. PGD's iterates are not used."""
        del iterates
        if self.detach:
            *_, entropy = ops.probability_margin(logits.detach(), y)
        else:
            *_, entropy = reference.probability_margin(logits, y)
        value = self.offset + entropy
        return mean_one(value) if self.normalize else value
