"""The correlation of IRAT's similarity with the incorrect rate."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast import ops


def incorrect_rate_correlation(logits: Tensor, labels: Tensor) -> Tensor:
    """Pearson's r of the incorrect rate 1 - p_y and the similarity c of `MarginWeighted`.

    Args:
        logits: [n, K], K >= 2, of a whole data set. The paper takes a WRN-34-10 with standard
            adversarial training, and Eq. 23 uses x, the clean images.
        labels: y, [n] int64.

    Returns:
        A scalar in [-1, 1], float64; NaN if one of the two is the same for all samples. The paper
        has 0.98.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device.

    Source: IRAT Eq. 6, 11 and 23, appendix D.

    Example:
        >>> logits, labels = torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.5, 0.0]]), torch.tensor([0, 1])
        >>> round(incorrect_rate_correlation(logits, labels).item(), 6)  # of two samples
        1.0
    """
    logits = logits.detach().double()
    _, _, similarity, _ = ops.probability_margin(logits, labels)
    rate = 1 - logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    both = torch.stack((rate, similarity))
    away = both - both.mean(dim=1, keepdim=True)
    r = away.prod(dim=0).sum() / away.norm(dim=1).prod()
    # The mean of equal numbers may be rounded; then r would be computed from rounding errors.
    alike = (both == both[:, :1]).all(dim=1).any()
    return torch.where(alike, torch.nan, r)
