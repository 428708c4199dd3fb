"""What is evaluated: trained models, each with its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from rrfast._checks import is_integer
from rrfast._named_function import named_function
from rrfast.data.own_data import runs_foreign_data
from rrfast.data.tasks import TASKS, Task
from rrfast.inference.given_model import GivenModel, check_source, given_model
from rrfast.objectives.variant_names import ENDINGS, PRINTED, VARIANTS

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe

#: Options of data that say which of one lot of images are trained on, chosen on and tested on.
_DIVIDING = ("seed", "train", "validation")


class TrainedModel(NamedTuple):
    """A trained model with its data, loaded when its turn comes."""

    training: str  #: how it was trained, as it is printed: what seeds are averaged over
    seed: int
    load: Callable[[], tuple[nn.Module, Task]]
    data: str = ""  #: what it is tested on, as it is printed
    #: Images beside the task's that its training has seen; None where its recipe does not say.
    outliers: int | None = 0
    #: Of a training's weights, those that `load` gives, "last" or "best"; else "given".
    checkpoint: str = "last"
    #: What `load` would be for each of the weights that its folder has, "last" and "best".
    checkpoints: Mapping[str, Callable[[], tuple[nn.Module, Task]]] = {}
    best: str = ""  #: what the "best" ones have on the validation split, see `Training.best`

    def at(self, checkpoint: str) -> TrainedModel:
        """The same training, by its "last" weights or by its "best" ones.

        Raises:
            ValueError: It has not left them.
        """
        if checkpoint not in self.checkpoints:
            there = " and ".join(self.checkpoints) or "none: it is no training's folder"
            raise ValueError(
                f"checkpoints must be there for every model: {self.training}, seed {self.seed}, "
                f"has {there}, got {checkpoint!r}"
            )
        return self._replace(load=self.checkpoints[checkpoint], checkpoint=checkpoint)


def trained_models(
    sources: Sequence[str | Path],
    *,
    data: dict[str, Any] | None = None,
    weights: str | Path | None = None,
    classes: int | None = None,
    normalize: str | None = None,
    trust: bool = False,
) -> list[TrainedModel]:
    """What the command line names.

    Args:
        sources: As `given_model`: folders of trainings, and specifications of models; or a folder
            of such folders, for all of them, in the order of `rrfast.train.VARIANTS` and of their
            names.
        data: `name` of `rrfast.train.TASKS` and its options; None: that of each training. Where a
            training has data of the same name, what is not given is as it was there, its seed too.
        weights: As `given_model`.
        classes: As `given_model`.
        normalize: As `given_model`.
        trust: As `given_model`.

    Returns:
        One for each source. A training is called by its objective; where that would give two of
        them one name and one seed, all of that name by their folders, less the seed at the end; and
        where that still would, with the folder around it.

    Raises:
        OSError, ValueError: As `rrfast.train.load_recipe`; neither a folder nor a specification, or
            one without `data`; a folder whose model is of foreign code, without `trust`; two that
            cannot be told apart; or `data` of a training's own name that divides the images
            otherwise than it did, so that it may have seen those it is tested on.
    """
    found = []
    # Here, and in other functions: what reads recipes is an extra, which `rrfast report` needs not.
    from rrfast.train.recipe import check_own_data, check_own_model
    from rrfast.train.recipe_file import load_recipe

    sources = [each for source in sources for each in _trainings(source)]
    for source in sources:
        check_source(source)
        named = partial(given_model, weights=weights, classes=classes, normalize=normalize)
        given = partial(named, source, trust=trust)
        if Path(source).is_dir():
            written = Path(source) / "recipe.yaml"
            recipe = load_recipe(written)
            if not trust:
                check_own_model(recipe, written)  # before hours with other models
                if not data:
                    check_own_data(recipe, written)
            chosen, seed = _chosen(source, recipe, data), recipe.training.seed
            found.append(
                TrainedModel(
                    _objective(recipe),
                    seed,
                    partial(_load, given, chosen, seed),
                    _told(chosen),
                    _outliers(recipe),
                    "last" if weights is None else str(weights),
                    _checkpoints(Path(source), chosen, seed, trust),
                    recipe.training.best,
                )
            )
        elif data is None:
            raise ValueError(
                f"data must be named for a model that is no training's folder: {str(source)!r}"
            )
        else:
            load = partial(_load, given, data, 0)
            found.append(TrainedModel(str(source), 0, load, _told(data), checkpoint="given"))
    for parts in (1, 2):
        # All seeds of a name together, or one training would be two.
        unclear = {training for training, _ in _twice(found)}
        found = [
            trained._replace(training=_called(Path(source), trained.seed, parts))
            if trained.training in unclear and Path(source).is_dir()
            else trained
            for source, trained in zip(sources, found, strict=True)
        ]
    again = _twice(found)
    if again:
        raise ValueError(
            f"models must differ in training or seed, and {again[0][0]!r} with seed {again[0][1]} "
            "is given more than once"
        )
    return found


def _twice(found: Sequence[TrainedModel]) -> list[tuple[str, int]]:
    """Names and seeds that more than one has."""
    return [key for key, n in Counter((s.training, s.seed) for s in found).items() if n > 1]


def _called(folder: Path, seed: int, parts: int) -> str:
    """The end of a folder's path, less the seed at its end."""
    return "/".join(folder.resolve().parts[-parts:]).removesuffix(f"_{seed}")


def _chosen(source: str | Path, recipe: Recipe, data: dict[str, Any] | None) -> dict[str, Any]:
    """The data of a training, or other data."""
    name = recipe.data.get("name")
    if not data or not _same_name(data.get("name"), name):
        return data or recipe.data
    both = recipe.data | data
    there, here = (_divided(options, recipe.training.seed) for options in (recipe.data, both))
    for key in there | (here if runs_foreign_data(name) else {}):
        if here.get(key) != there.get(key):
            raise ValueError(
                f"data must leave {key}={there.get(key)} as it was in the training {source}, got "
                f"{here.get(key)!r}: images that it was trained or chosen on could be among those "
                "it is tested on"
            )
    return both


def _same_name(one: object, other: object) -> bool:
    """Whether two names of data are of the same; a file may be named in more ways than one."""
    if not runs_foreign_data(one) or not runs_foreign_data(other):
        return one == other and one in TASKS
    (here, name), (there, its) = (text.rsplit(":", 1) for text in (one, other))
    return name == its and (here == there or Path(here).resolve() == Path(there).resolve())


def _divided(data: dict[str, Any], seed: int) -> dict[str, Any]:
    """What divides one lot of images; folders for each part, which have names, do not.

    Of a function of yours any option may.
    """
    from rrfast.train.recipe import options_of

    if runs_foreign_data(data["name"]):
        known = options_of(named_function("data", data["name"]))
        return known | {"seed": seed} | {k: v for k, v in data.items() if k != "name"}
    known = options_of(TASKS[data["name"]])
    options = known | {"seed": seed} | data
    # Else each part is drawn by itself, whatever the sizes of the others.
    held_out = isinstance(options.get("test"), str) and is_integer(options.get("validation"))
    if "test" in known and not held_out:
        return {"seed": options["seed"]} if "seed" in known else {}
    return {key: options[key] for key in _DIVIDING if isinstance(options.get(key), int)}


def _trainings(source: str | Path) -> list[str | Path]:
    """The trainings in a folder that is none itself; anything else as it is."""
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
            f"models must name trainings, and the folder {source} has no recipe.yaml, nor a folder "
            "with one"
        )
    return [*inside]


def _load(
    given: Callable[[], GivenModel], data: dict[str, Any], seed: int
) -> tuple[nn.Module, Task]:
    from rrfast.train.recipe import named_task

    return given().model, named_task(data, seed)


def _checkpoints(
    folder: Path, data: dict[str, Any], seed: int, trust: bool
) -> dict[str, Callable[[], tuple[nn.Module, Task]]]:
    return {
        name: partial(_load, partial(given_model, folder, weights=name, trust=trust), data, seed)
        for name in ("last", "best")
        if (folder / f"{name}.pt").is_file()
    }


def _told(data: dict[str, Any]) -> str:
    options = [f"{key}={value}" for key, value in data.items() if key != "name"]
    return " ".join([str(data.get("name")), *options])


def _objective(recipe: Recipe) -> str:
    # Of RAT, the mode is in the objective's name or an option.
    objective = recipe.objective
    name = str(objective.get("mode") or objective.get("name", ""))
    name += "".join(end for end, option in ENDINGS.items() if objective.get(option))
    return VARIANTS.get(name, name) + PRINTED * bool(objective.get("printed"))


def _outliers(recipe: Recipe) -> int | None:
    outliers = recipe.objective.get("outliers")
    if not isinstance(outliers, dict):
        return 0
    if outliers.get("name") == "image_folder":
        return outliers.get("n")  # which the training wrote down
    # The release of random_images; opening it here would need the file.
    return 300_000 if outliers.get("name") == "random_images" else int(outliers.get("n", 10_000))
