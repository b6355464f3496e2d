"""The tables of a tagged image folder: ``classes.txt``, and ``labels.csv`` or ``tags.csv``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.records import SPLITS
from datamodules.video_frames import FRAME_SUFFIXES
from pseudolabel.types import VOID, DataError, nearest_name

LABELS_EXAMPLE = "image,split,classes\nrex-in-the-park,train,dog;person\ncat-on-sofa,val,cat"
TAGS_EXAMPLE = "image,class\nrex-in-the-park,dog\nrex-in-the-park,person\ncat-on-sofa,cat"


@dataclass(frozen=True)
class ImageRow:
    """What a table says of one image: its name without suffix, its classes in the folder's words, its split."""

    image: str
    classes: tuple[str, ...]
    split: str = "train"


def read_classes(path: Path) -> tuple[str, ...]:
    """Read ``classes.txt``: one name per line; line n, from 0, is value n in the masks.

    Raises:
        DataError: the file is missing, is no text, has an empty line between names, names a class twice, or has more
            lines than a mask has values.
    """
    shape = "Expected one class name per line, in the order of the values in the masks (the first line is value 0)."
    if not path.is_file():
        raise DataError(f"Class names not found: {path} is missing, so values of masks mean nothing. {shape} Write it.")
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8 ({error}). {shape} Save it again.") from error
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{path}, line {number} is empty. {shape} Name what the value {number - 1} stands for.")
        if name in names[: number - 1]:
            raise DataError(f"{path}, line {number}: '{name}' stands there twice. {shape} Rename one of them.")
    if not 1 <= len(names) <= VOID:
        raise DataError(f"{path} has {len(names)} names, expected 1 to {VOID}. {shape}")
    return tuple(names)


def read_image_rows(root: Path) -> tuple[Path, list[ImageRow]]:
    """Read ``labels.csv`` (``image,split,classes``, one row per image) or ``tags.csv`` (``image,class``, per tag).

    ``split`` is an optional column of both; without it, or where it is empty, images train. Other columns are ignored.

    Returns:
        The file that was read, and a row per image.

    Raises:
        DataError: both are missing; a column is missing; a row has no image; an image is a path, stands twice in
            ``labels.csv`` or in two splits; a split is misspelt.
    """
    labels, tags = root / "labels.csv", root / "tags.csv"
    path, column, example = (labels, "classes", LABELS_EXAMPLE) if labels.is_file() else (tags, "class", TAGS_EXAMPLE)
    if not path.is_file():
        raise DataError(
            f"Tags of images not found: neither labels.csv nor tags.csv is in {root}. Expected labels.csv such as\n"
            f"{LABELS_EXAMPLE}\nor tags.csv such as\n{TAGS_EXAMPLE}\nWrite one of them."
        )
    rows: dict[str, ImageRow] = {}
    for number, cells in read_cells(path, ("image", column), example):
        where = f"{path}, line {number} ('{','.join(cells.values())}')"
        image, split = image_name(where, cells["image"]), _split(where, cells.get("split", ""))
        names = [name.strip() for name in cells[column].split(";")] if column == "classes" else [cells[column]]
        names = [name for name in names if name]
        if column == "class" and not names:
            raise DataError(f"{where}: no class. Fill in the cell or delete the row.")
        before = rows.get(image)
        if before and column == "classes":
            raise DataError(f"{where}: image '{image}' stands there twice. Keep one row, with all its classes.")
        if before and before.split != split:
            raise DataError(
                f"{where}: image '{image}' is in split '{split}' here and in '{before.split}' above. "
                "Give all rows of an image the same split."
            )
        rows[image] = ImageRow(image, tuple(dict.fromkeys((*(before.classes if before else ()), *names))), split)
    return path, list(rows.values())


def read_cells(path: Path, columns: Sequence[str], example: str) -> list[tuple[int, dict[str, str]]]:
    """Return (line, cells by column) of a table's rows."""
    shape = f"Expected a comma-separated table such as\n{example}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a text table in UTF-8 ({error}). {shape}\nSave it as CSV in UTF-8.") from error
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    for column in columns:
        if header and column not in header:
            raise DataError(
                f"{path} has no column '{column}'{nearest_name(column, header) or '.'} Got the header "
                f"'{','.join(lines[0])}'. {shape}\nGive it this header."
            )
    rows = [(number, row) for number, row in enumerate(lines[1:], 2) if any(cell.strip() for cell in row)]
    if not rows:
        raise DataError(f"{path} is empty: it names no image. {shape}\nAdd rows.")
    absent = dict.fromkeys(columns, "")
    return [
        (number, {**absent, **dict(zip(header, (cell.strip() for cell in row), strict=False))}) for number, row in rows
    ]


def image_name(where: str, cell: str) -> str:
    """Return an image's name without the suffix of an image file."""
    if not cell:
        raise DataError(f"{where}: no image. Fill in the cell or delete the row.")
    if "/" in cell or "\\" in cell or cell in (".", ".."):
        raise DataError(f"{where}: expected a plain image name, got a path. Write the last part of it only.")
    return Path(cell).stem if Path(cell).suffix.lower() in FRAME_SUFFIXES else cell


def _split(where: str, cell: str) -> str:
    split = cell.lower() or "train"
    if split not in SPLITS:
        raise DataError(
            f"{where}: unknown split '{cell}'{nearest_name(split, SPLITS) or '.'} Expected one of {', '.join(SPLITS)}, "
            "or nothing (train)."
        )
    return split
