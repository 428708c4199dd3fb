"""The search of a row by the threads of a GPU, on the host: its parts are in a header of both."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MATH = HERE.parent / "csrc" / "math"


@pytest.mark.skipif(not MATH.exists(), reason="an installation has no sources")
def test_threads_that_push_in_order_find_what_a_sort_finds(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no c++")
    program = tmp_path / "in_order"
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Werror", "-iquote", MATH]
    subprocess.run([compiler, *options, HERE / "in_order.cpp", "-o", program], check=True)
    ran = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "0 rows wrong\n")
