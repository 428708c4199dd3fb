"""Puts the committed results into README.md: `make readme`.

Text between `<!-- NAME -->` and `<!-- /NAME -->` is replaced by the file that belongs to NAME, so that
every number in the README comes from a file that a command wrote.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = {
    "demo": ROOT / "docs" / "demo" / "demo.md",
    "ops": ROOT / "docs" / "ops.md",
}


def assembled(readme: str) -> str:
    """The README with every part as it is on disk."""
    for name, source in PARTS.items():
        part = (
            f"<!-- {name} -->\n\n{source.read_text(encoding='utf-8').strip()}\n\n<!-- /{name} -->"
        )
        readme, found = re.subn(
            f"<!-- {name} -->.*?<!-- /{name} -->",
            lambda _, part=part: part,
            readme,
            flags=re.DOTALL,
        )
        if found != 1:
            raise SystemExit(f"README.md must have the marks of {name!r} once, found {found}")
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(assembled(path.read_text(encoding="utf-8")), encoding="utf-8")
