"""Rows as a file: CSV, or Parquet through pyarrow."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from rrfast._errors import require
from rrfast._files import write
from rrfast.inference.parts import Row

FORMATS = (".csv", ".parquet")
#: What a spreadsheet takes for the beginning of a formula, in their wide forms too.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def require_format(out: Path) -> None:
    """Raise before hours of work rather than after, if `out` cannot be written.

    Raises:
        ImportError: It is Parquet, and pyarrow is not installed.
        ValueError: Its name ends otherwise.
    """
    if out.suffix not in FORMATS:
        raise ValueError(f"out must end in {' or '.join(FORMATS)}, got {out}")
    if out.suffix == ".parquet":
        require("a .parquet file", "pyarrow.parquet", "pyarrow")


def write_rows(out: Path, column: str, parts: Iterable[list[Row]]) -> None:
    """Write `out`, whole or not at all.

    One part is in memory at a time. In CSV (UTF-8, a line feed after every row) what is not known
    is empty, a truth is true or false, and a number has as many digits as give it back to the bit
    when it is read as float64, so that a comparison with the threshold says what `accept` says. A
    text that a spreadsheet would run as a formula has an apostrophe in front (`harmless`). In
    Parquet, where a part is a row group, what is not known is null, and all text is as it is.

    Args:
        out: Ends in .csv or .parquet.
        column: What the column of the confidence is called.
        parts: The rows, part by part.
    """
    names = [column if name == "confidence" else name for name in Row._fields]

    def save(file: IO[bytes]) -> None:
        (_csv if out.suffix == ".csv" else _parquet)(file, names, parts)

    write(out, save)


def _csv(file: IO[bytes], names: list[str], parts: Iterable[list[Row]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # Before Python 3.13 csv quotes a carriage return, which names of files may have and readers end
    # a row at, only as part of the terminator.
    writer = csv.writer(_LineFeeds(text), lineterminator="\r\n")
    writer.writerow(names)
    for rows in parts:
        writer.writerows(harmless([_cell(value) for value in row]) for row in rows)
    text.detach()  # flushed, and left open


def harmless(row: Sequence[object]) -> list[object]:
    """Cells for CSV of which a spreadsheet runs none as a formula.

    A text that begins with = + - @, with one of their wide forms, or with a tab or the end of a
    line gets an apostrophe in front, and so does one that begins with apostrophes and then one of
    these: who reads the file with a program takes one apostrophe off where that is how it begins.
    Numbers are as they are.

    Example:
        >>> harmless(["=1+1.png", "a=b.png", "'=1.png", -0.5])
        ["'=1+1.png", 'a=b.png', "''=1.png", -0.5]
    """
    return [f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row]


class _LineFeeds(NamedTuple):
    """Takes rows that end in CR LF, and writes them with a line feed alone."""

    text: io.TextIOWrapper

    def write(self, row: str) -> int:
        """One row, as `csv.writer` hands it over."""
        return self.text.write(row.removesuffix("\r\n") + "\n")


def _cell(value: object) -> object:
    # csv itself writes None as nothing, and a float by its repr.
    return str(value).lower() if isinstance(value, bool) else value


def _parquet(file: IO[bytes], names: list[str], parts: Iterable[list[Row]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = [pa.string(), pa.int64(), pa.int64(), pa.float64(), pa.bool_(), pa.string()]
    schema: Any = pa.schema(list(zip(names, types, strict=True)))
    with pq.ParquetWriter(file, schema) as writer:
        for rows in parts:
            columns = [
                pa.array(values, type=kind)
                for values, kind in zip(zip(*rows, strict=True), types, strict=True)
            ]
            writer.write_table(pa.table(columns, schema=schema))
