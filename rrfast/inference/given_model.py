"""The model option of a command: a training's folder, or a specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from rrfast._names import SPECIFICATIONS
from rrfast.models import Normalize, load_model

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe


def check_source(source: str | Path) -> None:
    """Raise a ValueError if the source is neither a folder nor a specification of a model."""
    if not Path(source).is_dir() and ":" not in str(source):
        raise ValueError(
            f"{str(source)!r} is neither a folder nor a model: give the folder of a training, or "
            f"one of {SPECIFICATIONS}"
        )


class GivenModel(NamedTuple):
    """A model, and the recipe of its training if known."""

    model: nn.Module  #: in eval mode, on the CPU, K logits of inputs in [0, 1]
    recipe: Recipe | None  #: recipe of its training; None for a specification


def given_model(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    normalize: str | None = None,
    trust: bool = False,
) -> GivenModel:
    """The model of a training's folder or of a specification.

    Args:
        source: A folder that `rrfast train` made, or a specification for
            `rrfast.models.load_model`.
        weights: For a specification, a file with a state_dict; for a folder, "last" (the default)
            or "best".
        classes: For a specification, as for `load_model`.
        normalize: For a specification, a name that `rrfast.models.Normalize.of` knows; the
            normalization is put in front of the model, so that inputs stay in [0, 1]. None for
            none.
        trust: For a folder, as for `rrfast.train.load_trained`. A specification comes from the
            caller, so its code is always trusted.

    Raises:
        ImportError: The package of the model is not installed.
        OSError, TypeError, ValueError: As for `rrfast.train.load_trained` and `load_model`; or
            `classes` or `normalize` is given with a folder, whose recipe determines both.

    Example:
        >>> given = given_model("rrfast.models:digits_cnn")
        >>> given.model.training, given.recipe
        (False, None)
    """
    if Path(source).is_dir():
        for name, value in (("classes", classes), ("normalize", normalize)):
            if value is not None:
                raise ValueError(
                    f"{name} must not be given for the folder of a training, whose recipe says it, "
                    f"got {value!r} for {source}"
                )
        from rrfast.train.recipe import (
            load_trained,  # an extra that a specification does not need
        )

        kind = "last" if weights is None else str(weights)
        return GivenModel(*load_trained(source, kind, trust=trust))
    check_source(source)
    model = load_model(str(source), classes=classes, weights=weights)
    if normalize is not None:
        model = nn.Sequential(Normalize.of(normalize), model)
    return GivenModel(model.eval(), None)


def channels_of(model: nn.Module) -> int | None:
    """Number of channels that the model takes, if it can be determined; None otherwise."""
    for module in model.modules():
        if isinstance(module, Normalize):
            return len(module.mean)
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return None
