"""`rrfast.predict`: a score of all inputs of a loader, with predictions and labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast import engine
from rrfast._checks import check_labels, describe
from rrfast._progress import batches_bar
from rrfast.engine import Model
from rrfast.methods import Method
from rrfast.scores.batches import of_each
from rrfast.scores.registry import DEFAULT, as_score
from rrfast.scores.score import Point, Score, Scored


class Predictions(NamedTuple):
    """The result of `predict` for N inputs, in the order of the loader, on the CPU."""

    confidence: Tensor  #: [N], larger = more confident; [P, N] at P points
    prediction: Tensor  #: [N] int64
    y: Tensor | None = None  #: [N] int64, the labels; None if the loader has none
    #: int64, the class that it changes to, or -1; for a score of the logits the runner-up
    rival: Tensor | None = None

    @property
    def correct(self) -> Tensor:
        """Whether each prediction is right, [N] bool.

        Raises:
            ValueError: The loader has no labels.
        """
        if self.y is None:
            raise ValueError("loader must yield pairs (x, y) where labels are needed, got only x")
        return self.prediction == self.y


def predict(
    model: Model,
    loader: Iterable[Any],
    score: str | Score | Method = DEFAULT,
    *,
    points: Sequence[Point] = (),
    progress: bool = True,
) -> Predictions:
    """Measure the score of every input of a loader, with predictions and labels.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`. Runs in
            eval mode; its state is restored. Inputs are moved to its device.
        loader: Yields (x [B, ...], y [B] integers), or x alone.
        score: A name in `rrfast.scores.SCORES`, a score, or a method of the radius.
        points: P sets of hyper-parameters that replace the score's own, measured together with
            shared passes as in `Score.measure`. Without it confidence is [N].
        progress: Show batches and images per second on stderr, if that is a terminal.

    Returns:
        Predictions(confidence, prediction, y, rival), on the CPU.

    Raises:
        TypeError: `loader` yields anything else, or `points` are no mappings.
        ValueError: It yields no sample, or some batches with labels and some without; a label is
            not a class of the model.

    Cost: that of the score.

    Example:
        >>> x, y = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
        >>> found = predict(torch.nn.Linear(4, 3), zip(x.split(4), y.split(4)), "radius_grad")
        >>> found.confidence.shape, found.correct.shape
        (torch.Size([6]), torch.Size([6]))
    """
    return measured(model, loader, as_score(score), points, progress=progress)


def measured(
    model: Model,
    loader: Iterable[Any],
    score: Score,
    points: Sequence[Point] = (),
    *,
    progress: bool = False,
    pairs: bool = False,
    name: str = "loader",
) -> Predictions:
    """As `predict`; with `pairs` the loader must have labels, and errors call it `name`."""
    if not isinstance(points, Sequence) or not all(isinstance(p, Mapping) for p in points):
        raise TypeError(
            "points must be a sequence of hyper-parameters, each a mapping such as "
            f"{{'temperature': 1.0}}, got {describe(points)}"
        )

    def one(x: Tensor, y: Tensor | None) -> Predictions:
        scored = score.measure(model, x, points or ({},))
        if y is not None:
            _check_classes(scored, model, x, y)
        found = Predictions(scored.values, scored.prediction, y, scored.rivals())
        advance(len(x), 1)
        return Predictions._make(t if t is None else t.cpu() for t in found)

    with batches_bar(loader, progress) as advance:
        parts = of_each(one, model, loader, pairs=pairs, name=name)
    return _joined(parts, alone=not points)


def _check_classes(scored: Scored, model: Model, x: Tensor, y: Tensor) -> None:
    """Raise unless every label is a class of the model; otherwise it would count as an error.

    Cost: 1 forward, if the score does not give the number of classes and no prediction is at least
    as large as the largest label.
    """
    classes = scored.classes
    if classes is None:
        # A user's score may not give it.
        classes = int(scored.prediction.amax()) + 1
        if int(y.amax()) >= classes:
            classes = engine.logits(model, x).shape[1]
    check_labels("y", y, classes)


def _joined(parts: list[Predictions], *, alone: bool) -> Predictions:
    """Join the batches; `alone`: only the score's own point, without a dimension for points."""
    unlabelled = [part.y is None for part in parts]
    if any(unlabelled) and not all(unlabelled):
        raise ValueError("loader must yield labels with every batch or with none")

    def joined(field: str) -> Any:
        tensors = [getattr(part, field) for part in parts]
        if any(tensor is None for tensor in tensors):
            return None
        whole = torch.cat(tensors, dim=-1)
        return whole[0] if alone and whole.dim() == 2 else whole

    return Predictions._make(joined(field) for field in Predictions._fields)
