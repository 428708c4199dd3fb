"""The faults of `mutation` and of `emulation` can be made: `python python_tests/mutation.py`."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from faults import edited
from mutation import MUTANTS, ROOT, is_there

CSRC = ROOT / "csrc"


def _of_kernels() -> Any:
    path = Path(__file__).parent / "emulation" / "mutants.py"
    spec = importlib.util.spec_from_file_location("mutants_of_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_a_fault_can_be_made_and_has_its_tests(mutant: Any) -> None:
    path = ROOT / "rrfast" / mutant.file
    text = path.read_text(encoding="utf-8")
    broken = edited(text, mutant.file, mutant.fault, mutant.old, mutant.new)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))
    assert mutant.tests
    assert all(is_there(test, ROOT) for test in mutant.tests)


@pytest.mark.parametrize("mutant", _of_kernels(), ids=lambda mutant: mutant.fault)
def test_a_fault_of_a_kernel_can_be_made(mutant: Any) -> None:
    path = CSRC / mutant.file
    what = (mutant.file, mutant.fault, mutant.old, mutant.new, mutant.times)
    assert edited(path.read_text(encoding="utf-8"), *what)


def test_the_rooms_that_compute_have_their_faults() -> None:
    rooms = [mutant.file.partition("/")[0] for mutant in MUTANTS]
    assert set(rooms) == {
        *("engine", "ops", "methods", "metrics", "selective", "train"),
        *("inference", "integrations"),
    }
    assert len(MUTANTS) >= 50
    assert len({mutant.fault for mutant in MUTANTS}) == len(MUTANTS)


def test_what_is_not_there_once_is_no_fault() -> None:
    for text, found in (("b", 0), ("a a", 2)):
        said = f"'wrong' changes what file has {found} times, not 1: 'a'"
        with pytest.raises(ValueError, match=said):
            edited(text, "file", "wrong", "a", "c")
