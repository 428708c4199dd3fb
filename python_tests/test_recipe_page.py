"""docs/recipe.md says all that a recipe can hold, with its defaults, and its examples run."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")

import rrfast.data
import rrfast.models
from rrfast import cli
from rrfast.data.tasks import NOISE, OUTLIERS, TASKS
from rrfast.models import load_model
from rrfast.models.normalize import STATISTICS
from rrfast.objectives import OBJECTIVES
from rrfast.train import Augment, Training, ValidationAttack, load_trained
from rrfast.train.recipe import options_of
from rrfast.train.recipe_file import Model

PAGE = (Path(__file__).parents[1] / "docs" / "recipe.md").read_text(encoding="utf-8")
#: What an option is given where a recipe does not.
GIVEN = {name: f"training.{name}" for name in ("seed", "epochs", "workers")}


def read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def part(heading: str) -> str:
    return re.split(r"^## ", PAGE, flags=re.MULTILINE)[
        1 + re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE).index(heading)
    ]


def table(heading: str, column: str) -> dict[str, list[str]]:
    """The rows of a part's tables whose head has that column: the other cells, by the first."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", part(heading), flags=re.MULTILINE):
        head, _, *lines = (
            [c.strip() for c in line.split("|")[1:-1]] for line in block.splitlines()
        )
        if column in head:
            rows = {line[0].strip("`"): line[1:] for line in lines}
            assert len(rows) == len(lines)
            assert not found.keys() & rows.keys()
            found |= rows
    return found


def options(cell: str) -> dict[str, Any]:
    """`name: default` of each, ... of one that must be given."""
    found = {}
    for text in re.findall(r"`([^`]+)`", cell):
        name, colon, default = text.partition(": ")
        found[name] = read(default) if colon else ...
    return found


def of_code(function: Callable[..., object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, default in options_of(function).items():
        if name != "images":  # those that are trained on
            needed = default is inspect.Parameter.empty
            plain = list(default) if type(default) is tuple else default
            found[name] = ... if needed else GIVEN.get(name, plain)
    return found


def same(written: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    assert written.keys() == there.keys()
    for name, value in there.items():
        # 8/255 and 1/6 are written with six digits.
        rounded = float(f"{value:.6g}") if isinstance(value, float) else value
        assert written[name] == rounded, name


@pytest.mark.parametrize(
    ("heading", "named"),
    [("data", TASKS), ("objective", {**OBJECTIVES, **OUTLIERS, **NOISE})],
)
def test_every_name_with_its_options_and_defaults(
    heading: str, named: dict[str, Callable[..., object]]
) -> None:
    written = {name: cells[0] for name, cells in table(heading, "options and defaults").items()}
    assert written.keys() == named.keys()
    asked = set()
    for name, function in named.items():
        like = re.fullmatch(r"as `(\w+)` without `(\w+)`", written[name])
        found = options(written[like[1]] if like else written[name])
        if like:
            del found[like[2]]
        same(found, of_code(function))
        if OUTLIERS.get(name) is not function:  # theirs are explained beside them
            asked |= found.keys()
    assert table(heading, "option").keys() == asked


def defaults(struct: type[msgspec.Struct]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        found[field.name] = ... if field.required else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            found[field.name] = field.default_factory()
    return found


@pytest.mark.parametrize(("heading", "struct"), [("model", Model), ("training", Training)])
def test_every_key_with_its_default(heading: str, struct: type[msgspec.Struct]) -> None:
    keys = table(heading, "key")
    written = {
        name: ... if default == "needed" else read(default.strip("`"))
        for name, (default, _) in keys.items()
    }
    same(written, defaults(struct))
    if struct is Training:
        for name, inner in (("augment", Augment), ("validation_attack", ValidationAttack)):
            [written] = re.findall(r"`(\{.*\})`", keys[name][1])
            same(read(written), defaults(inner))
    else:
        assert {*re.findall(r"`(\w+)`", keys["normalize"][1])} == {*STATISTICS, "null"}


def test_every_model_that_rrfast_brings() -> None:
    brought = {
        f"{module.__name__}:{name}"
        for module in (rrfast.data, rrfast.models)
        for name in module.__all__
        if callable(getattr(module, name))
        and not isinstance(getattr(module, name), type)
        and name != "load_model"
        and issubclass(
            typing.get_type_hints(getattr(module, name)).get("return", object), nn.Module
        )
    }
    written = table("model", "takes images")
    assert written.keys() == brought
    for name, (shape, _) in written.items():
        sides = [int(side) if side.isdecimal() else 32 for side in shape.split(" x ")]
        assert load_model(name, classes=3)(torch.rand(2, *sides)).shape == (2, 3)


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, odd = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    [code] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    for name, text in (("my.yaml", mine), ("odd.yaml", odd), ("mine.py", code)):
        Path(name).write_text(text, encoding="utf-8")
    commands = [line.split() for line in re.findall(r"^    (rrfast .*)$", PAGE, flags=re.MULTILINE)]
    assert len(commands) == 6
    short = {"evaluate": ["--draws", "0", "--scores", "msr"], "bench": ["--methods", "grad"]}
    short["bench"] += ["--batch", "4", "--samples", "8", "--seconds", "0.001"]
    for words in commands:
        assert cli.main([*words[1:], *short.get(words[1], [])]) == 0, capsys.readouterr().err
        if words[1:3] == ["train", "my.yaml"] and "--set" not in words:
            lines = capsys.readouterr().out.splitlines()
            assert len(lines) == 21
            right = re.search(r"validation: ([\d.]+) % right", lines[-2])
            assert right is not None
            assert float(right[1]) > 70
    assert load_trained("odd").recipe.model.classes == 2
