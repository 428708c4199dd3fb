"""Resumable work in parts, each written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rrfast import _sealed
from rrfast._checks import make_folder
from rrfast._files import remove_partial
from rrfast._lock import alone


class Row(NamedTuple):
    """What is said of one image."""

    image: str  #: relative path, or number of the row
    prediction: int | None  #: None where there is no score
    rival: int | None  #: the class that the prediction changes to; None where none was found
    confidence: float | None  #: larger = more to be trusted; None where there is no score, not NaN
    accept: bool | None  #: None where no threshold was asked for
    error: str | None  #: why there is no score


class Parts:
    """The folder OUT.parts, in which a table grows until it is complete.

    Its manifest says what the rows depend on. Without a manifest there is nothing of worth in the
    folder: it is the first file to come and the first to go.

    Args:
        out: Where the table is to be.
        images: Number of rows.
        size: Number of rows of a part; the last has the rest.
        page: What is written with the table, if anything is.
    """

    def __init__(self, out: Path, images: int, size: int, page: Path | None = None) -> None:
        self._page = page
        self.folder = out.with_name(f"{out.name}.parts")
        self._out = out
        self._images = images
        self._size = size
        self._manifest = self.folder / "manifest.json"

    def __len__(self) -> int:
        """Number of parts."""
        return math.ceil(self._images / self._size)

    def places(self, part: int) -> range:
        """The rows of a part."""
        return range(part * self._size, min((part + 1) * self._size, self._images))

    def begin(self, pinned: dict[str, Any], choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Begin, or go on with what is there. For one process.

        Args:
            pinned: What the rows depend on, for JSON.
            choose: What is to be decided once for all rows, for JSON; not called to go on.

        Returns:
            What `choose` returned, now or when the work was begun.

        Raises:
            NotADirectoryError: The folder is a link or a file: what a link leads to is somebody's.
            ValueError: What is there was begun with something else, the sentence says what; or its
                manifest is damaged.
        """
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise NotADirectoryError(f"{self.folder} must be a folder or not be there: delete it")
        if self._manifest.is_file():
            there = _sealed.read(self._manifest)
            # As JSON has it: lists for tuples.
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
        _sealed.write(self._manifest, {"pinned": pinned, "chosen": chosen})
        return chosen

    def missing(self) -> list[int]:
        """The parts that are still to be done, in order."""
        return [part for part in range(len(self)) if not self._file(part).is_file()]

    def write(self, part: int, rows: Iterable[Row]) -> None:
        """The rows of one part, whole or not at all."""
        _sealed.write(self._file(part), [list(row) for row in rows])

    def rows(self) -> Iterator[list[Row]]:
        """All rows, part by part.

        Raises:
            ValueError: A part is not as it was written.
        """
        for part in range(len(self)):
            file = self._file(part)
            rows = [Row(*row) for row in _sealed.read(file)]
            if len(rows) != len(self.places(part)):
                raise ValueError(
                    f"{file} must have {len(self.places(part))} rows, and has {len(rows)}: delete "
                    "it and start again"
                )
            yield rows

    def remove(self) -> None:
        """What was written there, and the folder if nothing else is in it."""
        if not self.folder.is_dir():
            return
        self._manifest.unlink(missing_ok=True)
        for file in self.folder.iterdir():
            if re.fullmatch(r"(\d+|manifest)\.json((\.[0-9a-f]+)?\.partial)?", file.name):
                file.unlink(missing_ok=True)
        # What a desktop or a file system leaves there does not make a table fail that is complete.
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    @contextlib.contextmanager
    def alone(self, *, overwrite: bool) -> Iterator[None]:
        """Let no other run write the table meanwhile. For one process.

        Raises:
            BlockingIOError: Another run is at it.
            FileExistsError: As `check_out`, of one that was at it until now.
        """
        make_folder("the folder of out", self._out.parent)
        with alone(self._out.with_name(f"{self._out.name}.lock"), self._out):
            self.check_out(overwrite=overwrite)
            remove_partial(self._out.parent, f"{self._out.name}.")
            yield

    def check_out(self, *, overwrite: bool) -> None:
        """Whether there is something to do.

        Raises:
            FileExistsError: The table is complete, or a page is there, and `overwrite` is False.
        """
        # With a manifest it is that of before, or was put in place just before the end.
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


def differing(here: dict[str, Any], there: dict[str, Any]) -> str | None:
    """The first name under which two runs have something else, or None."""
    return next((name for name in here | there if here.get(name) != there.get(name)), None)
