"""A released data set: where its files are, the errors about them, and what they hold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rrfast._checks import check_path
from rrfast.data.split import Split


class Released(NamedTuple):
    """The two splits of a release, in its order."""

    train: Split
    test: Split


@dataclass(frozen=True, kw_only=True)
class Release:
    """The name of a data set and of its folder, and where to get it, a sentence for errors."""

    name: str
    where: str
    what: str = ""  #: what a user must give as `folder`
    folder: str = ""  #: the folder that the archive unpacks to

    def root(self, folder: str | os.PathLike[str]) -> Path:
        """The folder with the files: the given one, or that of the archive in it.

        Raises:
            FileNotFoundError: There is no such folder.
            TypeError: `folder` is not a path.
        """
        check_path("folder", folder)
        path = Path(folder)
        if not path.is_dir():
            raise FileNotFoundError(
                f"{path} is no folder: folder must be {self.what}. {self.where}"
            )
        return path / self.folder if (path / self.folder).is_dir() else path

    def missing(self, file: Path, note: str = "") -> FileNotFoundError:
        """The error that a file is not there."""
        return FileNotFoundError(
            f"{file.name} of {self.name} is not in {file.parent}{note}. {self.where}"
        )

    def wrong(self, message: str) -> ValueError:
        """The error that a file is not as it was released."""
        return ValueError(f"{message} {self.where}")
