"""A score of rrfast as an out-of-distribution detector of pytorch-ood."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rrfast._errors import require
from rrfast.scores import as_score
from rrfast.scores.batches import check_loader

require("rrfast.integrations.pytorch_ood", "pytorch_ood", "pytorch-ood")

from pytorch_ood.api import (  # noqa: E402 - after the message if it is missing
    DetectorInfo,
    GradientDetector,
    RequiresFittingException,
    Task,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from rrfast.engine import Model
    from rrfast.methods import Method
    from rrfast.scores import Score

__all__ = ["ScoreDetector"]


class ScoreDetector(GradientDetector):
    """Any score of `rrfast.scores`, such as the radius, as a detector of pytorch-ood.

        outlierness = -score(model, x)

    rrfast's scores are larger for more confident predictions, pytorch-ood's for outliers. The model
    runs in eval mode with frozen weights, also under `torch.no_grad`, and its state is restored.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`.
        score: A name in `rrfast.scores.SCORES`, a `rrfast.scores.Score` or a method of the radius.

    Attributes:
        model: As given; `to` moves it.
        score: The score; `fit` and `set_hyperparameters` replace it.
        requires_fit: Whether the score must be fitted first, as RelU.
        hyperparameter_space: The score's grids, for `pytorch_ood.utils.GridSearch`.

    Raises:
        ImportError: pytorch-ood is not installed.
        TypeError, ValueError: As `rrfast.scores.as_score`.

    Cost: that of the score.

    Example:
        >>> import torch
        >>> ScoreDetector(torch.nn.Linear(4, 3), "radius_grad")(torch.rand(8, 4)).shape
        torch.Size([8])
    """

    info = DetectorInfo(tasks={Task.CLASSIFICATION})

    def __init__(self, model: Model, score: str | Score | Method = "fast") -> None:
        super().__init__()
        self.model = model
        self.score = as_score(score)

    @property
    def requires_fit(self) -> bool:
        """Whether the score must be fitted first."""
        return not self.score.fitted

    @property
    def hyperparameter_space(self) -> dict[str, list[Any]]:
        """The values to try for each hyper-parameter."""
        return {name: list(values) for name, values in self.score.grids.items()}

    def get_hyperparameters(self) -> dict[str, Any]:
        """The score's hyper-parameters that have a grid."""
        return {name: getattr(self.score, name) for name in self.score.grids}

    def set_hyperparameters(self, **kwargs: Any) -> Self:
        """Replace hyper-parameters of the score.

        Raises:
            TypeError: The score has no such hyper-parameter.
        """
        self.score = self.score.at(**kwargs)
        return self

    def fit(self, data_loader: Iterable[Any]) -> Self:
        """Fit the score to labelled data; nothing for a score that learns nothing.

        Args:
            data_loader: Yields (x [B, ...], y [B]): data that the model was not trained on.

        Raises:
            TypeError, ValueError: `data_loader` is no iterable of such batches; or as the score.
        """
        check_loader("data_loader", data_loader)
        self.score = self.score.fit(self.model, data_loader)
        return self

    def predict(self, x: Tensor) -> Tensor:
        """Minus the score, [B]: larger = more likely out-of-distribution.

        Args:
            x: [B, ...], floating point; moved to the detector's device.

        Raises:
            RequiresFittingException: The score must be fitted first.
            TypeError, ValueError: As the score.
        """
        if self.requires_fit:
            raise RequiresFittingException(f"{self.score} must be fitted before predict")
        device = self.device
        return -self.score(self.model, x if device is None else x.to(device))
