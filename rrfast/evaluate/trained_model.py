"""The models to evaluate, each with its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from rrfast._checks import check_once, is_integer
from rrfast._named_function import named_function
from rrfast.data.own_data import runs_foreign_data
from rrfast.data.tasks import TASKS, Task
from rrfast.inference.given_model import GivenModel, check_source, given_model
from rrfast.objectives.variant_names import ENDINGS, PRINTED, VARIANTS

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe

#: Options of data that divide one set of images into the parts for training, validation and test.
_DIVIDING = ("seed", "train", "validation")


class TrainedModel(NamedTuple):
    """A trained model with its data, loaded on demand."""

    training: str  #: printed name of its training; seeds of the same name are averaged
    seed: int
    load: Callable[[], tuple[nn.Module, Task]]
    data: str = ""  #: printed name of the data it is tested on
    #: Images besides the task's that its training has seen; None if its recipe does not say.
    outliers: int | None = 0
    #: The weights that `load` gives: "last" or "best" of a training; else "given".
    checkpoint: str = "last"
    #: A `load` for each of the weights in its folder, "last" and "best".
    checkpoints: Mapping[str, Callable[[], tuple[nn.Module, Task]]] = {}
    best: str = ""  #: the criterion of "best" on the validation split, see `Training.best`

    def at(self, checkpoint: str) -> TrainedModel:
        """The same training with its "last" or its "best" weights.

        Raises:
            ValueError: It did not save them.
        """
        if checkpoint not in self.checkpoints:
            there = " and ".join(self.checkpoints) or "none: it is not the folder of a training"
            raise ValueError(
                f"checkpoints must be there for every model: {self.training}, seed {self.seed}, "
                f"has {there}, got {checkpoint!r}"
            )
        return self._replace(load=self.checkpoints[checkpoint], checkpoint=checkpoint)


def at_checkpoints(
    trained_models: Sequence[TrainedModel], checkpoints: Sequence[str]
) -> Sequence[TrainedModel]:
    """Every model with each of these weights; () for the weights that they already have.

    Raises:
        ValueError: A name is repeated; and as for `TrainedModel.at`.
    """
    check_once("checkpoints", checkpoints)
    found = [trained.at(name) for name in checkpoints for trained in trained_models]
    return found if checkpoints else trained_models


def trained_models(
    sources: Sequence[str | Path],
    *,
    data: dict[str, Any] | None = None,
    weights: str | Path | None = None,
    classes: int | None = None,
    normalize: str | None = None,
    trust: bool = False,
) -> list[TrainedModel]:
    """The models that the command line names.

    Args:
        sources: As for `given_model`: folders of trainings, and specifications of models; or a
            folder of such folders, for all of them, in the order of `rrfast.train.VARIANTS` and of
            their names.
        data: `name` in `rrfast.train.TASKS` and its options; None: the data of each training. If a
            training has data of the same name, options that are not given are taken from it,
            including the seed.
        weights: As for `given_model`.
        classes: As for `given_model`.
        normalize: As for `given_model`.
        trust: As for `given_model`.

    Returns:
        One for each source. A training is named by its objective. If two would have the same name
        and seed, all trainings of that name are named by their folders, without the seed at the
        end; if that is still not unique, with the parent folder too.

    Raises:
        OSError, ValueError: As for `rrfast.train.load_recipe`; a source that is neither a folder
            nor a specification; a specification without `data`; a folder whose model is foreign
            code, without `trust`; two sources with the same name and seed; or `data` of the same
            name as the training's that divides the images differently, so that the training may
            have seen its test images.
    """
    sources = [each for source in sources for each in _trainings(source)]
    named = partial(given_model, weights=weights, classes=classes, normalize=normalize, trust=trust)
    found = [_found(source, partial(named, source), data, weights, trust) for source in sources]
    for parts in (1, 2):
        # All seeds of a name together; otherwise one training would become two.
        unclear = {training for training, _ in _twice(found)}
        for i, (source, trained) in enumerate(zip(sources, found, strict=True)):
            if trained.training in unclear and Path(source).is_dir():
                # The end of the path, without the seed at its end.
                name = "/".join(Path(source).resolve().parts[-parts:])
                found[i] = trained._replace(training=name.removesuffix(f"_{trained.seed}"))
    again = _twice(found)
    if again:
        raise ValueError(
            f"models must differ in training or seed, and {again[0][0]!r} with seed {again[0][1]} "
            "is given more than once"
        )
    return found


def _found(
    source: str | Path,
    given: Callable[[], GivenModel],
    data: dict[str, Any] | None,
    weights: str | Path | None,
    trust: bool,
) -> TrainedModel:
    """One source, whose name may be that of others."""
    # Imported in functions: reading recipes is an extra that `rrfast report` does not need.
    from rrfast.train.recipe import check_own_data, check_own_model
    from rrfast.train.recipe_file import load_recipe

    check_source(source)
    folder = Path(source)
    if not folder.is_dir():
        if data is None:
            raise ValueError(
                "data must be given for a model that is not the folder of a training: "
                f"{str(source)!r}"
            )
        load = partial(_load, given, data, 0)
        return TrainedModel(str(source), 0, load, _told(data), checkpoint="given")
    written = folder / "recipe.yaml"
    recipe = load_recipe(written)
    if not trust:
        check_own_model(recipe, written)  # before hours of work on other models
        if not data:
            check_own_data(recipe, written)
    chosen, seed = _chosen(source, recipe, data), recipe.training.seed
    its_own = {
        name: partial(given_model, folder, weights=name, trust=trust)
        for name in ("last", "best")
        if (folder / f"{name}.pt").is_file()
    }
    return TrainedModel(
        _objective(recipe),
        seed,
        partial(_load, given, chosen, seed),
        _told(chosen),
        _outliers(recipe),
        "last" if weights is None else str(weights),
        {name: partial(_load, own, chosen, seed) for name, own in its_own.items()},
        recipe.training.best,
    )


def _twice(found: Sequence[TrainedModel]) -> list[tuple[str, int]]:
    """Pairs of name and seed that occur more than once."""
    return [key for key, n in Counter((s.training, s.seed) for s in found).items() if n > 1]


def _chosen(source: str | Path, recipe: Recipe, data: dict[str, Any] | None) -> dict[str, Any]:
    """The data of a training, or the data given instead."""
    name = recipe.data.get("name")
    if not data or not _same_name(data.get("name"), name):
        return data or recipe.data
    both = recipe.data | data
    there, here = (_divided(options, recipe.training.seed) for options in (recipe.data, both))
    for key in there | (here if runs_foreign_data(name) else {}):
        if here.get(key) != there.get(key):
            raise ValueError(
                f"data must leave {key}={there.get(key)} as it was in the training {source}, got "
                f"{here.get(key)!r}: otherwise, images of its training or validation could be "
                "among its test images"
            )
    return both


def _same_name(one: object, other: object) -> bool:
    """Whether two names mean the same data; a file can be named in several ways."""
    if not runs_foreign_data(one) or not runs_foreign_data(other):
        return one == other and one in TASKS
    (here, name), (there, its) = (text.rsplit(":", 1) for text in (one, other))
    return name == its and (here == there or Path(here).resolve() == Path(there).resolve())


def _divided(data: dict[str, Any], seed: int) -> dict[str, Any]:
    """The options that divide one set of images; named folders for each part do not divide.

    For a function of the user's, any option may.
    """
    from rrfast.train.recipe import options_of

    if runs_foreign_data(data["name"]):
        known = options_of(named_function("data", data["name"]))
        return known | {"seed": seed} | {k: v for k, v in data.items() if k != "name"}
    known = options_of(TASKS[data["name"]])
    options = known | {"seed": seed} | data
    # Otherwise each part is drawn separately, whatever the sizes of the others.
    held_out = isinstance(options.get("test"), str) and is_integer(options.get("validation"))
    if "test" in known and not held_out:
        return {"seed": options["seed"]} if "seed" in known else {}
    return {key: options[key] for key in _DIVIDING if isinstance(options.get(key), int)}


def _trainings(source: str | Path) -> list[str | Path]:
    """The trainings in a folder that is not a training itself; anything else unchanged."""
    if not Path(source).is_dir() or (Path(source) / "recipe.yaml").is_file():
        return [source]
    from rrfast.train.recipe_file import load_recipe

    labels = list(VARIANTS.values())

    def place(folder: Path) -> tuple[int, str]:
        label = _objective(load_recipe(folder / "recipe.yaml"))
        return labels.index(label) if label in labels else len(labels), folder.name

    inside = sorted((path.parent for path in Path(source).glob("*/recipe.yaml")), key=place)
    if not inside:
        raise ValueError(
            f"models must name trainings, and the folder {source} contains neither recipe.yaml nor "
            "a folder with one"
        )
    return [*inside]


def _load(
    given: Callable[[], GivenModel], data: dict[str, Any], seed: int
) -> tuple[nn.Module, Task]:
    from rrfast.train.recipe import named_task

    return given().model, named_task(data, seed)


def _told(data: dict[str, Any]) -> str:
    options = [f"{key}={value}" for key, value in data.items() if key != "name"]
    return " ".join([str(data.get("name")), *options])


def _objective(recipe: Recipe) -> str:
    # For RAT, the mode is in the objective's name or in an option.
    objective = recipe.objective
    name = str(objective.get("mode") or objective.get("name", ""))
    name += "".join(end for end, option in ENDINGS.items() if objective.get(option))
    return VARIANTS.get(name, name) + PRINTED * bool(objective.get("printed"))


def _outliers(recipe: Recipe) -> int | None:
    outliers = recipe.objective.get("outliers")
    if not isinstance(outliers, dict):
        return 0
    if outliers.get("name") == "image_folder":
        return outliers.get("n")  # the training wrote it down
    # The published file of random_images: opening it here would need the file.
    return 300_000 if outliers.get("name") == "random_images" else int(outliers.get("n", 10_000))
