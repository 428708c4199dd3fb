"""Recipes: a whole training in one file."""

from __future__ import annotations

import difflib
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import torch
from rich.console import Console
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from torch import nn

from rrfast.data import Split
from rrfast.models import FirstClasses, Normalize, load_model
from rrfast.objectives import OBJECTIVES, Objective
from rrfast.train import checkpoint
from rrfast.train.batches import Data
from rrfast.train.fit import Fitted, fit
from rrfast.train.settings import Training
from rrfast.train.tasks import NOISE, OUTLIERS, TASKS, Task

T = TypeVar("T")
Options = dict[str, Any]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which model; the part `model:` of a recipe.

    Attributes:
        name: As `rrfast.models.load_model` takes it.
        weights: A state_dict to begin with; None: random weights, by the seed of the training.
        normalize: What comes in front, so that inputs stay in [0, 1]: a name that
            `rrfast.models.Normalize.of` knows; None for nothing.
        classes: Of the data; None: as many as it has, which `train` writes down.
    """

    name: str
    classes: int | None = None
    weights: str | None = None
    normalize: str | None = None


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole training: what a recipe's file holds.

    Attributes:
        model: Which model.
        data: `name` of `TASKS`, and the arguments of its function.
        objective: `name` of `rrfast.objectives.OBJECTIVES`, and its arguments; further
            `label_smoothing` and `class_weights` of the cross-entropy where it has a `criterion`,
            for openmix `outliers`: a `name` of `OUTLIERS` and the arguments of its function, and
            for ceda and acet `noise`: a `name` of `NOISE`.
        training: All the rest.
    """

    model: Model
    data: Options
    objective: Options
    training: Training


class Trained(NamedTuple):
    """A model from the folder of a training."""

    model: nn.Module  #: in eval mode, on the CPU, as it is used: K logits
    recipe: Recipe


# ------------------------------------------------------------------------------------- the files


def recipes() -> list[str]:
    """Names of the recipes that come with rrfast."""
    return sorted(
        path.name.removesuffix(".yaml")
        for path in files("rrfast.train").joinpath("recipes").iterdir()
        if path.name.endswith(".yaml")
    )


def load_recipe(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from a file.

    Args:
        source: Path of a YAML file, or the name of a recipe that comes with rrfast, see `recipes`.
        changes: As "training.epochs=3" or "objective.eps=1e-2"; the value is YAML.

    Raises:
        FileNotFoundError: There is no such file, and no such recipe.
        ValueError: It is not YAML, or holds an entry that no recipe has, or a value of another
            type; the sentence says where.

    Example:
        >>> load_recipe("digits_rat", ["training.epochs=3"]).training.epochs
        3
    """
    named = files("rrfast.train").joinpath("recipes", f"{source}.yaml")
    if not Path(source).is_file() and not (Path(source).name == str(source) and named.is_file()):
        raise FileNotFoundError(
            f"recipe must be a file, or one of {', '.join(recipes())}, got {str(source)!r}"
        )
    try:
        text = (Path(source) if Path(source).is_file() else named).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"recipe {source} is no text in UTF-8: {error}") from error
    tree = _yaml(text, str(source))
    for change in changes:
        _change(tree, change)
    try:
        recipe = msgspec.convert(tree, Recipe)
        msgspec.to_builtins(recipe)
        return recipe
    except msgspec.ValidationError as error:
        raise ValueError(f"recipe {source}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"recipe {source} has an alias that holds itself") from error


def _yaml(text: str, source: str) -> Any:
    try:
        # Version 1.2, in which 1e-3 is a number and `no` a word.
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError as error:
        raise ValueError(f"recipe {source[:80]} is nested too deeply to be one") from error
    except YAMLError as error:
        raise ValueError(f"recipe {source} is no YAML: {error}") from error


def _change(tree: Any, change: str) -> None:
    keys, equals, value = change.partition("=")
    *path, last = keys.split(".")
    for key in path:
        tree = tree.setdefault(key, {}) if isinstance(tree, dict) else None
    if not equals or not isinstance(tree, dict):
        raise ValueError(f"a change must be like training.epochs=3, got {change!r}")
    tree[last] = _yaml(value, change)


def parse_options(words: Sequence[str]) -> Options:
    """A name and options, as the command line gives data.

    Args:
        words: The name, then "key=value"; the value is YAML.

    Raises:
        ValueError: One of them is no "key=value".

    Example:
        >>> parse_options(["digits", "noise=0.2"])
        {'name': 'digits', 'noise': 0.2}
    """
    options: Options = {"name": words[0]}
    for word in words[1:]:
        _change(options, word)
    return options


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, with every default written out."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(msgspec.to_builtins(recipe), text)
    return text.getvalue()


# --------------------------------------------------------------------------------- what they name


def make_task(recipe: Recipe) -> Task:
    """The data. Its seed is that of the training, unless the recipe gives it one."""
    return named_task(recipe.data, recipe.training.seed)


def named_task(data: Options, seed: int) -> Task:
    """The data that `name` and options in `data` say; the seed where they give none."""
    return _by_name("data", TASKS, data, seed=seed)


def make_objective(recipe: Recipe, train: Data | None = None) -> Objective:
    """The objective, told how many epochs there are, and its noise the images to train on."""
    options = dict(recipe.objective)
    objective = OBJECTIVES.get(options.get("name", ""))
    criterion: Options = {}
    if objective is not None and "criterion" in inspect.signature(objective).parameters:
        criterion = {
            name: options.pop(key)
            for key, name in (("label_smoothing", "label_smoothing"), ("class_weights", "weight"))
            if key in options
        }
    if criterion:
        if "weight" in criterion:
            try:
                criterion["weight"] = torch.tensor(criterion["weight"], dtype=torch.float32)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    "objective.class_weights must be a number for each logit, got "
                    f"{criterion['weight']!r}"
                ) from error
        options["criterion"] = nn.CrossEntropyLoss(**criterion)
    if isinstance(options.get("outliers"), Mapping):
        options["outliers"] = _by_name(
            "objective.outliers", OUTLIERS, options["outliers"], seed=recipe.training.seed
        )
    if isinstance(options.get("noise"), Mapping):
        if not isinstance(train, Split):
            raise ValueError(
                "objective.noise is made of the images to train on, all in memory: data must be "
                f"none of files, as {recipe.data.get('name')!r} is"
            )
        options["noise"] = _by_name("objective.noise", NOISE, options["noise"], images=train.x)
    return _by_name("objective", OBJECTIVES, options, epochs=recipe.training.epochs)


def make_model(recipe: Recipe) -> nn.Module:
    """The model with its normalisation in front, and a logit for each class of the objective."""
    classes = recipe.model.classes
    model = load_model(
        recipe.model.name,
        classes=None if classes is None else classes + _extra_classes(recipe),
        weights=recipe.model.weights,
        seed=recipe.training.seed,
    )
    if recipe.model.normalize is None:
        return model
    return nn.Sequential(Normalize.of(recipe.model.normalize), model)


def _extra_classes(recipe: Recipe) -> int:
    objective: Any = OBJECTIVES[recipe.objective["name"]]
    extra: int = getattr(objective, "func", objective).extra_classes
    return extra


def _by_name(
    what: str, functions: Mapping[str, Callable[..., T]], options: Options, **plain: object
) -> T:
    """Call the function that `options` name with the rest of them; `plain` where it takes that."""
    options = dict(options)
    name = options.pop("name", None)
    if name not in functions:
        close = difflib.get_close_matches(str(name), functions, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{what}.name must be one of {', '.join(functions)}, got {name!r}{meant}")
    function = functions[name]
    known = dict(inspect.signature(function).parameters)
    for option in getattr(function, "keywords", {}):
        del known[option]  # what the name says already: at is a RAT of mode "at"
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"{what}: {name} has the options {', '.join(known)}, and not {', '.join(unknown)}"
        )
    missing = [
        option
        for option, parameter in known.items()
        if parameter.default is parameter.empty and option not in options and option not in plain
    ]
    if missing:
        raise ValueError(f"{what}: {name} needs {', '.join(missing)}")
    return function(**{k: v for k, v in plain.items() if k in known} | options)


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
        console: For the progress bar; default standard output.

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
    out = Path(out)
    written = out / "recipe.yaml"
    task = make_task(recipe)
    objective = make_objective(recipe, task.train)
    named = msgspec.structs.replace(recipe.model, classes=recipe.model.classes or task.classes)
    recipe = msgspec.structs.replace(recipe, model=named)
    if resume and written.is_file() and (out / "checkpoint.pt").is_file():
        _check_same(recipe, load_recipe(written), written)
    model = make_model(recipe)
    return fit(
        model,
        task.train,
        training=recipe.training,
        objective=objective,
        validation=task.validation,
        out=out,
        resume=resume,
        beside={written.name: dump_recipe(recipe)},
        console=console,
    )


def _check_same(here: Recipe, there: Recipe, path: Path) -> None:
    """Of the settings, `fit` says which differ."""
    for part in ("model", "data", "objective"):
        if getattr(here, part) != getattr(there, part):
            raise ValueError(
                f"{path} is of another training: {part} is {getattr(there, part)} there and "
                f"{getattr(here, part)} here. Resume it with its own recipe, or give another folder"
            )


def load_trained(folder: Path | str, weights: str = "last") -> Trained:
    """The model of a training, as it is used.

    Args:
        folder: Where `train` left it.
        weights: "last", or "best": those with the lowest AURC on the validation split.

    Raises:
        FileNotFoundError: It has no recipe.yaml, or not these weights: the training is not over.
        ValueError: `weights` is neither, or the file is truncated or of another model.
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
    recipe = load_recipe(folder / "recipe.yaml")
    state = checkpoint.load(path)
    # All weights are in the file: those it began with may be elsewhere by now.
    model = make_model(
        msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, weights=None))
    )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n")[:2]).replace("\t", "")
        raise ValueError(
            f"{path} is not of the model in {folder / 'recipe.yaml'}: {first}"
        ) from error
    if _extra_classes(recipe) and recipe.model.classes:
        model = FirstClasses(model, recipe.model.classes)
    return Trained(model.eval(), recipe)
