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

from rrfast import _torch_file
from rrfast._checks import is_number, meant
from rrfast._errors import first_line
from rrfast._named_function import FORMS, named_function, parameters_of, takes_any
from rrfast._seeds import globally_seeded
from rrfast.data import Split
from rrfast.data.loader import Data
from rrfast.data.own_data import check_task, runs_foreign_data
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
#: In the folder of a training: its recipe, with every default.
RECIPE = "recipe.yaml"


class Trained(NamedTuple):
    """A model from the folder of a training."""

    model: nn.Module  #: in eval mode, on the CPU, as it is used: K logits
    recipe: Recipe


# --------------------------------------------------------------------------------- what they name


def make_task(recipe: Recipe) -> Task:
    """The data. Its seed is that of the training, unless the recipe gives it one."""
    return named_task(recipe.data, recipe.training.seed)


def named_task(data: Options, seed: int) -> Task:
    """The data that `name` and options in `data` say; the seed where they give none.

    A function of yours draws from torch's, NumPy's and Python's global generators what the seed
    decides, and leaves them as they were.
    """
    name = data.get("name")
    if not runs_foreign_data(name):
        return _by_name("data", TASKS, data, seed=seed)
    with globally_seeded(seed):
        found = _by_name("data", {name: named_function("data", name)}, data, seed=seed)
    return check_task(name, found)


def make_objective(recipe: Recipe, train: Data | None = None) -> Objective:
    """The objective, told how many epochs there are, and its noise the images to train on."""
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
                "objective.noise is made of the images to train on, all in memory: data must be "
                f"none of files, as {recipe.data.get('name')!r} is"
            )
        options["noise"] = _by_name("objective.noise", NOISE, options["noise"], images=train.x)
    return _by_name("objective", OBJECTIVES, options, epochs=recipe.training.epochs)


def _criterion(given: Options) -> nn.CrossEntropyLoss:
    """The cross-entropy by its options.

    Raises:
        ValueError: torch would smooth nothing without a word, or weigh a class below 0.
    """
    smoothing, weights = (given.get(name, plain) for name, plain in CRITERION.items())
    if not (is_number(smoothing) and 0 <= smoothing <= 1):
        raise ValueError(
            f"objective.label_smoothing must be a number between 0 and 1, got {smoothing!r}"
        )
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
    """The model with its normalisation in front, and a logit for each class of the objective."""
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
    check_name("objective", OBJECTIVES, recipe.objective.get("name"))
    objective: Any = OBJECTIVES[recipe.objective["name"]]
    extra: int = getattr(objective, "func", objective).extra_classes
    return extra


def check_name(what: str, functions: Mapping[str, object], name: object) -> None:
    """Raise a ValueError unless it names one of them."""
    if not isinstance(name, str) or name not in functions:
        own = f", {FORMS}" if functions is TASKS else ""
        raise ValueError(
            f"{what}.name must be one of {', '.join(functions)}{own}, got {name!r}"
            f"{meant(name, functions)}"
        )


def options_of(function: Callable[..., object]) -> dict[str, object]:
    """The options a recipe can give a function that it names, and their defaults.

    The `criterion` of an objective is given by those of `CRITERION`. What a function takes as
    `**options` is not here.

    Returns:
        By name; `inspect.Parameter.empty` of one without a default.
    """
    # What the name says already is none: at is a RAT of mode "at".
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
    what: str,
    functions: Mapping[str, Callable[..., T]],
    options: Options,
    **plain: object,
) -> T:
    """Call the function that `options` name with the rest of them; `plain` where it takes that."""
    options = dict(options)
    name = options.pop("name", None)
    check_name(what, functions, name)
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


# ------------------------------------------------------------------------------------ the training


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> Fitted:
    """Train as a recipe says.

    Args:
        recipe: From `load_recipe`.
        out: Folder for the results, see `fit`; recipe.yaml is there too, with every default.
        resume: Continue what is there.
        console: For the progress bar; default standard output. Where that is no terminal, a line
            per epoch.

    Returns:
        Fitted(model, history, best_epoch).

    Raises:
        FileExistsError, NonFiniteLossError, OSError, ValueError: As `fit`, and as the parts of the
            recipe raise them.

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
    """What a training of the recipe begins with, all of it checked.

    Args:
        recipe: From `load_recipe`.
        task: Its data.
        resumed: A folder whose training, where there is one, must be of this recipe.

    Returns:
        The recipe with its numbers of classes and of outliers, the model, the objective.

    Raises:
        OSError, TypeError, ValueError: As the parts of the recipe raise them; `resumed` holds a
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
    """An objective's options, with the number of outliers where they are as many as there are."""
    outliers = options.get("outliers")
    if not isinstance(outliers, Mapping):
        return options
    if options_of(OUTLIERS[outliers["name"]]).get("n", 0) is not None:
        return options
    return options | {"outliers": {**outliers, "n": len(objective.outliers)}}


def _check_same(here: Recipe, there: Recipe, path: Path) -> None:
    """Of the settings, `fit` says which differ."""
    for part in ("model", "data", "objective"):
        if getattr(here, part) != getattr(there, part):
            raise ValueError(
                f"{path} is of another training: {part} is {getattr(there, part)} there and "
                f"{getattr(here, part)} here. Resume it with its own recipe, or give another folder"
            )


def check_own_model(recipe: Recipe, path: Path) -> None:
    """Raise a ValueError if to build the model that the file names is to run somebody's code."""
    if runs_foreign_code(recipe.model.name):
        raise ValueError(
            f"{path} names the model {recipe.model.name!r}, which is neither of rrfast nor of "
            f"pytorchcv, torchvision or timm: to build it is to run that code. {_TRUST}"
        )


def check_own_data(recipe: Recipe, path: Path) -> None:
    """Raise a ValueError if to make the data that the file names is to run somebody's code."""
    name = recipe.data.get("name")
    if runs_foreign_data(name):
        raise ValueError(
            f"{path} names the data {name!r}, which are none of rrfast's: to make them is to run "
            f"that code. {_TRUST}"
        )


def load_trained(folder: Path | str, weights: str = "last", *, trust: bool = False) -> Trained:
    """The model of a training, as it is used.

    A recipe may name a model in a file or a module, and to build it is to run what is there. In a
    folder that somebody else made it is theirs to say which. So only models of rrfast, pytorchcv,
    torchvision and timm are built unasked. Nothing else in the folder runs: the rest of a recipe
    are names that rrfast knows and plain values, and weights are read without pickled code.

    Args:
        folder: Where `train` left it.
        weights: "last", or "best": those with the lowest AURC on the validation split, or what its
            `training.validation_attack` makes the best.
        trust: Whatever model the recipe names may be built.

    Raises:
        FileNotFoundError: It has no recipe.yaml, or not these weights: the training is not over.
        ValueError: `weights` is neither, or the file is truncated or of another model; or the model
            is neither rrfast's nor a zoo's, and `trust` is False.
    """
    folder = Path(folder)
    if weights not in ("last", "best"):
        raise ValueError(f"weights must be 'last' or 'best', got {weights!r}")
    path = folder / f"{weights}.pt"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: {folder} holds no training, or it is not over; "
            "rrfast train --resume continues it"
        )
    recipe = load_recipe(folder / RECIPE)
    if not trust:
        check_own_model(recipe, folder / RECIPE)
    state = _torch_file.load(path)
    # All weights are in the file: those it began with may be elsewhere by now.
    model = make_model(
        msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, weights=None))
    )
    try:
        model.load_state_dict(state)
    except Exception as error:  # of entries that are no weights it can be anything
        first = first_line(error)
        raise ValueError(f"{path} is not of the model in {folder / RECIPE}: {first}") from error
    if _extra_classes(recipe) and recipe.model.classes:
        model = FirstClasses(model, recipe.model.classes)
    return Trained(model.eval(), recipe)
