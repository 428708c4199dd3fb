"""A model without the logits that only training needs."""

from __future__ import annotations

from torch import Tensor, nn

from rrfast._checks import check_count, check_logits, check_module
from rrfast.engine import output_logits


class FirstClasses(nn.Module):
    """The first `classes` logits of a model, as [B, classes].

    OpenMix trains with one more class than the task, for outliers, and drops its logit for
    predictions. With this wrapper every score and radius is that of the K real classes.

    The parameters are shared with the model, not copied. `first.model.state_dict()` has the weights
    without this module.

    Args:
        model: Returns logits [B, K], or an object with such `.logits`, K at least `classes`.
        classes: Number of classes to keep, at least 2.

    Attributes:
        model: The model.
        classes: Number of classes kept.

    Raises:
        TypeError: `model` is no `nn.Module`; called, it returns no floating-point logits.
        ValueError: `classes` is not an integer of at least 2; called, the model has fewer logits,
            or they are not [B, K].

    Source: Zhu et al. (2023), "OpenMix: Exploring Outlier Samples for Misclassification Detection",
    https://arxiv.org/abs/2303.17093.

    Example:
        >>> import torch
        >>> trained = nn.Linear(4, 11)
        >>> FirstClasses(trained, 10)(torch.rand(2, 4)).shape
        torch.Size([2, 10])
    """

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        check_module(model)
        check_count("classes", classes, least=2)
        self.model = model
        self.classes = int(classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes], a view of the model's.

        Args:
            x: [B, ...], as for the model.
        """
        logits = output_logits(self.model(x))
        check_logits("the model's logits", logits)
        if logits.shape[1] < self.classes:
            raise ValueError(
                f"model must have at least {self.classes} logits, those that are asked for, and "
                f"has {logits.shape[1]}"
            )
        return logits[:, : self.classes]

    def extra_repr(self) -> str:
        """The number of classes kept."""
        return f"classes={self.classes}"
