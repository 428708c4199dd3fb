"""Makes Markdown of what the docstrings have besides it: doctests, tables, names, `#:` comments."""

from __future__ import annotations

import re
from typing import Any

import griffe
import pages

DOCTEST = re.compile(r"^( *)>>> .*?(?=\n\s*\n|\Z)", flags=re.DOTALL | re.MULTILINE)
TABLE = re.compile(r"^( *)=+(?:  =+)+$.*?^\1=+(?:  =+)+$(?!\n\1\S)", flags=re.DOTALL | re.MULTILINE)
NAME = re.compile(r"(?<![`\[])`(rrfast(?:\.\w+)+)`(?![`\]])")


def fenced(language: str) -> Any:
    def fence(match: re.Match[str]) -> str:
        indent = match[1]
        return f"{indent}```{language}\n{match[0]}\n{indent}```"

    return fence


class Docstrings(griffe.Extension):
    def __init__(self) -> None:
        self.public = {name for names in pages.reference_pages().values() for name in names}

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **_: Any) -> None:
        if obj.is_alias:
            return
        if obj.is_attribute and obj.docstring is None:
            comment = comment_above(obj)
            obj.docstring = griffe.Docstring(comment, parent=obj) if comment else None
        if obj.docstring is not None:
            text = TABLE.sub(fenced("text"), obj.docstring.value)
            text = DOCTEST.sub(fenced("pycon"), text)
            obj.docstring.value = NAME.sub(self.linked, text)

    def linked(self, match: re.Match[str]) -> str:
        return f"[`{match[1]}`][{match[1]}]" if match[1] in self.public else match[0]


def comment_above(obj: Any) -> str:
    """The `#:` lines above an attribute."""
    lines = obj.lines_collection[obj.filepath]
    found: list[str] = []
    for line in reversed(lines[: obj.lineno - 1]):
        if not line.strip().startswith("#:"):
            break
        found.insert(0, line.strip().removeprefix("#:").strip())
    return " ".join(found)
