"""docs/tour.md: its Python and its commands run, one after the other, and print what it says."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rrfast.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "tour.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def printed(command: str) -> str:
    """What a command of the page prints; rrfast's own in this process."""
    words = shlex.split(command)
    if words[0] != "rrfast":
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(words[1:]) == 0
    return said.getvalue()


def steps() -> list[tuple[str, str, str]]:
    """Every block of Python and every command, with what the page says it prints."""
    found: list[tuple[str, str, str]] = []
    for language, text in FENCE.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            found.append(("python", text, ""))
        elif language == "text":
            found[-1] = (*found[-1][:2], text)
        else:
            assert language == "console"
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append(("console", command, output))
    return found


def test_the_tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    same, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert [language for language, _, _ in steps()].count("console") >= 2
    for language, code, expected in steps():
        said = io.StringIO()
        if language == "python":
            with contextlib.redirect_stdout(said):
                exec(code, names)
        else:
            said.write(printed(code))
        assert same.check_output(expected, said.getvalue(), flags), (
            f"{code}\nprinted\n{said.getvalue()}\nand the page says\n{expected}"
        )
    gallery = (tmp_path / "photos.html").read_text(encoding="utf-8")
    assert gallery.count("<img") > 100
    assert not re.search(r'(src|href)="(?!data:|#)', gallery)  # one file, no network
