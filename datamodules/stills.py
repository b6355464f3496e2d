"""Tagged still images of the synthetic actors in a second domain, written as a tagged image folder.

Tokmakov et al. 2016 train on video first and on tagged images of another kind after (PASCAL VOC, section 4.5): here
are both. See :mod:`datamodules.studio.painting` for what differs, :mod:`datamodules.images` for the format.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from datamodules.image_boxes import COLUMNS, TABLE, boxes_of_mask
from datamodules.images import ImageSource, check_plain
from datamodules.progress import follow
from datamodules.rendering import Layer
from datamodules.studio.folders import write_once
from datamodules.studio.painting import cast_shadow, develop, ground
from datamodules.studio.still_life import DEFAULT_CLASSES, SPLITS, StillOptions, StillPlan, set_still
from pseudolabel.palette import write_mask
from pseudolabel.types import VOID, DataError, FloatArray, LabelSpace, UInt8Array

MIN_VISIBLE = 0.03
"""Every class that leads or plays covers at least this share of its image."""

ATTEMPTS = 40

_JPEG_QUALITY = (35, 75)


def generate_stills(
    root: Path | str,
    *,
    train: int,
    val: int,
    test: int,
    size: Sequence[int] = (96, 128),
    classes: Sequence[str] = DEFAULT_CLASSES,
    seed: int = 0,
    workers: int = 2,
    several: float = 0.35,
    objects: int = 3,
    foreign: float = 0.0,
    border: int = 1,
) -> Path:
    """Write ``images/``, ``masks/``, ``labels.csv``, ``boxes.csv`` and ``classes.txt``, unless they are there already.

    The folder's name is a hash of all options but ``workers``; see :func:`datamodules.studio.folders.write_once`.

    Args:
        root: where the folder is made.
        train: images for training.
        val: images for validation.
        test: images for test.
        size: (H, W) in pixels.
        classes: actors to be shown, names of :data:`datamodules.studio.actors.BODIES`.
        seed: other seeds give other images.
        workers: processes that draw.
        several: share of the images with two actors, of one or of two classes.
        objects: most things of other classes (stone, plate, box, plant) in an image.
        foreign: share of the images that show things of other classes only.
        border: half width in pixels of the void band along the outlines, 0 = none.

    Returns:
        The folder of ``labels.csv``.

    Raises:
        DataError: an option is unknown or out of range, or the folder holds something else.
    """
    options = StillOptions(
        train=train,
        val=val,
        test=test,
        size=tuple(map(int, size)),  # type: ignore[arg-type]
        classes=tuple(classes),
        seed=seed,
        several=float(several),
        objects=objects,
        foreign=float(foreign),
        border=border,
    )
    return write_once(
        root, options.fingerprint, lambda folder: _write(folder, options, workers), what="set of synthetic still images"
    )


def render_still(plan: StillPlan, options: StillOptions) -> tuple[UInt8Array, UInt8Array]:
    """Draw one image and its true mask.

    Returns:
        uint8 (H, W, 3) RGB, and uint8 (H, W): places in ``options.names``, without the void band.

    Raises:
        DataError: no arrangement shows every class.
    """
    least = MIN_VISIBLE * options.size[0] * options.size[1]
    wanted = [options.names.index(actor) for actor in plan.actors]
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([options.seed, SPLITS.index(plan.split), plan.number, attempt, 0, 3])
        scene = set_still(rng, plan.actors, plan.objects, options.names, size=options.size)
        layers = [Layer(thing, scene) for thing in scene.things]
        mask = np.zeros(options.size, np.uint8)
        picture = ground(rng, options.size)
        bare = picture.copy()
        for layer in layers:
            layer.paint(0, bare, mask, blur=0.0, longest=1.0)
        if all((mask == label).sum() >= least for label in wanted):
            cast_shadow(rng, picture, mask > 0)
            for layer in layers:
                layer.paint(0, picture, mask, blur=0.0, longest=1.0)
            return develop(rng, picture), mask
    raise DataError(
        f"Synthetic still image '{plan.name}' with {', '.join(plan.actors)}: expected an arrangement that shows every "
        f"actor, got none in {ATTEMPTS}. Lower `objects`."
    )


def with_void_band(mask: UInt8Array, *, border: int) -> UInt8Array:
    """Return a mask, uint8 (H, W), whose pixels within ``border`` of another label are void (255)."""
    if not border:
        return mask
    kernel = np.ones((2 * border + 1, 2 * border + 1), np.uint8)
    return np.where(cv2.dilate(mask, kernel) != cv2.erode(mask, kernel), VOID, mask).astype(np.uint8)


def _write(folder: Path, options: StillOptions, workers: int) -> None:
    """Draw all images and write the tables."""
    plans = options.images()
    for name in ("images", "masks"):
        (folder / name).mkdir()
    jobs = Parallel(n_jobs=workers, return_as="generator")(
        delayed(_write_image)(folder, plan, options) for plan in plans
    )
    shown = list(follow(jobs, "writing synthetic still images", total=len(plans)))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["image", "split", "classes"])
        for plan, labels in zip(plans, shown, strict=True):
            rows.writerow([plan.name, plan.split, ";".join(options.names[label] for label in labels)])
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(COLUMNS)
        for plan, labels in zip(plans, shown, strict=True):
            for label, boxes in labels.items():
                rows.writerows([plan.name, options.names[label], *map(int, box)] for box in boxes)
    (folder / "classes.txt").write_text("\n".join(options.names) + "\n", encoding="utf-8")


def _write_image(folder: Path, plan: StillPlan, options: StillOptions) -> dict[int, FloatArray]:
    """Draw one image, write it with its mask, and return the labels in it but background, with their boxes (N, 4)."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the workers are the parallelism
    try:
        image, mask = render_still(plan, options)
    finally:
        cv2.setNumThreads(threads)
    mask = with_void_band(mask, border=options.border)
    rng = np.random.default_rng([options.seed, SPLITS.index(plan.split), plan.number, 0, 4])
    Image.fromarray(image).save(folder / "images" / f"{plan.name}.jpg", quality=int(rng.integers(*_JPEG_QUALITY)))
    write_mask(folder / "masks" / f"{plan.name}.png", mask)
    return {int(label): boxes_of_mask(mask, label=int(label)) for label in np.unique(mask) if label not in (0, VOID)}


class SyntheticStills(ImageSource):
    """Synthetic still images: written on first use, then read as any tagged image folder.

    Args:
        root: where the folder of these options is, or is made.
        label_space: classes of the videos; plain ones.
        train: images for training.
        val: images for validation.
        test: images for test.
        size: (H, W) in pixels.
        classes: actors to be shown; None = those of the label space.
        aliases: see :class:`~datamodules.images.ImageSource`.
        exclude: see :class:`~datamodules.images.ImageSource`.
        seed: seed of the images.
        workers: processes that draw.
        several: share of the images with two actors.
        objects: most things of other classes in an image.
        foreign: share of the images that show things of other classes only.
        border: half width in pixels of the void band.

    Raises:
        DataError: an option is out of range, a class cannot be drawn, or the folder holds something else.
    """

    def __init__(
        self,
        root: Path | str,
        label_space: LabelSpace,
        *,
        train: int = 120,
        val: int = 60,
        test: int = 80,
        size: Sequence[int] = (96, 128),
        classes: Sequence[str] | None = None,
        aliases: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        seed: int = 0,
        workers: int = 2,
        several: float = 0.35,
        objects: int = 3,
        foreign: float = 0.0,
        border: int = 1,
    ) -> None:
        check_plain(label_space)
        folder = generate_stills(
            root,
            train=train,
            val=val,
            test=test,
            size=size,
            classes=label_space.actors[1:] if classes is None else classes,
            seed=seed,
            workers=workers,
            several=several,
            objects=objects,
            foreign=foreign,
            border=border,
        )
        super().__init__(folder, label_space, aliases=aliases, exclude=exclude)


IMAGE_SOURCES: dict[str, type[ImageSource]] = {"folder": ImageSource, "synthetic": SyntheticStills}
"""Name in ``configs/images`` -> the class that opens it."""
