"""Resumable work in parts, each written completely or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rrfast import _checksummed
from rrfast._checks import make_folder
from rrfast._files import remove_partial
from rrfast._lock import alone
from rrfast._processes import differing


class Row(NamedTuple):
    """The results for one image."""

    image: str  #: relative path, or number of the row
    prediction: int | None  #: None without a score
    rival: int | None  #: the class that the prediction changes to; None if none was found
    confidence: float | None  #: larger = more confident; None without a score, never NaN
    accept: bool | None  #: None without a threshold
    error: str | None  #: why there is no score


class Parts:
    """The folder OUT.parts, which holds the parts of a table until it is complete.

    Its manifest holds everything that the rows depend on. A folder without a manifest holds no
    results: the manifest is written first and deleted first.

    A part has `size` of the rows, one per image, the last one the rest. With `shards` these are
    numbers of shards, of which nobody knows the rows before. `page` is written with the table.
    """

    def __init__(
        self, out: Path, images: int, size: int, page: Path | None = None, *, shards: bool = False
    ) -> None:
        self._shards = shards
        self._page = page
        self.folder = out.with_name(f"{out.name}.parts")
        self._out = out
        self._images = images
        self._size = size
        self._manifest = self.folder / "manifest.json"

    def __len__(self) -> int:
        return math.ceil(self._images / self._size)

    def indices(self, part: int) -> range:
        """The rows of a part."""
        return range(part * self._size, min((part + 1) * self._size, self._images))

    def begin(self, pinned: dict[str, Any], choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Begin, or continue the work that is there. To be called by one process.

        `pinned` is everything that the rows depend on. `choose` makes the choices for all rows: its
        result is returned, from now or from when the work was begun. Both are for JSON.

        Raises:
            NotADirectoryError: The folder is a link or a file; the target of a link may belong to
                someone else.
            ValueError: The work there was begun with other arguments, which the sentence names; or
                its manifest is damaged.
        """
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise NotADirectoryError(f"{self.folder} must be a folder or not be there: delete it")
        if self._manifest.is_file():
            there = _checksummed.read_json(self._manifest)
            # As read back from JSON: lists for tuples.
            name = differing(json.loads(json.dumps(pinned)), there["pinned"])
            if name is not None:
                raise ValueError(
                    f"{self.folder} is of another run: {name} is {there['pinned'].get(name)} there "
                    f"and {pinned.get(name)} here. Finish it with its own arguments, or delete the "
                    "folder to begin anew"
                )
            remove_partial(self.folder)
            chosen: dict[str, Any] = there["chosen"]
            return chosen
        chosen = choose()
        self.remove()
        make_folder("the folder for parts of out", self.folder)
        _checksummed.write_json(self._manifest, {"pinned": pinned, "chosen": chosen})
        return chosen

    def missing(self) -> list[int]:
        """The parts that are still to be done, in order."""
        return [part for part in range(len(self)) if not self._file(part).is_file()]

    def write(self, part: int, rows: Iterable[Row]) -> None:
        """Write the rows of one part, completely or not at all."""
        _checksummed.write_json(self._file(part), [list(row) for row in rows])

    def rows(self) -> Iterator[list[Row]]:
        """All rows, part by part; a ValueError if one is not as it was written."""
        for part in range(len(self)):
            file = self._file(part)
            rows = [Row(*row) for row in _checksummed.read_json(file)]
            if not self._shards and len(rows) != len(self.indices(part)):
                raise ValueError(
                    f"{file} must have {len(self.indices(part))} rows, and has {len(rows)}: delete "
                    "it and start again"
                )
            yield rows

    def remove(self) -> None:
        """Remove the files written there, and the folder if nothing else is in it."""
        if not self.folder.is_dir():
            return
        self._manifest.unlink(missing_ok=True)
        for file in self.folder.iterdir():
            if re.fullmatch(r"(\d+|manifest)\.json((\.[0-9a-f]+)?\.partial)?", file.name):
                file.unlink(missing_ok=True)
        # Files that a desktop or a file system left there must not make a complete table fail.
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    @contextlib.contextmanager
    def alone(self, *, overwrite: bool) -> Iterator[None]:
        """Lock the table against other runs, or raise a BlockingIOError. For one process.

        If another run has just finished it, raises as `check_out`.
        """
        make_folder("the folder of out", self._out.parent)
        with alone(self._out.with_name(f"{self._out.name}.lock"), self._out):
            self.check_out(overwrite=overwrite)
            remove_partial(self._out.parent, f"{self._out.name}.")
            yield

    def check_out(self, *, overwrite: bool) -> None:
        """Raise a FileExistsError if there is a complete table, or a page, and no `overwrite`."""
        # With a manifest, the table is an earlier one, or was put in place just before the run was
        # stopped.
        if overwrite or self._manifest.is_file():
            return
        if self._out.exists():
            raise FileExistsError(
                f"{self._out} is there already, and complete: give another file, or --overwrite"
            )
        if self._page is not None and self._page.exists():
            raise FileExistsError(
                f"{self._page} is there already: give another file, or --overwrite"
            )

    def _file(self, part: int) -> Path:
        return self.folder / f"{part:06d}.json"
