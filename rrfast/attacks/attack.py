"""The contract of an attack: the worst point it finds in a ball, for each sample of a batch."""

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
    """What an attack found, or a point on its way.

    Where the loss is NaN, a point is no error, whatever the label: it is never kept over one that
    has a number, and x is the result where there is none. Whether x itself has a prediction must
    be looked at apart.

    Where the logit of a class that is not the label overflows to infinity, what runs predicts that
    class: the point is an error, of loss infinity, and not left out as the radius does it, or a
    model would be the more robust the sooner it overflows. The confidence is NaN there, and FAB,
    which walks as the radius of that name, keeps no such point.
    """

    x: Tensor  #: [B, ...], in the ball and the box
    loss: Tensor  #: [B], accumulation dtype: the attack's loss there
    wrong: Tensor  #: [B] bool: the prediction is not the label; False without, and where NaN

    def or_better(self, new: Attacked, *, errors_first: bool = True) -> Attacked:
        """For each sample, this point or the new one: the one with the larger loss.

        Of equals this one. With `errors_first` one that is wrong goes before any that is not. A NaN
        loss is the least, of an error too.
        """
        better = new.loss > self.loss
        if errors_first:
            better = (new.wrong & ~self.wrong) | ((new.wrong == self.wrong) & better)
        better = (better | self.loss.isnan()) & ~new.loss.isnan()
        return Attacked(*(pick(better, a, b) for a, b in zip(new, self, strict=True)))


def seen(z: Tensor, logits: Tensor, labels: Tensor | None, loss: Loss) -> tuple[Attacked, Tensor]:
    """A point by its logits, and the gradient of its loss with respect to them, [B, K]."""
    value, seed = ascent(loss, logits, labels)
    return judged(z, logits, labels, value), seed


def judged(z: Tensor, logits: Tensor, labels: Tensor | None, loss: Tensor) -> Attacked:
    """A point by its logits and its loss [B]."""
    wrong = torch.zeros_like(loss, dtype=torch.bool)
    if labels is not None:
        # NaN is the largest for argmax: the prediction would be class 0, an error or not.
        wrong = (logits.argmax(dim=1) != labels) & ~loss.isnan()
    return Attacked(z, loss, wrong)


def unseen(z: Tensor) -> Attacked:
    """A point of which nothing is known, which any that has a loss is better than."""
    loss = z.new_full(z.shape[:1], torch.nan, dtype=accumulate_dtype(z.dtype))
    return Attacked(z, loss, torch.zeros_like(loss, dtype=torch.bool))


def nothing(x: Tensor) -> Attacked:
    """What is found in an empty batch."""
    return Attacked(
        x.clone(), x.new_zeros(0, dtype=accumulate_dtype(x.dtype)), x.new_zeros(0).bool()
    )


def pick(which: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """By sample: a where `which` [B] is true, b elsewhere."""
    return torch.where(of_samples(which, a), a, b)


def check_targets(labels: object, x: Tensor) -> Tensor:
    """The labels as a model may be differentiated with: no inference tensor.

    Raises:
        TypeError: `labels` is not int64.
        ValueError: They are not one per sample of `x`.
    """
    check_per_sample("labels", labels, torch.int64, "x", x)
    assert isinstance(labels, Tensor)
    with torch.inference_mode(False):
        # Autograd saves them as the indices of what is climbed.
        return labels.clone() if labels.is_inference() else labels


class Attack(ABC):
    """`attack(model, x, y)` gives the worst point found near each x.

    A subclass is a frozen dataclass with `eps`, `bounds` and `scale` among its options, and a
    `run`. Samples do not influence each other, but for the numbers drawn at random.
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
        """The attack, by an engine that is open, on arguments that are known to be right.

        Nothing in it waits for the device.
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
            model: Maps [B, ...] to logits [B, K]. Runs in eval mode, and is left as it was.
            x: [B, ...], floating point, within `bounds`, as `rrfast.engine.box.within`
                has it. Not modified.
            labels: [B] int64, classes of the model; not needed by an attack on the confidence.
            generator: Of random starts, on the device of x; None: that device's own.

        Returns:
            Attacked(x, loss, wrong).

        Raises:
            TypeError: `x` is not floating point, or `labels` not int64.
            ValueError: `labels` is missing, not one per sample or no class of the model (on a GPU
                seen in the first call with it); `x` lies outside `bounds`.
        """
        x = check_input(x)
        check_dense("x", x)
        x = within(x, self.bounds, self.scale, None)
        if labels is None and self.labelled:
            raise ValueError("labels must be given: what the attack climbs depends on them")
        if labels is not None:
            labels = check_targets(labels, x)
        with Engine(model, labels) as engine:
            return self.known(engine, self.run(engine, x, labels, generator=generator), labels)

    def known(self, engine: Engine, found: Attacked, labels: Tensor | None) -> Attacked:
        """What `run` found, with what it left open."""
        del engine, labels
        return found
