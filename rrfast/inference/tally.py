"""Counts over the rows of a table of scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rrfast.inference.parts import Row

#: Number of failed images to name; the file lists all of them.
NAMED = 10


class Scoring(NamedTuple):
    """The result of `score`, including earlier runs that it continued."""

    images: int  #: number of rows
    failed: int  #: number of rows with an error
    errors: dict[str, str]  #: errors of the first ten of them, by image
    accepted: int | None  #: number of accepted rows; None without a threshold
    threshold: float | None
    how: str  #: how the threshold was chosen, in words


class Tally:
    """Counts over the rows on their way to the file."""

    def __init__(self) -> None:
        self._images = self._failed = self._accepted = 0
        self._errors: dict[str, str] = {}

    def watch(self, parts: Iterator[list[Row]]) -> Iterator[list[Row]]:
        """Yield the same parts."""
        for rows in parts:
            for row in rows:
                self._images += 1
                self._accepted += row.accept is True
                if row.error is not None:
                    self._failed += 1
                    if len(self._errors) < NAMED:
                        self._errors[row.image] = row.error
            yield rows

    def scoring(self, threshold: float | None, how: str) -> Scoring:
        """The counts."""
        accepted = None if threshold is None else self._accepted
        return Scoring(self._images, self._failed, self._errors, accepted, threshold, how)
