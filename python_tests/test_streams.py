"""Random draws for one use are independent of those for another, and do not change."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import rrfast

pytest.importorskip("lightning_fabric")

from rrfast._seeds import Stream, derive_seed


def test_no_two_uses_share_a_seed() -> None:
    """In `__members__` a name of a number that is taken is there too, as an alias of the other."""
    numbers = [use.value for use in Stream.__members__.values()]
    assert len(numbers) == len(set(numbers))
    assert len({derive_seed(0, use) for use in Stream}) == len(numbers)


def test_committed_results_are_drawn_as_they_were() -> None:
    names = ("ORDER", "STEP", "AUGMENT", "READ", "DIVIDE", "HALVE", "CORRUPT", "CHOOSE", "ATTACK")
    for name, number in zip(names, (0, 1, 2, 3, 100, 101, 102, 103, 104), strict=True):
        drawn = np.random.SeedSequence([7, number, 2]).generate_state(1, np.uint64)[0]
        assert derive_seed(7, Stream[name], 2) == int(drawn >> 1)


def test_every_use_is_of_the_table() -> None:
    """No number in its place: it could be another's."""
    root = Path(rrfast.__file__).parent
    calls = [
        (path.name, call.args[1])
        for path in root.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "derive_seed"
    ]
    assert len(calls) > 10
    for where, use in calls:
        assert ast.unparse(use).startswith("Stream.") or ast.unparse(use) == "use", where
