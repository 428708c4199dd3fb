"""The interface of an attack: it finds a bad point in a ball for each sample of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_dense, check_per_sample
from rrfast.attacks.ascent import ascent
from rrfast.attacks.loss import Loss
from rrfast.engine import Engine, check_input
from rrfast.engine.box import within
from rrfast.methods.boundary import of_samples
from rrfast.ops import accumulate_dtype

if TYPE_CHECKING:
    from rrfast.engine import Model


class Attacked(NamedTuple):
    """The result of an attack, or one of its iterates.

    A point with a NaN loss does not count as an error, whatever the label: it never replaces a
    point with a number, and if there is none, the result is x. Check separately whether x itself
    has a valid prediction.

    If the logit of a class that is not the label overflows to infinity, the model predicts that
    class: the point is an error with loss infinity. (The radius leaves such points out; an attack
    must not, else a model would seem more robust the sooner it overflows.) The confidence is NaN
    there, and FAB, which walks like the radius method, does not keep such points.
    """

    x: Tensor  #: [B, ...], in the ball and the box
    loss: Tensor  #: [B], accumulation dtype: the attack's loss there
    wrong: Tensor  #: [B] bool: the prediction is not the label; False without labels, and for NaN

    def or_better(self, new: Attacked, *, errors_first: bool = True) -> Attacked:
        """For each sample the better of this point and the new one: the one with the larger loss.

        Among equals this one. With `errors_first` a wrong point is better than any right one. NaN
        counts as the least loss.
        """
        better = new.loss > self.loss
        if errors_first:
            better = (new.wrong & ~self.wrong) | ((new.wrong == self.wrong) & better)
        better = (better | self.loss.isnan()) & ~new.loss.isnan()
        return Attacked(*(pick(better, a, b) for a, b in zip(new, self, strict=True)))


def seen(z: Tensor, logits: Tensor, labels: Tensor | None, loss: Loss) -> tuple[Attacked, Tensor]:
    """A point with its loss, and the gradient of its loss with respect to the logits, [B, K]."""
    value, seed = ascent(loss, logits, labels)
    return judged(z, logits, labels, value), seed


def judged(z: Tensor, logits: Tensor, labels: Tensor | None, loss: Tensor) -> Attacked:
    """A point with its loss [B], and whether it is wrong by its logits."""
    wrong = torch.zeros_like(loss, dtype=torch.bool)
    if labels is not None:
        # argmax takes NaN for the largest: the prediction would be arbitrary.
        wrong = (logits.argmax(dim=1) != labels) & ~loss.isnan()
    return Attacked(z, loss, wrong)


def unseen(z: Tensor) -> Attacked:
    """A point without a loss; any point with a loss is better."""
    loss = z.new_full(z.shape[:1], torch.nan, dtype=accumulate_dtype(z.dtype))
    return Attacked(z, loss, torch.zeros_like(loss, dtype=torch.bool))


def nothing(x: Tensor) -> Attacked:
    """The result for an empty batch."""
    return Attacked(
        x.clone(), x.new_zeros(0, dtype=accumulate_dtype(x.dtype)), x.new_zeros(0).bool()
    )


def pick(which: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """For each sample a where `which` [B] is true, else b."""
    return torch.where(of_samples(which, a), a, b)


def check_targets(labels: object, x: Tensor) -> Tensor:
    """Check the labels; the result is not an inference tensor, so that autograd can use it.

    Raises:
        TypeError: `labels` is not int64.
        ValueError: They are not one per sample of `x`.
    """
    check_per_sample("labels", labels, torch.int64, "x", x)
    assert isinstance(labels, Tensor)
    with torch.inference_mode(False):
        # Autograd saves them as indices of the loss.
        return labels.clone() if labels.is_inference() else labels


class Attack(ABC):
    """`attack(model, x, y)` returns the worst point found near each x.

    A subclass is a frozen dataclass with `eps`, `bounds` and `scale` among its options, and defines
    `run`. Samples do not influence each other, apart from random numbers.
    """

    eps: float
    bounds: ops.Bounds | None
    scale: ops.Scale | None
    #: Whether `labels` must be given.
    labelled: bool = True

    @abstractmethod
    def run(
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        """Run the attack with an open engine, on checked arguments.

        It must not wait for the device.
        """

    def __call__(
        self,
        model: Model,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        """Attack a batch.

        Args:
            model: Maps [B, ...] to logits [B, K]. Runs in eval mode; its state is restored.
            x: [B, ...], floating point, within `bounds` (`rrfast.engine.box.within`). Not modified.
            labels: [B] int64, classes of the model; not needed for an attack on the confidence.
            generator: Generator for random starts, on the device of x; None: that device's default.

        Returns:
            Attacked(x, loss, wrong).

        Raises:
            TypeError: `x` is not floating point, or `labels` not int64.
            ValueError: `labels` is missing, not one per sample, or not a class of the model (on a
                GPU only the first call with a model checks this); `x` lies outside `bounds`.
        """
        x = check_input(x)
        check_dense("x", x)
        x = within(x, self.bounds, self.scale, None)
        if labels is None and self.labelled:
            raise ValueError("labels must be given: the loss of this attack depends on them")
        if labels is not None:
            labels = check_targets(labels, x)
        with Engine(model, labels) as engine:
            return self.known(engine, self.run(engine, x, labels, generator=generator), labels)

    def known(self, engine: Engine, found: Attacked, labels: Tensor | None) -> Attacked:
        """The result of `run`, completed."""
        del engine, labels
        return found
