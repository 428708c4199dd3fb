"""The file format of recipes, and its error messages."""

from __future__ import annotations

import io
import re
import textwrap
import typing
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rrfast._checks import check_one_of, meant, not_among
from rrfast.objectives.variant_names import VARIANTS, check_variant
from rrfast.train.settings import Training

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

T = typing.TypeVar("T")
Options = dict[str, Any]
#: Largest nesting depth, and number of entries at one depth; far more than a recipe needs.
DEPTH, WIDTH = 50, 100_000
RECIPES = files("rrfast.train").joinpath("recipes")


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The part `model:` of a recipe.

    Attributes:
        name: As for `rrfast.models.load_model`.
        weights: A state_dict to start from; None: random weights, by the seed of the training.
        normalize: Normalisation in front of the model, so that its inputs stay in [0, 1]: a name
            for `rrfast.models.Normalize.of`; None for none.
        classes: Number of classes; None: that of the data, which `train` records.
        options: Further arguments of the model's function, by name.
    """

    name: str
    classes: int | None = None
    weights: str | None = None
    normalize: str | None = None
    options: Options = msgspec.field(default_factory=dict)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole training: the content of a recipe's file.

    A file may begin with `extends:` and the name of one of rrfast's recipes: entries that it leaves
    out are those of that recipe.

    Attributes:
        model: The model.
        data: `name`, in `TASKS`, and the arguments of its function.
        objective: `name`, in `rrfast.objectives.OBJECTIVES`, and its arguments; also
            `label_smoothing` and `class_weights` of the cross-entropy if it has a `criterion`; for
            openmix `outliers`: a `name` in `OUTLIERS` and the arguments of its function; for ceda
            and acet `noise`: a `name` in `NOISE`.
        training: All other settings.
        variants: Special entries of each variant for `rrfast.train.train_variants`: options of its
            objective, and under `training` its settings. A single training ignores this part.
    """

    model: Model
    data: Options
    objective: Options
    training: Training
    variants: dict[str, Options] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.variants:
            check_variant(name)


def recipes() -> list[str]:
    """The names of rrfast's own recipes."""
    return sorted(
        path.name.removesuffix(".yaml") for path in RECIPES.iterdir() if path.name.endswith(".yaml")
    )


def load_recipe(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from a file.

    Args:
        source: Path of a YAML file, or the name of one of rrfast's recipes, see `recipes`.
        changes: Such as "training.epochs=3", "objective.eps=1e-2" or, for one variant only,
            "regmixup.alpha=10". The value is YAML, but a value in which YAML would find a comment,
            such as "runs/net #7.pt", is text.

    Raises:
        FileNotFoundError: There is no such file, and no such recipe.
        ValueError: It is not YAML, or has an unknown entry, or a value of a wrong type; the message
            says where, and what is allowed. Or a change has no value.

    Example:
        >>> load_recipe("digits_rat", ["training.epochs=3"]).training.epochs
        3
    """
    if Path(source).is_file():
        file: Path | Traversable = Path(source)
    elif str(source) in recipes():
        file = RECIPES / f"{source}.yaml"
    else:
        raise FileNotFoundError(
            f"recipe must be a file, or one of {', '.join(recipes())}, got {str(source)!r}"
            f"{meant(source, recipes())}"
        )
    tree = _tree(file, f"recipe {source}")
    for change in changes:
        _change(tree, change)
    return _converted(tree, Recipe, f"recipe {source}")


def _tree(file: Path | Traversable, what: str) -> Any:
    """The entries of a file, over those of the recipe that it extends."""
    try:
        own = _yaml(file.read_text(encoding="utf-8"), what)
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is no text in UTF-8: {error}") from error
    if not isinstance(own, dict) or "extends" not in own:
        return own
    base = own.pop("extends")
    check_one_of(f"extends in {what}", base, recipes())
    return _over(_tree(RECIPES / f"{base}.yaml", f"recipe {base}"), own)


def _over(base: Options, own: Options) -> Options:
    """The entries of both; of those that both have, mappings are merged, and others are `own`."""
    both = {
        key: _over(base[key], value)
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | own | both


def changed_training(training: Training, changes: Options, what: str) -> Training:
    """The settings with some changes; `what` names these in error messages."""
    tree = msgspec.to_builtins(training)
    if not isinstance(changes, dict):
        raise ValueError(f"{what} must be a mapping, got {changes!r}")
    return _converted(tree | changes, Training, what)


def _converted(tree: Any, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{what}: {_explained(str(error), tree, kind)}") from error


def _yaml(text: str, what: str) -> Any:
    try:
        # Version 1.2, in which 1e-3 is a number and `no` a string.
        tree = YAML(typ="safe", pure=True).load(text)
    except RecursionError as error:
        raise ValueError(f"{what} must not be nested deeper than {DEPTH}") from error
    except Exception as error:  # a YAMLError, or any error of a malformed date or tag
        raise ValueError(f"{what} is no YAML: {' '.join(str(error).split())}") from error
    _check_nesting(tree, what)
    return tree


def _check_nesting(tree: Any, what: str) -> None:
    """Raise for a tree that is too deep or too large: with aliases it can be infinite."""
    level = [tree]
    for _ in range(DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
        if len(level) > WIDTH:
            break
    raise ValueError(
        f"{what} must not be nested deeper than {DEPTH}, nor have more than {WIDTH} entries"
    )


def _change(tree: Any, change: str) -> None:
    keys, equals, value = change.partition("=")
    *path, last = keys.split(".")
    if [*path, last][0] in VARIANTS:
        path = ["variants", *path]
    for key in path:
        if isinstance(tree, dict) and tree.get(key) is None:
            tree[key] = {}  # missing or null, such as `augment` in a written recipe
        tree = tree[key] if isinstance(tree, dict) else None
    if not equals or not isinstance(tree, dict):
        raise ValueError(f"a change must be like training.epochs=3, got {change!r}")
    if not value.strip():
        raise ValueError(f"a change must have a value, {keys}=null for none, got {change!r}")
    tree[last] = value if _has_comment(value) else _yaml(value, f"the value of {change}")


def _has_comment(value: str) -> bool:
    """Whether YAML would drop a part of it as a comment: the part after a # outside quotes."""
    if "#" not in value:
        return False
    try:
        tokens = list(YAML(typ="safe", pure=True).scan(value))
    except YAMLError:
        return False  # the parser reports it
    places = [range(token.start_mark.index, token.end_mark.index) for token in tokens]
    return any(
        mark == "#" and not any(place in taken for taken in places)
        for place, mark in enumerate(value)
    )


#: msgspec's words, and plain words for them.
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "object": "a mapping",
    "array": "a list",
}


def _explained(said: str, tree: Any, whole: Any) -> str:
    """Translate msgspec's error: the entry, the allowed values, the value given."""
    if found := re.fullmatch(r"Expected `str`.* - at `key` in `\$\.?(.*)`", said):
        return f"the entries of {found[1] or 'it'} must have names that are text"
    problem, _, where = said.partition(" - at `$")
    # For a value in a mapping with free names msgspec does not say which name.
    where, free, _ = where.strip("`").partition("[...]")
    keys = [key for key in where.split(".") if key]
    kind, value = whole, tree
    for key in keys:
        kind, value = _entries(kind)[key], value[key]
    at = "an entry of " * bool(free) + ".".join(keys)
    known = _entries(kind)
    if found := re.fullmatch("Object contains unknown field `(.*)`", problem):
        names = [*known, *(() if at else ("extends", *VARIANTS))]
        has = f"it has {', '.join(known)}{meant(found[1], names)}"
        return f"{at or 'it'} has no entry {found[1]}; {has}"
    if found := re.fullmatch("Object missing required field `(.*)`", problem):
        return f"{at or 'it'} must have an entry {found[1]}"
    if problem.startswith("Invalid enum value"):
        choices = typing.get_args(kind)
        return not_among(at, value, choices)
    if found := re.fullmatch("Expected `(.*)`, got `.*`", problem):
        wanted = " or ".join(_KINDS.get(name, name) for name in found[1].split(" | "))
        if known:
            wanted = wanted.replace("a mapping", f"a mapping with {', '.join(known)}")
        return f"{at or 'it'} must be {wanted}, got {textwrap.shorten(repr(value), 80)}"
    # From a `__post_init__`, whose messages begin with the entry.
    return f"{at}.{problem}" if at else problem


def _entries(kind: Any) -> dict[str, Any]:
    """The entries of a struct, or of an optional struct."""
    for one in (kind, *typing.get_args(kind)):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return {field.name: field.type for field in msgspec.structs.fields(one)}
    return {}


def parse_options(words: Sequence[str]) -> Options:
    """Parse a name and options from the command line.

    Args:
        words: The name, then "key=value"; the value is YAML.

    Raises:
        ValueError: One of them is not "key=value".

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
