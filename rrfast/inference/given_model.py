"""The model option of a command: a training's folder, or a specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from rrfast.models import SPECIFICATIONS, Normalize, load_model

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe


def check_source(source: str | Path) -> None:
    """Raise a ValueError for what is neither a folder nor could specify a model."""
    if not Path(source).is_dir() and ":" not in str(source):
        raise ValueError(
            f"{str(source)!r} is neither a folder nor a model: give the folder of a training, or "
            f"one of {SPECIFICATIONS}"
        )


class GivenModel(NamedTuple):
    """A model, and what is known of how it was trained."""

    model: nn.Module  #: in eval mode, on the CPU, K logits of inputs in [0, 1]
    recipe: Recipe | None  #: of its training; None for a specification


def given_model(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    normalize: str | None = None,
    trust: bool = False,
) -> GivenModel:
    """The model of a training's folder, or one by specification.

    Args:
        source: A folder that `rrfast train` made, or what `rrfast.models.load_model` takes.
        weights: Of a specification, a file with a state_dict; of a folder "last" (the default) or
            "best".
        classes: Of a specification, as `load_model` takes it.
        normalize: Of a specification, a name that `rrfast.models.Normalize.of` knows, put in front
            so that inputs stay in [0, 1]; None for nothing.
        trust: Of a folder, as `rrfast.train.load_trained` takes it. A specification is the caller's
            own word, whatever code it names.

    Raises:
        ImportError: A package that the model comes from is not installed.
        OSError, TypeError, ValueError: As `rrfast.train.load_trained` and `load_model`; or
            `classes` or `normalize` is given with a folder, whose recipe says both.

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
            load_trained,  # an extra, which a specification does not need
        )

        kind = "last" if weights is None else str(weights)
        return GivenModel(*load_trained(source, kind, trust=trust))
    check_source(source)
    model = load_model(str(source), classes=classes, weights=weights)
    if normalize is not None:
        model = nn.Sequential(Normalize.of(normalize), model)
    return GivenModel(model.eval(), None)
