"""Attacks on test images that a model resisted: ACET's Table 1 counts only the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from rrfast.evaluate.observations import Row
from rrfast.ops import accumulate_dtype

#: In units of 1 / K: the smallest probability at which a predicted label does not count as chance.
LEAST = 1.01
#: Suffix of the name of a set without the attacks that were resisted.
WITHOUT = ", not resisted"


def resisted(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the model classifies each image correctly with more than a uniform confidence.

        argmax_k p_k = y  and  p_y >= 1.01 / K

    Args:
        logits: [B, K] at the attacked images.
        labels: y, [B] int64, labels of the images before the attack.

    Returns:
        [B] bool; False if a logit is NaN.

    Source: ACET's released code, which the paper does not mention; errata 37.

    Example:
        >>> import torch
        >>> h = torch.tensor([[0.0, 3.0], [0.0, 1e-3], [3.0, 0.0]])
        >>> resisted(h, torch.tensor([1, 1, 1]))
        tensor([ True, False, False])
    """
    p = logits.to(accumulate_dtype(logits.dtype)).softmax(dim=1)
    own = p.gather(1, labels.view(-1, 1)).squeeze(1)
    return (p.argmax(dim=1) == labels) & (own >= LEAST / p.shape[1])


def with_not_resisted(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of sets; each set of attacked test images is followed by a row of those not resisted.

    Its `set` ends in `WITHOUT`, and its numbers are those of `not_resisted`.

    Example:
        >>> row = {"set": "adversarial_samples", "mmc": 0.8, "not_resisted": {"mmc": 0.9}}
        >>> [(row["set"], row["mmc"]) for row in with_not_resisted([row])]
        [('adversarial_samples', 0.8), ('adversarial_samples, not resisted', 0.9)]
    """
    for row in rows:
        yield row
        if "not_resisted" in row:
            yield row | row["not_resisted"] | {"set": row["set"] + WITHOUT}


def kind_of(name: str) -> str:
    """The kind of a set, without the text after a colon and without `WITHOUT`.

    Example:
        >>> kind_of("adversarial_samples:0.3, not resisted"), kind_of("noise, not resisted")
        ('adversarial_samples', 'noise')
    """
    return name.removesuffix(WITHOUT).partition(":")[0]
