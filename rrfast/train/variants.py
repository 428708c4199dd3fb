"""One recipe trained with several objectives and seeds."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from rrfast._checks import meant
from rrfast._progress import bars
from rrfast.data import ImageFolder, Split
from rrfast.data.tasks import OUTLIERS, Task
from rrfast.objectives import OBJECTIVES
from rrfast.objectives.variant_names import ENDINGS, check_variant
from rrfast.train.recipe import CRITERION, check_name, make_task, prepare, train
from rrfast.train.recipe_file import Recipe, changed_training

#: Data on which OpenMix mixes with textures unless it is told otherwise. On CIFAR the papers have
#: the 300K Random Images, and on ImageNet Places365: there it is told.
TEXTURED = ("digits", "synthetic", "mnist", "fashion_mnist", "emnist")


class Run(NamedTuple):
    """A training that is over."""

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
    """The recipe with another objective and seed, all else the same.

    An option of the recipe's objective stays where the other has it: eps from RAT to AT, label
    smoothing wherever there is a criterion. `alpha` and `weight` do not: they are other numbers in
    each objective that has one, but for the `weight` of the noise, CEDA's and ACET's. Nor, to or
    from ACET and CCAT, does what their attacks are: with other steps on another loss; and ACET's
    eps is around noise. Nor, to Mixup, the epochs at the end that RAT trains without it.

    What the recipe says under `variants` of this one comes before all that, settings of the
    training too.

    Args:
        recipe: Its objective's name and mode are not used.
        name: In `VARIANTS`.
        seed: Of the training; also of the data, where the recipe gives it none.
        mixup: Alpha of Mixup, where the variant has it; None: that of the recipe's objective, and
            1.0 where it is without Mixup. The tau of margin reweighting is that of the recipe's
            objective, and 2 where it is without.
        outliers: Of openmix, as `objective.outliers` of a recipe; None: those of the recipe.

    Raises:
        ValueError: There is no such variant, or openmix has no outliers; what the recipe says under
            `variants` is no setting of a training.

    Example:
        >>> from rrfast.train import load_recipe
        >>> variant(load_recipe("digits_rat"), "at_mixup", seed=3).objective
        {'name': 'at', 'eps': 0.1, 'mixup': 1.0}
    """
    check_variant(name)
    check_name("objective", OBJECTIVES, recipe.objective.get("name"))
    ending = _ending(name)
    base = name.removesuffix(ending)
    if mixup is None:
        own = recipe.objective.get("alpha" if recipe.objective["name"] == "mixup" else "mixup")
        mixup = 1.0 if own is None else own
    chosen = _kept(recipe.objective, base)
    if ending != "_mixup":
        chosen.pop("mixup_off_epochs", None)
    if ending == "_mixup":
        chosen["mixup"] = mixup
    elif ending == "_margin":
        chosen["tau"] = recipe.objective.get("tau") or 2
        chosen.pop("alpha", None)  # WMMR's, in whose place tau stands
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


def _ending(name: str) -> str:
    return next((end for end in ENDINGS if name.endswith(end)), "")


def _kept(options: dict[str, Any], name: str) -> dict[str, Any]:
    """The options of a recipe's objective that another objective takes."""
    known = _options(name)
    # A variant's name says what the mode is, and whether there is Mixup or margin reweighting.
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
    """Raise a ValueError of an option that none would take: it would be left out without a word."""
    own: Any = recipe.objective.get("name")
    check_name("objective", OBJECTIVES, own)
    taken = {"name", "mode", *ENDINGS.values(), *_options(own)}
    for name in names:
        taken |= {*_kept(recipe.objective, name.removesuffix(_ending(name)))}
    left = [option for option in recipe.objective if option not in taken]
    if not left:
        return
    others = [name for name in names if left[0] in _options(name.removesuffix(_ending(name)))]
    if others:
        raise ValueError(
            f"objective: {own} has no option {left[0]}, and that of {others[0]} is its own: say "
            f"{others[0]}.{left[0]}={recipe.objective[left[0]]}"
        )
    raise ValueError(
        f"objective: neither {own} nor what is compared has the option {left[0]}"
        f"{meant(left[0], taken)}"
    )


def _options(name: str) -> set[str]:
    """Of an objective: the names of what a recipe may say of it."""
    parameters = {*inspect.signature(OBJECTIVES[name]).parameters}
    return parameters | ({*CRITERION} if "criterion" in parameters else set())


def train_variants(
    recipe: Recipe,
    out: Path | str,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    mixup: float | None = None,
    console: Console | None = None,
) -> Iterator[Run]:
    """Train every variant with every seed, each in its folder out/VARIANT_SEED.

    For a seed all of them see the same images and begin with the same weights, but for OpenMix,
    whose model has a logit more. What is over is not done again, and what was stopped goes on. The
    settings of each are printed first. OpenMix mixes with the recipe's outliers; on data of which
    the literature has no set of outliers, with textures made here where the recipe names none. CEDA
    and ACET have noise of the images trained on.

    Args:
        recipe: Model, data and settings, and the options of the objectives.
        out: Folder for the trainings.
        names: Of `VARIANTS`.
        seeds: Of the trainings; all variants of a seed, then the next.
        mixup: As of `variant`.
        console: For the bar; default standard output. Where that is no terminal, a line with the
            name of each training and one for each of its epochs.

    Yields:
        A `Run` after each training.

    Raises:
        TypeError, ValueError: There is no such variant, or one twice, or none; an option of an
            objective, or a folder that is there, does not fit: before the first training. Else as
            `rrfast.train.train`.
    """
    console = console or Console()
    first = os.environ.get("RANK", "0") == "0"
    outliers = _check(recipe, Path(out), names, seeds, mixup)
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
                # On a terminal, two bars at once would be one too many.
                inner = Console(quiet=True) if console.is_terminal else console
                train(one, folder, resume=True, console=inner)
                yield Run(name, seed, folder, _task(recipe, seed))
                progress.advance(bar)


def _check(
    recipe: Recipe, out: Path, names: Sequence[str], seeds: Sequence[int], mixup: float | None
) -> dict[str, Any] | None:
    """All that can be known to fail, before the first training and not after hours of others.

    Returns:
        The outliers that OpenMix has where the recipe names none.
    """
    for name in names:
        check_variant(name)
        if list(names).count(name) > 1:
            raise ValueError(f"variants must be named once each, and {name} is there twice")
    if not names or not seeds:
        raise ValueError("variants and seeds must hold at least one each, got none")
    _check_taken(recipe, names)
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
    """A variant's objective, and what of its training is not the recipe's, in a line."""
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
    """Outliers of the shape of the images, where they are square."""
    if isinstance(task.train, ImageFolder):
        return {"name": "textures", "size": task.train.size}
    if not isinstance(task.train, Split) or task.train.x.dim() != 4:
        return None
    _, channels, height, width = task.train.x.shape
    if height != width:
        return None
    return {"name": "textures", "size": height, "channels": channels}
