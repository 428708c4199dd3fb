"""What is evaluated: trained models, each with its data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from rrfast.evaluate.given_model import GivenModel, given_model
from rrfast.train.recipe import Recipe, load_recipe, named_task
from rrfast.train.tasks import Task
from rrfast.train.variants import VARIANTS


class Subject(NamedTuple):
    """A trained model with its data, loaded when its turn comes."""

    training: str  #: how it was trained, as it is printed: what seeds are averaged over
    seed: int
    load: Callable[[], tuple[nn.Module, Task]]
    data: str = ""  #: what it is tested on, as it is printed
    outliers: int = 0  #: images beside the task's that its training has seen


def subjects(
    sources: Sequence[str | Path],
    *,
    data: dict[str, Any] | None = None,
    weights: str | Path | None = None,
    classes: int | None = None,
    normalize: str | None = None,
) -> list[Subject]:
    """What the command line names.

    Args:
        sources: As `given_model`: folders of trainings, and specifications of models; or a folder
            of such folders, for all of them in the order of their names.
        data: `name` of `rrfast.train.TASKS` and its options; None: that of each training.
        weights: As `given_model`.
        classes: As `given_model`.
        normalize: As `given_model`.

    Returns:
        One for each source. A training is called by its objective, and where that would give two of
        them one name and one seed, by its folder, less the seed at its end.

    Raises:
        OSError, ValueError: As `rrfast.train.load_recipe`; a specification without `data`, or two
            that cannot be told apart.
    """
    found = []
    sources = [each for source in sources for each in _trainings(source)]
    for source in sources:
        given = partial(given_model, source, weights=weights, classes=classes, normalize=normalize)
        if Path(source).is_dir():
            recipe = load_recipe(Path(source) / "recipe.yaml")
            chosen, seed = data or recipe.data, recipe.training.seed
            found.append(
                Subject(
                    _objective(recipe),
                    seed,
                    partial(_load, given, chosen, seed),
                    _told(chosen),
                    _outliers(recipe),
                )
            )
        elif data is None:
            raise ValueError(
                f"data must be named for a model that is no training's folder: {str(source)!r}"
            )
        else:
            found.append(Subject(str(source), 0, partial(_load, given, data, 0), _told(data)))
    twice = Counter((subject.training, subject.seed) for subject in found)
    named = [
        subject._replace(training=re.sub(r"_\d+$", "", Path(source).name))
        if twice[subject.training, subject.seed] > 1
        else subject
        for source, subject in zip(sources, found, strict=True)
    ]
    again = [key for key, n in Counter((s.training, s.seed) for s in named).items() if n > 1]
    if again:
        raise ValueError(
            f"models must differ in training or seed, and {again[0][0]!r} with seed {again[0][1]} "
            "is given more than once"
        )
    return named


def _trainings(source: str | Path) -> list[str | Path]:
    """The trainings in a folder that is none itself; anything else as it is."""
    if not Path(source).is_dir() or (Path(source) / "recipe.yaml").is_file():
        return [source]
    inside = sorted(path.parent for path in Path(source).glob("*/recipe.yaml"))
    if not inside:
        raise ValueError(
            f"models must name trainings, and the folder {source} has no recipe.yaml, nor a folder "
            "with one"
        )
    return [*inside]


def _load(
    given: Callable[[], GivenModel], data: dict[str, Any], seed: int
) -> tuple[nn.Module, Task]:
    return given().model, named_task(data, seed)


def _told(data: dict[str, Any]) -> str:
    options = [f"{key}={value}" for key, value in data.items() if key != "name"]
    return " ".join([str(data.get("name")), *options])


def _objective(recipe: Recipe) -> str:
    name = recipe.objective.get("name", "")
    mixed = f"{name}_mixup" if recipe.objective.get("mixup") else name
    return VARIANTS.get(mixed, mixed)


def _outliers(recipe: Recipe) -> int:
    outliers = recipe.objective.get("outliers")
    if not isinstance(outliers, dict):
        return 0
    # The release of random_images; opening it here would need the file.
    return 300_000 if outliers["name"] == "random_images" else int(outliers.get("n", 10_000))
