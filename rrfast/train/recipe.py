"""Recipes: data, model, objective and training by name, and the trained model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import torch
from rich.console import Console
from torch import nn

from rrfast import _checksummed
from rrfast._checks import check_number, check_one_of, meant
from rrfast._errors import first_line
from rrfast._named_function import named_function, parameters_of, takes_any
from rrfast._seeds import globally_seeded
from rrfast.data import Split
from rrfast.data.loader import Data
from rrfast.data.own_data import check_data_name, check_task, runs_foreign_data
from rrfast.data.tasks import NOISE, OUTLIERS, TASKS, Task
from rrfast.models import FirstClasses, Normalize, load_model
from rrfast.models.load import runs_foreign_code
from rrfast.objectives import OBJECTIVES, Objective
from rrfast.train.loop import Fitted, fit
from rrfast.train.recipe_file import Options, Recipe, dump_recipe, load_recipe

T = TypeVar("T")
_TRUST = "If you know it, or the training is your own, say so with --trust (in Python trust=True)"
#: Options of the cross-entropy, for every objective with a `criterion`, and their defaults.
CRITERION: Options = {"label_smoothing": 0.0, "class_weights": None}
#: The file in the folder of a training with its recipe, with every default.
RECIPE = "recipe.yaml"


class Trained(NamedTuple):
    """A model from the folder of a training."""

    model: nn.Module  #: in eval mode, on the CPU, with K logits
    recipe: Recipe


def make_task(recipe: Recipe) -> Task:
    """The data. Their seed is that of the training, unless the recipe gives one."""
    return named_task(recipe.data, recipe.training.seed)


def named_task(data: Options, seed: int) -> Task:
    """The data by `name` and options in `data`; `seed` is used unless they give one.

    The seed decides what a user's function draws from torch's, NumPy's and Python's global
    generators, whose state is restored.
    """
    name = data.get("name")
    if not runs_foreign_data(name):
        check_data_name(name)
        return _by_name("data", TASKS, data, seed=seed)
    with globally_seeded(seed):
        found = _by_name("data", {name: named_function("data", name)}, data, seed=seed)
    return check_task(name, found)


def make_objective(recipe: Recipe, train: Data | None = None) -> Objective:
    """The objective; it gets the number of epochs, and its noise the training images."""
    options = dict(recipe.objective)
    if isinstance(options.get("outliers"), Mapping):
        options["outliers"] = _by_name(
            "objective.outliers",
            OUTLIERS,
            options["outliers"],
            seed=recipe.training.seed,
            workers=recipe.training.workers,
        )
    if isinstance(options.get("noise"), Mapping):
        if not isinstance(train, Split):
            raise ValueError(
                "objective.noise is made from training images in memory, and data "
                f"{recipe.data.get('name')!r} has none there"
            )
        options["noise"] = _by_name("objective.noise", NOISE, options["noise"], images=train.x)
    return _by_name("objective", OBJECTIVES, options, epochs=recipe.training.epochs)


def _criterion(given: Options) -> nn.CrossEntropyLoss:
    """The cross-entropy, or an error for options that torch would silently ignore or take."""
    smoothing: Any
    smoothing, weights = (given.get(name, plain) for name, plain in CRITERION.items())
    check_number("objective.label_smoothing", smoothing, least=0, most=1)
    if weights is None:
        return nn.CrossEntropyLoss(label_smoothing=smoothing)
    try:
        weight = torch.tensor(weights, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"objective.class_weights must be a number for each logit, got {weights!r}"
        ) from error
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise ValueError(f"objective.class_weights must be finite and at least 0, got {weights!r}")
    return nn.CrossEntropyLoss(weight, label_smoothing=smoothing)


def make_model(recipe: Recipe) -> nn.Module:
    """The model with its normalisation in front, and the logits that the objective needs."""
    classes = recipe.model.classes
    model = load_model(
        recipe.model.name,
        classes=None if classes is None else classes + _extra_classes(recipe),
        weights=recipe.model.weights,
        seed=recipe.training.seed,
        options=recipe.model.options,
    )
    if recipe.model.normalize is None:
        return model
    return nn.Sequential(Normalize.of(recipe.model.normalize), model)


def _extra_classes(recipe: Recipe) -> int:
    check_one_of("objective.name", recipe.objective.get("name"), OBJECTIVES)
    objective: Any = OBJECTIVES[recipe.objective["name"]]
    extra: int = getattr(objective, "func", objective).extra_classes
    return extra


def options_of(function: Callable[..., object]) -> dict[str, object]:
    """The options that a recipe can give to a named function, and their defaults.

    `inspect.Parameter.empty` stands for no default. The options of `CRITERION` replace an
    objective's `criterion`; arguments that a function takes as `**options` are not included.
    """
    # Options that the name implies are left out: at is a RAT with mode "at".
    said = getattr(function, "keywords", {})
    found: dict[str, object] = {}
    for name, parameter in parameters_of(function).items():
        if name == "criterion" and _has_criterion(function):
            found |= CRITERION
        elif name not in said:
            found[name] = parameter.default
    return found


def _has_criterion(function: Callable[..., object]) -> bool:
    known = any(function is objective for objective in OBJECTIVES.values())
    return known and "criterion" in parameters_of(function)


def _by_name(
    what: str, functions: Mapping[str, Callable[..., T]], options: Options, **plain: object
) -> T:
    """Call the function named in `options` with the other options, and `plain` if it takes it."""
    options = dict(options)
    name = options.pop("name", None)
    check_one_of(f"{what}.name", name, functions)
    function = functions[name]
    known = options_of(function)
    unknown = [option for option in options if option not in known]
    if unknown and not takes_any(function):
        raise ValueError(
            f"{what}: {name} has the options {', '.join(known) or 'none'}, and not "
            f"{', '.join(unknown)}{meant(unknown[0], known)}"
        )
    missing = [
        option
        for option, default in known.items()
        if default is inspect.Parameter.empty and option not in options and option not in plain
    ]
    if missing:
        raise ValueError(f"{what}: {name} needs {', '.join(missing)}")
    taken = {name: value for name, value in plain.items() if name in parameters_of(function)}
    if _has_criterion(function):
        given = {option: options.pop(option) for option in CRITERION if option in options}
        taken |= {"criterion": _criterion(given)} if given else {}
    return function(**taken | options)


def train(
    recipe: Recipe, out: Path | str, *, resume: bool = False, console: Console | None = None
) -> Fitted:
    """Train by a recipe.

    Args:
        recipe: From `load_recipe`.
        out: Folder for the results, see `fit`; it also gets recipe.yaml, with every default.
        resume: Continue the training in `out`.
        console: For the progress bar; default standard output. If that is not a terminal, a line
            per epoch.

    Returns:
        Fitted(model, history, best_epoch).

    Raises:
        FileExistsError, NonFiniteLossError, OSError, ValueError: As `fit`, and as the parts of the
            recipe.

    Example:
        >>> import tempfile
        >>> recipe = load_recipe("digits_rat", ["training.epochs=1"])
        >>> with tempfile.TemporaryDirectory() as out:
        ...     fitted = train(recipe, out, console=Console(quiet=True))
        ...     again = load_trained(out)
        >>> again.recipe.training == recipe.training
        True
    """
    task = make_task(recipe)
    recipe, model, objective = prepare(recipe, task, out if resume else None)
    return fit(
        model,
        task.train,
        training=recipe.training,
        objective=objective,
        validation=task.validation,
        out=out,
        resume=resume,
        beside={RECIPE: dump_recipe(recipe)},
        console=console,
    )


def prepare(
    recipe: Recipe, task: Task, resumed: Path | str | None = None
) -> tuple[Recipe, nn.Module, Objective]:
    """Make and check everything that a training of the recipe, with its data, starts with.

    Returns:
        The recipe with its numbers of classes and of outliers, the model, the objective.

    Raises:
        OSError, TypeError, ValueError: As the parts of the recipe; or the folder `resumed` holds a
            training of another recipe.
    """
    objective = make_objective(recipe, task.train)
    classes = task.classes if recipe.model.classes is None else recipe.model.classes
    named = msgspec.structs.replace(recipe.model, classes=classes)
    recipe = msgspec.structs.replace(
        recipe, model=named, objective=_counted(recipe.objective, objective)
    )
    if resumed is not None:
        written = Path(resumed, RECIPE)
        if written.is_file() and Path(resumed, "checkpoint.pt").is_file():
            _check_same(recipe, load_recipe(written), written)
    return recipe, make_model(recipe), objective


def _counted(options: Options, objective: Any) -> Options:
    """An objective's options, with the number of outliers if the recipe leaves it open."""
    outliers = options.get("outliers")
    if not isinstance(outliers, Mapping):
        return options
    if options_of(OUTLIERS[outliers["name"]]).get("n", 0) is not None:
        return options
    return options | {"outliers": {**outliers, "n": len(objective.outliers)}}


def _check_same(here: Recipe, there: Recipe, path: Path) -> None:
    """Raise if another part than the settings differs; `fit` compares the settings."""
    for part in ("model", "data", "objective"):
        if getattr(here, part) != getattr(there, part):
            raise ValueError(
                f"{path} is of another training: {part} is {getattr(there, part)} there and "
                f"{getattr(here, part)} here. Resume it with its own recipe, or give another folder"
            )


def check_own_model(recipe: Recipe, path: Path) -> None:
    """Raise a ValueError if building the model that the file names would run foreign code."""
    if runs_foreign_code(recipe.model.name):
        raise ValueError(
            f"{path} names the model {recipe.model.name!r}, which is neither of rrfast nor of "
            f"pytorchcv, torchvision or timm: to build it is to run that code. {_TRUST}"
        )


def check_own_data(recipe: Recipe, path: Path) -> None:
    """Raise a ValueError if making the data that the file names would run foreign code."""
    name = recipe.data.get("name")
    if runs_foreign_data(name):
        raise ValueError(
            f"{path} names the data {name!r}, which are none of rrfast's: to make them is to run "
            f"that code. {_TRUST}"
        )


def load_trained(folder: Path | str, weights: str = "last", *, trust: bool = False) -> Trained:
    """The model of a training, ready for use.

    A recipe may name a model in a file or a module, and building it runs that code. In a folder
    from somebody else, that person chose the code. So by default only models of rrfast, pytorchcv,
    torchvision and timm are built. Nothing else in the folder runs: the rest of a recipe consists
    of names that rrfast knows and plain values, and weights are read without pickled code.

    Args:
        folder: The folder of the training.
        weights: "last", or "best": those with the lowest AURC on the validation split, or the best
            by `training.validation_attack`.
        trust: Allow any model that the recipe names.

    Raises:
        FileNotFoundError: It has no recipe.yaml, or not these weights: the training is not
            finished.
        ValueError: `weights` is something else, or the file is truncated or of another model; or
            the model is neither rrfast's nor of one of these packages, and `trust` is False.
    """
    folder = Path(folder)
    check_one_of("weights", weights, ("last", "best"))
    path = folder / f"{weights}.pt"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: {folder} holds no training, or it is not over; "
            "rrfast train --resume continues it"
        )
    recipe = load_recipe(folder / RECIPE)
    if not trust:
        check_own_model(recipe, folder / RECIPE)
    state = _checksummed.read_state(path)
    # The file has all weights: those that it started from may have moved.
    model = make_model(
        msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, weights=None))
    )
    try:
        model.load_state_dict(state)
    except Exception as error:  # other entries can raise anything
        first = first_line(error)
        raise ValueError(f"{path} is not of the model in {folder / RECIPE}: {first}") from error
    if _extra_classes(recipe) and recipe.model.classes:
        model = FirstClasses(model, recipe.model.classes)
    return Trained(model.eval(), recipe)
