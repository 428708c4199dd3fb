"""One recipe trained with several objectives and seeds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from rrfast._checks import check_once, check_one_of, meant
from rrfast._progress import bars
from rrfast.data import ImageFolder, Split
from rrfast.data.tasks import OUTLIERS, Task
from rrfast.objectives import OBJECTIVES
from rrfast.objectives.variant_names import ENDINGS, VARIANTS, check_variant
from rrfast.train.recipe import make_task, options_of, prepare, train
from rrfast.train.recipe_file import Recipe, changed_training

#: Data on which OpenMix uses textures by default. For CIFAR the papers have the 300K Random Images,
#: and for ImageNet Places365; there the recipe must name them.
TEXTURED = ("digits", "synthetic", "mnist", "fashion_mnist", "emnist")


class Run(NamedTuple):
    """A finished training."""

    variant: str  #: in `VARIANTS`
    seed: int
    folder: Path
    task: Task  #: its data


def variant(
    recipe: Recipe,
    name: str,
    seed: int,
    *,
    mixup: float | None = None,
    outliers: dict[str, Any] | None = None,
) -> Recipe:
    """The recipe with another objective and seed, and everything else the same.

    An option of the recipe's objective is kept if the other objective has it: eps from RAT to AT,
    label smoothing for every criterion. Exceptions: `alpha` and `weight`, which mean something else
    in each objective, except the `weight` of the noise in CEDA and ACET; options of the attack to
    or from ACET and CCAT, which attack another loss with other steps (and ACET's eps is around
    noise); and for Mixup the last epochs in which RAT does not mix.

    Entries for this variant under `variants` in the recipe override all of this, also settings of
    the training.

    Args:
        recipe: Its objective's name and mode are not used.
        name: A name in `VARIANTS`.
        seed: Seed of the training; also of the data, unless the recipe gives one.
        mixup: Alpha of Mixup, if the variant has Mixup; None: that of the recipe's objective, or
            1.0 if that has none. The tau of margin reweighting is that of the recipe's objective,
            or 2 if that has none.
        outliers: Outliers of openmix, as `objective.outliers` of a recipe; None: those of the
            recipe.

    Raises:
        ValueError: There is no such variant, or openmix has no outliers; an entry under `variants`
            of the recipe is not a setting of a training.

    Example:
        >>> from rrfast.train import load_recipe
        >>> variant(load_recipe("digits_rat"), "at_mixup", seed=3).objective
        {'name': 'at', 'eps': 0.1, 'mixup': 1.0}
    """
    check_variant(name)
    check_one_of("objective.name", recipe.objective.get("name"), OBJECTIVES)
    base, ending = _parts(name)
    mixup = own_mixup(recipe) if mixup is None else mixup
    chosen = _kept(recipe.objective, base)
    if ending != "_mixup":
        chosen.pop("mixup_off_epochs", None)
    if ending == "_mixup":
        chosen["mixup"] = mixup
    elif ending == "_margin":
        chosen["tau"] = recipe.objective.get("tau") or 2
        chosen.pop("alpha", None)  # WMMR's alpha, which tau replaces
    elif name == "mixup":
        chosen["alpha"] = mixup
    elif name == "openmix":
        chosen.setdefault("outliers", outliers)
    elif name in ("ceda", "acet"):
        chosen.setdefault("noise", {"name": "smoothed_noise"})
    changes = dict(recipe.variants.get(name, {}))
    settings = changes.pop("training", {})
    chosen |= changes
    if name == "openmix" and chosen["outliers"] is None:
        raise ValueError(
            "openmix needs outliers, and the recipe has none: say which, such as "
            f"openmix.outliers={{name: random_images, path: ...}}, of {', '.join(OUTLIERS)}"
        )
    training = changed_training(recipe.training, settings, f"variants.{name}.training")
    return msgspec.structs.replace(
        recipe,
        objective={"name": base, **chosen},
        training=msgspec.structs.replace(training, seed=seed),
        variants={},
    )


def own_mixup(recipe: Recipe) -> float:
    """Alpha of Mixup in the recipe's objective, or 1.0 if that has none."""
    objective = recipe.objective
    own = objective.get("alpha" if objective.get("name") == "mixup" else "mixup")
    return 1.0 if own is None else own


def _parts(name: str) -> tuple[str, str]:
    """The objective of a variant, and the ending of its name or ""."""
    ending = next((end for end in ENDINGS if name.endswith(end)), "")
    return name.removesuffix(ending), ending


def _kept(options: dict[str, Any], name: str) -> dict[str, Any]:
    """The options of a recipe's objective that another objective keeps."""
    known = {*options_of(OBJECTIVES[name])}
    # A variant's name decides the mode, and whether there is Mixup or margin reweighting.
    known -= {"name", "mode", *ENDINGS.values()}
    if name != options["name"]:
        pair = {name, options["name"]}
        known -= {"alpha"}
        if pair != {"ceda", "acet"}:
            known -= {"weight"}
        if pair & {"acet", "ccat"}:
            known -= {"steps", "step_size", "start"}
        if "acet" in pair:
            known -= {"eps"}
    return {key: value for key, value in options.items() if key in known}


def _check_taken(recipe: Recipe, names: Sequence[str]) -> None:
    """Raise a ValueError for an option that no variant would take: it would be silently dropped."""
    own: Any = recipe.objective.get("name")
    check_one_of("objective.name", own, OBJECTIVES)
    taken = {"name", "mode", *ENDINGS.values(), *options_of(OBJECTIVES[own])}
    for name in names:
        taken |= {*_kept(recipe.objective, _parts(name)[0])}
    left = [option for option in recipe.objective if option not in taken]
    if not left:
        return
    others = [name for name in names if left[0] in options_of(OBJECTIVES[_parts(name)[0]])]
    if others:
        raise ValueError(
            f"objective: {own} has no option {left[0]}, and that of {others[0]} is its own: say "
            f"{others[0]}.{left[0]}={recipe.objective[left[0]]}"
        )
    raise ValueError(
        f"objective: neither {own} nor what is compared has the option {left[0]}"
        f"{meant(left[0], taken)}"
    )


def check_changes(
    recipe: Recipe, changes: Sequence[str], names: Sequence[str], mixup: float | None = None
) -> None:
    """Raise a ValueError for a change that would be lost in the trainings of these variants.

    `recipe` has the changes already. Without a name it is about a single training by the recipe,
    whose objective takes or refuses every option by itself.
    """
    trained = ", ".join(names) or "a training without variants"
    for key in dict.fromkeys(change.partition("=")[0] for change in changes):
        part, _, rest = key.removeprefix("variants.").partition(".")
        if part in VARIANTS and part not in names:
            raise ValueError(f"{key} is of the variant {part}, and would be lost in {trained}")
        option = rest.partition(".")[0]
        if not names or part != "objective" or option in ("", "name", "mode"):
            continue
        mark: Any = object()  # to be found wherever a variant takes the option
        marked = msgspec.structs.replace(recipe, objective=recipe.objective | {option: mark})
        found = (variant(marked, name, 0, mixup=mixup, outliers={}).objective for name in names)
        if not any(mark is value for options in found for value in options.values()):
            raise ValueError(f"{key} would be lost: the option {option} is of none of {trained}")


def train_variants(
    recipe: Recipe,
    out: Path | str,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    mixup: float | None = None,
    changes: Sequence[str] = (),
    console: Console | None = None,
) -> Iterator[Run]:
    """Train every variant with every seed, each in its folder out/VARIANT_SEED.

    With the same seed all variants see the same images and start from the same weights, except
    OpenMix, whose model has one more logit. Finished trainings are not repeated, and stopped ones
    are resumed. The settings of each are printed first. OpenMix uses the recipe's outliers; if the
    recipe names none, generated textures, for data without an established set of outliers. The
    noise of CEDA and ACET is made from the training images.

    Args:
        recipe: Model, data and settings, and the options of the objectives.
        out: Folder for the trainings.
        names: Names in `VARIANTS`.
        seeds: Seeds of the trainings; all variants of one seed come before the next seed.
        mixup: As for `variant`.
        changes: Those that the recipe was loaded with, as for `load_recipe`. None may be lost: each
            must change one of these trainings. Options that the recipe itself brings along may be
            of no use to a variant.
        console: For the progress bar; default standard output. If that is not a terminal, a line
            with the name of each training and one for each of its epochs.

    Yields:
        A `Run` after each training.

    Raises:
        TypeError, ValueError: An unknown or repeated variant, or none; an option of an objective,
            or an existing folder, does not fit; a change that no variant takes. These are raised
            before the first training. Else as `rrfast.train.train`.
    """
    console = console or Console()
    first = os.environ.get("RANK", "0") == "0"
    outliers = _check(recipe, Path(out), names, seeds, mixup, changes)
    for name in names if first else ():
        one = variant(recipe, name, 0, mixup=mixup, outliers=outliers)
        console.print(f"{name}: {_told(recipe, one)}", highlight=False, markup=False)
    with bars(console, "{task.completed} of {task.total}", shown=first) as progress:
        bar = progress.add_task("", total=len(seeds) * len(names))
        for seed in seeds:
            for name in names:
                folder = Path(out) / f"{name}_{seed}"
                progress.update(bar, description=folder.name)
                one = variant(recipe, name, seed, mixup=mixup, outliers=outliers)
                if first and not console.is_terminal:
                    console.print(f"{folder.name}:", highlight=False, markup=False)
                # On a terminal show only one bar at a time.
                inner = Console(quiet=True) if console.is_terminal else console
                train(one, folder, resume=True, console=inner)
                yield Run(name, seed, folder, _task(recipe, seed))
                progress.advance(bar)


def _check(
    recipe: Recipe,
    out: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    mixup: float | None,
    changes: Sequence[str],
) -> dict[str, Any] | None:
    """Check all variants before the first training; the outliers where the recipe names none."""
    check_once("variants", names)
    for name in names:
        check_variant(name)
    if not names or not seeds:
        raise ValueError("variants and seeds must hold at least one each, got none")
    _check_taken(recipe, names)
    check_changes(recipe, changes, names, mixup)
    task = _task(recipe, seeds[0])
    outliers = _textures(task) if recipe.data.get("name") in TEXTURED else None
    for name in names:
        prepare(variant(recipe, name, seeds[0], mixup=mixup, outliers=outliers), task)
        for folder in out.glob(f"{name}_*"):
            number = folder.name.removeprefix(f"{name}_")
            if number.isdecimal() and int(number) in seeds:
                one = variant(recipe, name, int(number), mixup=mixup, outliers=outliers)
                prepare(one, task, folder)
    return outliers


def _told(recipe: Recipe, one: Recipe) -> str:
    """A variant's objective and its changes of the training's settings, in a line."""
    options = [f"{key} {value}" for key, value in one.objective.items() if key != "name"]
    theirs, ours = msgspec.to_builtins(recipe.training), msgspec.to_builtins(one.training)
    changed = [f"{key} {ours[key]}" for key in ours if key != "seed" and ours[key] != theirs[key]]
    told = ", ".join(options) or "no options"
    return told + (f"; in training {', '.join(changed)}" if changed else "")


def _task(recipe: Recipe, seed: int) -> Task:
    """The recipe's data, for a training with this seed."""
    seeded = msgspec.structs.replace(recipe.training, seed=seed)
    return make_task(msgspec.structs.replace(recipe, training=seeded))


def _textures(task: Task) -> dict[str, Any] | None:
    """Outliers with the shape of the images, if these are square."""
    if isinstance(task.train, ImageFolder):
        return {"name": "textures", "size": task.train.size}
    if not isinstance(task.train, Split) or task.train.x.dim() != 4:
        return None
    _, channels, height, width = task.train.x.shape
    if height != width:
        return None
    return {"name": "textures", "size": height, "channels": channels}
