"""Self-contained HTML pages: styles and pictures are inside, and there is no script."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import IO

from rrfast._checks import make_folder
from rrfast._files import write


def write_page(out: Path, template: str, **content: object) -> None:
    """Write `out`, completely or not at all; its folder is made.

    The template is a file in rrfast/pages that extends page.html, `content` are its variables. All
    their text is escaped. The page is streamed: of a generator in `content`, only one item is in
    memory at a time. Raises an OSError if `out` cannot be written.
    """
    from jinja2 import Environment, PackageLoader

    pages = Environment(
        loader=PackageLoader("rrfast", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def save(file: IO[bytes]) -> None:
        for piece in pages.get_template(template).generate(**content):
            # A command or a path can contain bytes that are not UTF-8.
            file.write(piece.encode("utf-8", "backslashreplace"))

    make_folder("the folder of out", out.parent)
    write(out, save)


def data_url(kind: str, data: bytes) -> str:
    """A picture as a data URL; `kind` is the MIME type after image/, such as png."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
