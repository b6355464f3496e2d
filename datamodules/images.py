"""Tagged still images: a folder with images, image-level tags and, for scoring, masks (the layout of MSRC v2 here)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.image_tables import ImageRow, read_classes, read_image_rows
from datamodules.records import SPLITS
from datamodules.video_frames import FRAME_SUFFIXES
from pseudolabel.palette import read_mask
from pseudolabel.types import VOID, DataError, LabelSpace, Tag, UInt8Array, nearest_name


@dataclass(frozen=True)
class ImageRecord:
    """One usable image of a folder.

    Attributes:
        name: its name without suffix, unique in its folder.
        path: the image file.
        tags: its image-level tags that are classes of the source's label space, in the order of their ids; none for
            :attr:`ImageSource.negatives` alone.
        split: ``"train"``, ``"val"`` or ``"test"``.
    """

    name: str
    path: Path
    tags: tuple[Tag, ...]
    split: str


class ImageSource:
    """A folder of tagged images, read in the classes of a label space (SPEC M10, M11).

    ``labels.csv`` has the columns ``image,split,classes`` (classes joined by ";"; without a split, an image trains), or
    ``tags.csv`` the columns ``image,class``. Images are ``images/<image>.jpg`` (or jpeg, png, webp, bmp), else they lie
    beside the table. ``masks/<image>.png``, if there, hold the line numbers of ``classes.txt``, from 0, and 255 = void.

    Classes of the folder that are none of the label space count as background, and images that show nothing else are
    left out (M11).

    Args:
        root: the folder.
        label_space: the classes of the videos; plain ones, without actions.
        aliases: the folder's name of a class -> the label space's, such as ``{"body": "person"}``.
        exclude: the folder's names of classes that are unreliable: images that show one are left out, and its pixels
            are void wherever a mask has them.

    Attributes:
        records: the usable images, in the order of the table.
        skipped: what cannot be used, as (image or file, reason).
        names: the folder's classes.
        tag_of: those of them that are in the label space -> its tag.
        common: the classes of the label space that the folder knows, in the order of their ids.
        negatives: images that show other classes only, without tags; no part of ``records``.
        num_without_class: how many of them the table has.
        num_excluded: images left out because they show an excluded class.

    Raises:
        DataError: a file of the folder is missing or malformed, a name in ``aliases`` or ``exclude`` is unknown, no
            class is in common, no image is usable, or the label space has actions.
    """

    def __init__(
        self,
        root: Path | str,
        label_space: LabelSpace,
        *,
        aliases: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        check_plain(label_space)
        self.root, self.label_space = Path(root), label_space
        if not self.root.is_dir():
            raise DataError(f"Images not found in `root={root}`: no such folder. Specify a different `root`.")
        self.skipped: list[tuple[str, str]] = []
        table, rows = read_image_rows(self.root)
        self.names = self._read_names(table, rows)
        aliases = dict(aliases or {})
        self._check_words(aliases, exclude)
        classes = {name: aliases.get(name, name) for name in self.names if name not in exclude}
        self.tag_of = {name: Tag(word) for name, word in classes.items() if Tag(word) in label_space.tags}
        self.common = tuple(tag for tag in label_space.tags if tag in self.tag_of.values())
        if not self.common:
            raise DataError(
                f"Images in `root={root}` and the videos have no class in common: the folder has "
                f"{', '.join(classes)}; the label space has {', '.join(map(str, label_space.tags))}. Name those that "
                "mean the same in `aliases` (folder's name: label space's name)."
            )
        self._values = self._value_table(exclude)
        self.num_excluded = sum(bool(set(row.classes) & set(exclude)) for row in rows)
        kept = [row for row in rows if not set(row.classes) & set(exclude)]
        shown = [row for row in kept if any(name in self.tag_of for name in row.classes)]
        self.num_without_class = len(kept) - len(shown)
        self.records = self._open(shown)
        self.negatives = self._open([row for row in kept if row not in shown])
        self._tell(table, exclude)

    @property
    def num_classes_in_common(self) -> int:
        """How many classes of the label space the folder knows, background not counted."""
        return len(self.common)

    @property
    def summary(self) -> str:
        """One line on what is used, what is left out and why."""
        counts = Counter(record.split for record in self.records)
        used = ", ".join(f"{counts[split]} {split}" for split in SPLITS if counts[split])
        return (
            f"{len(self.records)} images of {self.root} ({used}); {len(self.common)} classes in common "
            f"({', '.join(map(str, self.common))}); left out: {self.num_without_class} that show other classes only, "
            f"{self.num_excluded} with an excluded class."
        )

    def select(self, split: str) -> list[ImageRecord]:
        """Return the records of ``"train"``, ``"val"`` or ``"test"`` in the order of :attr:`records`.

        Raises:
            DataError: there is no such split.
        """
        if split not in SPLITS:
            raise DataError(
                f"Unknown split '{split}'{nearest_name(split, SPLITS) or '.'} Expected one of {', '.join(SPLITS)}."
            )
        return [record for record in self.records if record.split == split]

    def image(self, record: ImageRecord) -> UInt8Array:
        """Return an image, uint8 (H, W, 3) RGB, upright.

        Raises:
            DataError: it cannot be decoded.
        """
        try:
            with Image.open(record.path) as image:
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(
                f"{record.path} cannot be read as an image ({error}). Copy it again or remove it."
            ) from error

    def mask(self, record: ImageRecord) -> UInt8Array | None:
        """Return the true mask of an image, for scoring, the twin and supervision that is asked for as such.

        Returns:
            uint8 (H, W) class ids of :attr:`label_space`, every other class 0, 255 = void; None without a mask.

        Raises:
            DataError: the mask cannot be read, has another size than its image, or a value beyond ``classes.txt``.
        """
        file = self.root / "masks" / f"{record.name}.png"
        if not file.is_file():
            return None
        raw = read_mask(file)
        size = _upright_size(record.path)
        if raw.shape != size:
            raise DataError(
                f"Mask and image differ in size: {file} is {raw.shape[0]}x{raw.shape[1]} (height x width), but "
                f"{record.path} is {size[0]}x{size[1]}. Save the mask at the size of the image (nearest neighbour)."
            )
        if (unknown := np.setdiff1d(raw, [*range(len(self.names)), VOID])).size:
            raise DataError(
                f"{file} has the values {', '.join(map(str, unknown[:8]))}, beyond classes.txt: expected 0 to "
                f"{len(self.names) - 1} ({self.names[0]} to {self.names[-1]}) and {VOID} = void. Add the missing "
                "names to classes.txt, or save the mask without anti-aliasing."
            )
        return self._values[raw]

    def size(self, record: ImageRecord) -> tuple[int, int]:
        """Return (H, W) of an image as :meth:`image` gives it, without decoding it."""
        return _upright_size(record.path)

    def _read_names(self, table: Path, rows: Sequence[ImageRow]) -> tuple[str, ...]:
        """Return the folder's classes: of ``classes.txt``, which only a folder without masks can do without."""
        path = self.root / "classes.txt"
        if not path.is_file() and not (self.root / "masks").is_dir():
            names = sorted({name for row in rows for name in row.classes})
            if not names:
                raise DataError(f"{table} tags no image with a class. Fill in the classes.")
            return tuple(names)
        names_listed = read_classes(path)
        for row in rows:
            for name in row.classes:
                if name not in names_listed:
                    raise DataError(
                        f"{table}: image '{row.image}' has the class '{name}', which is not in {path}"
                        f"{nearest_name(name, names_listed) or '.'} Expected {', '.join(names_listed)}. Correct one."
                    )
        return names_listed

    def _check_words(self, aliases: Mapping[str, str], exclude: Sequence[str]) -> None:
        words = tuple(map(str, self.label_space.tags))
        for option, name, known, whose in (
            *(("aliases", name, self.names, "the folder's classes") for name in aliases),
            *(("aliases", name, words, "the label space") for name in aliases.values()),
            *(("exclude", name, self.names, "the folder's classes") for name in exclude),
        ):
            if name not in known:
                raise DataError(
                    f"`{option}`: '{name}' is not one of {whose}{nearest_name(name, known) or '.'} "
                    f"Expected one of {', '.join(known)}."
                )

    def _value_table(self, exclude: Sequence[str]) -> UInt8Array:
        """Return uint8 (256,): value in a mask file -> class id."""
        values = np.full(256, VOID, np.uint8)
        for number, name in enumerate(self.names):
            if name not in exclude:
                values[number] = self.label_space.index(self.tag_of[name]) if name in self.tag_of else 0
        return values

    def _open(self, rows: Sequence[ImageRow]) -> list[ImageRecord]:
        """Return the records of the images that are there and whole."""
        records: list[ImageRecord] = []
        folder = self.root / "images" if (self.root / "images").is_dir() else self.root
        files: dict[str, Path] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() not in FRAME_SUFFIXES or file.name[0] == "." or not file.is_file():
                continue
            if (twin := files.setdefault(file.stem, file)) != file:
                self.skipped.append((str(file), f"is a second file of that name; {twin.name} counts"))
        present = [row for row in rows if row.image in files]
        for row in rows:
            if row.image not in files:
                hint = nearest_name(row.image, files)
                self.skipped.append((row.image, f"tagged, but {folder} holds no such image{hint}"))
        workers = min(8, os.cpu_count() or 1)
        problems = Parallel(n_jobs=workers, prefer="threads")(delayed(_problem)(files[row.image]) for row in present)
        for row, problem in zip(present, problems, strict=True):
            if problem:
                self.skipped.append((row.image, f"{files[row.image]} cannot be read as an image: {problem}"))
                continue
            shown = {self.tag_of[name] for name in row.classes if name in self.tag_of}
            tags = tuple(tag for tag in self.label_space.tags if tag in shown)
            records.append(ImageRecord(row.image, files[row.image], tags, row.split))
        return records

    def _tell(self, table: Path, exclude: Sequence[str]) -> None:
        """List how many images were left out, or stop where none is left."""
        if self.num_without_class:
            shown = ", ".join(map(str, self.common))
            reason = f"images that show none of {shown}: {self.num_without_class}, of use at most as counter-examples"
            self.skipped.append((str(table), reason))
        if self.num_excluded:
            reason = f"images that show one of {', '.join(exclude)}: {self.num_excluded} left out"
            self.skipped.append((str(table), reason))
        if not self.records:
            raise DataError(
                f"No usable image in `root={self.root}` with one of {', '.join(map(str, self.common))}: "
                f"{len(self.skipped)} items skipped (first: {self.skipped[:3]}). Expected images/<image>.jpg. Put the "
                f"images there, or correct {table.name}."
            )


def check_plain(label_space: LabelSpace) -> None:
    """Raise :class:`DataError` unless the classes are plain: still images show no action."""
    if label_space.has_actions:
        raise DataError(
            f"Still images show no action, but the label space has actor-action classes such as "
            f"'{label_space.tags[0]}'. Expected plain classes such as '{label_space.tags[0].actor}'. Set "
            "`data.source.actions=false`, or leave the images out (`images=none`)."
        )


def _upright_size(path: Path) -> tuple[int, int]:
    """Return (H, W) of an image file as :meth:`ImageSource.image` shows it, without decoding it."""
    with Image.open(path) as image:
        quarter = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientations that swap the sides
        return (image.width, image.height) if quarter else (image.height, image.width)


def _problem(path: Path) -> str:
    """Return why an image cannot be read, or ""; a JPEG is read to its end, but at an eighth of its size."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (image.width // 8, image.height // 8))
            image.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        return str(error)
    return ""
