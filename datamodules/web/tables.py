"""The comma-separated tables of retrieval: catalogue, manifest, true intervals."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from pseudolabel.types import DataError, nearest_name


def read_table(path: Path, columns: Sequence[str], *, example: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, cells by column) of the rows of a CSV file one by one; empty rows are passed over.

    Args:
        path: the file.
        columns: those that must be there; others are read as well.
        example: header and a row, for the errors.

    Raises:
        DataError: the file is missing, is no text table in UTF-8, or lacks a column.
    """
    shape = f"Expected a comma-separated table such as\n{example}"
    if not path.is_file():
        raise DataError(f"{path} is missing. {shape}\nWrite it, or correct the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [cell.strip().lower() for cell in next(reader, [])]
            for column in columns:
                if column not in header:
                    raise DataError(
                        f"{path} has no column '{column}'{nearest_name(column, header) or '.'} Got the header "
                        f"'{','.join(header)}'. {shape}\nGive it this header."
                    )
            absent = dict.fromkeys(columns, "")
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
                    yield reader.line_num, {**absent, **row}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a text table in UTF-8 ({error}). {shape}\nSave it as CSV in UTF-8.") from error


def read_seconds(path: Path, line: int, row: dict[str, str], column: str) -> float:
    """Return a cell as a time in seconds, >= 0.

    Raises:
        DataError: it is no such number.
    """
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise DataError(f"{path}, line {line}: {column} is '{row[column]}', expected seconds >= 0. Correct the cell.")
    return value
