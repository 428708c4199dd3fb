"""RelU: relative uncertainty, with a confusion matrix learned from labelled data."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from rrfast._checks import check_labels, check_number
from rrfast.engine import Engine, Model
from rrfast.engine.modules_inside import device_of
from rrfast.scores.batches import of_each
from rrfast.scores.logit_score import SoftmaxScore, usable
from rrfast.scores.one_against_rest import one_against_rest

if TYPE_CHECKING:
    from typing_extensions import Self


class Seen(NamedTuple):
    """The data that `RelU.fit` keeps of N samples; not the images."""

    logits: Tensor  #: [N, K]
    correct: Tensor  #: [N] bool


@dataclass(frozen=True, eq=False)
class RelU(SoftmaxScore):
    """Relative uncertainty p^T D p, p = softmax(h / T), as score = -log(p^T D p). Must be fitted.

        D = relu(M) / |relu(M)|_F,
        M = lam E_wrong[p p^T] - (1 - lam) E_correct[p p^T], its diagonal set to 0

    D_ij >= 0 weighs the confusion of classes i and j: it is large if both have mass mainly when the
    model is wrong, and 0 if mainly when it is right. If relu(M) is 0, as for data without an error,
    D is that of Gini's index, all ones off the diagonal, over its norm. The mean over no sample
    counts as 0.

    p^T D p is an uncertainty; the score ranks as its negative. With u = 1 - p_y and p_k = u q_k

        p^T D p = u (2 (1 - u) (D q)_y + u q^T D q),

    which is accurate at any margin, with B K^2 operations and [B, K] memory. Infinite if only pairs
    with weight 0 in D have mass.

    Fitting keeps the logits of its data instead of D, because D depends on T and lam: so copies
    made by `at` and `dataclasses.replace` have the right D.

    Cost: 1 forward; `fit` takes 1 forward of its data, for all temperatures.

    Source: Gomes et al. 2023 (A Data-Driven Measure of Relative Uncertainty), called "ReLU" in RAT
    Tab. 2 and B.1; errata 9. As in DOCTOR, the pre-processing raises the uncertainty (errata 10).

    Attributes:
        temperature: T > 0.
        lam: lambda in [0, 1], 0.5 as in RAT B.1, which does not search it.
        seen: Set by `fit`.

    Raises:
        TypeError, ValueError: A hyper-parameter is not a number or out of range.

    Example:
        >>> model = torch.nn.Identity()
        >>> x = torch.tensor([[2.0, 1.0, 0.0], [2.0, 0.0, 1.0], [3.0, 0.0, 0.0]])
        >>> score = RelU().fit(model, [(x, torch.tensor([1, 0, 0]))])
        >>> score.matrix  # the model was wrong between 0 and 1
        tensor([[0.0000, 0.7043, 0.0000],
                [0.7043, 0.0000, 0.0627],
                [0.0000, 0.0627, 0.0000]], dtype=torch.float64)
        >>> score(model, torch.tensor([[2.0, 1.0, 0.0], [2.0, 0.0, 1.0]]))
        tensor([1.4606, 2.4404], dtype=torch.float64)
    """

    lam: float = 0.5
    seen: Seen | None = None
    preprocessing: ClassVar[Literal[1, -1]] = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("lam", self.lam, least=0, most=1)

    def __repr__(self) -> str:
        seen = "" if self.seen is None else f", fitted to {len(self.seen.correct)} samples"
        return f"RelU(temperature={self.temperature}, lam={self.lam}{seen})"

    @property
    def fitted(self) -> bool:
        """Whether the score was made by `fit`."""
        return self.seen is not None

    def fit(self, model: Model, loader: Iterable[Any]) -> Self:
        """A new score with D from this data.

        Args:
            model: As for `Score.__call__`.
            loader: Yields (x [B, ...], y [B]): labelled data on which the model was not trained,
                and on which the score is neither tuned nor tested. RAT B.1 takes half of the
                validation split.

        Raises:
            TypeError: `loader` yields anything but pairs of tensors.
            ValueError: There is no sample, a label is not a class, or a logit is NaN or the largest
                infinite.
        """

        def one(x: Tensor, y: Tensor | None) -> Seen:
            assert y is not None  # of a pair
            with Engine(model) as engine:
                h = engine.forward(x)
            check_labels("y", y, h.shape[1])
            if not bool(usable(h).all()):
                raise ValueError(
                    "model must give finite largest logits on the data that RelU is fitted to, got "
                    f"NaN or infinity on {int((~usable(h)).sum())} of {len(h)} samples of a batch"
                )
            # Copy, because a compiled model may reuse the memory of its logits.
            return Seen(h.clone(), h.argmax(dim=1) == y)

        seen = of_each(one, model, loader, pairs=True)
        logits, correct = (torch.cat(parts) for parts in zip(*seen, strict=True))
        device = device_of(model) or logits.device  # other processes' results come on the CPU
        return self.at(seen=Seen(logits.to(device), correct.to(device)))

    @functools.cached_property
    def matrix(self) -> Tensor:
        """D, [K, K] float64: symmetric, >= 0, 0 on the diagonal, with Frobenius norm 1.

        Raises:
            ValueError: The score is not fitted.
        """
        if self.seen is None:
            raise ValueError(
                "RelU must be fitted before it is used, got one that was not; take "
                "score.fit(model, loader) with labelled data"
            )
        p = (self.seen.logits.double() / self.temperature).softmax(dim=1)
        wrong, right = _mean_square(p[~self.seen.correct]), _mean_square(p[self.seen.correct])
        d = (self.lam * wrong - (1 - self.lam) * right).fill_diagonal_(0).clamp(min=0)
        if not bool((d > 0).any()):
            d = torch.ones_like(d).fill_diagonal_(0)
        return d / d.square().sum().sqrt()

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        parts, d = one_against_rest(h / self.temperature), self._matrix_for(h)
        u, q = parts.u, parts.q
        dq = q @ d
        at_y, at_rest = dq.gather(1, parts.prediction).squeeze(1), (q * dq).sum(dim=1)
        return -(parts.log_u + (2 * (1 - u) * at_y + u * at_rest).log())

    def ascent(self, h: Tensor) -> Tensor:
        """-p_k ((D p)_k - p^T D p) / u: the factor 1 / u keeps it from underflowing."""
        parts, d = one_against_rest(h / self.temperature), self._matrix_for(h)
        u, q = parts.u[:, None], parts.q
        dq = q @ d
        at_y, at_rest = dq.gather(1, parts.prediction), (q * dq).sum(dim=1, keepdim=True)
        form_over_u = 2 * (1 - u) * at_y + u * at_rest
        dp = (1 - u) * d[parts.prediction.squeeze(1)] + u * dq
        at_prediction = (1 - u) * (form_over_u - at_y)
        return parts.joined(at_prediction.squeeze(1), q * (u * form_over_u - dp))

    def _matrix_for(self, h: Tensor) -> Tensor:
        if h.shape[1] != len(self.matrix):
            raise ValueError(
                f"logits must have the {len(self.matrix)} classes that RelU was fitted to, got "
                f"{h.shape[1]}"
            )
        return self.matrix.to(h.device)


def _mean_square(p: Tensor) -> Tensor:
    """E[p p^T] over the rows of p [N, K]; 0 over none."""
    return p.T @ p / max(len(p), 1)
