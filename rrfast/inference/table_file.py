"""Writes rows to a file: CSV, or Parquet through pyarrow."""

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
#: Characters that begin a formula in a spreadsheet, including their wide forms.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def require_format(out: Path) -> None:
    """Raise before hours of work unless `out` is CSV, or Parquet and pyarrow installed."""
    if out.suffix not in FORMATS:
        raise ValueError(f"out must end in {' or '.join(FORMATS)}, got {out}")
    if out.suffix == ".parquet":
        require("a .parquet file", "pyarrow.parquet", "pyarrow")


def write_rows(out: Path, column: str, parts: Iterable[list[Row]]) -> None:
    """Write `out` completely or not at all.

    One part is in memory at a time. In CSV (UTF-8, a line feed after every row), missing values are
    empty and booleans are true or false. A number has enough digits to be read back exactly as
    float64, so that a comparison with the threshold agrees with `accept`. A text that a spreadsheet
    would run as a formula gets an apostrophe in front (`harmless`). In Parquet, each part is a row
    group, missing values are null, and text is unchanged. `column` is that of the confidence.
    """
    names = [column if name == "confidence" else name for name in Row._fields]

    def save(file: IO[bytes]) -> None:
        (_csv if out.suffix == ".csv" else _parquet)(file, names, parts)

    write(out, save)


def _csv(file: IO[bytes], names: list[str], parts: Iterable[list[Row]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # File names may contain a carriage return, and readers end a row at it. Before Python 3.13, csv
    # quotes it only if it is part of the terminator.
    writer = csv.writer(_LineFeeds(text), lineterminator="\r\n")
    writer.writerow(names)
    for rows in parts:
        # csv itself writes None as an empty text, and a float by its repr.
        cells = ([str(v).lower() if isinstance(v, bool) else v for v in row] for row in rows)
        writer.writerows(map(harmless, cells))
    text.detach()  # flushes, and leaves the file open


def harmless(row: Sequence[object]) -> list[object]:
    """Cells for CSV that a spreadsheet does not run as formulas.

    A text that begins with = + - @, with one of their wide forms, or with a tab or the end of a
    line gets an apostrophe in front. So does a text that begins with apostrophes followed by one of
    these, so that a program that reads the file can remove one apostrophe from such texts. Numbers
    are unchanged.

    Example:
        >>> harmless(["=1+1.png", "a=b.png", "'=1.png", -0.5])
        ["'=1+1.png", 'a=b.png', "''=1.png", -0.5]
    """
    return [f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row]


class _LineFeeds(NamedTuple):
    """Takes rows that end in CR LF and writes them with only a line feed."""

    text: io.TextIOWrapper

    def write(self, row: str) -> int:
        return self.text.write(row.removesuffix("\r\n") + "\n")


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
