"""Co-localisation: a box per frame and tag, scored as CorLoc (Tokmakov et al. 2016, section 4.5)."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.motion_masks import MotionMasks
from datamodules.progress import follow
from datamodules.records import VideoRecord
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from modules.distributed import gather_lists, own_share
from modules.segmenter import Segmenter
from pseudolabel.boxes import corloc, largest_box, mean_corloc
from pseudolabel.colocalise import ColocaliseSettings, colocalise
from pseudolabel.types import BoolArray, FloatArray, UInt8Array
from recipes.workspace import Workspace

FRAMES_AT_ONCE = 32


def score_colocalisation(
    workspace: Workspace,
    segmenter: Segmenter,
    masks: MotionMasks,
    records: Sequence[VideoRecord],
    folder: Path,
    *,
    num_superpixels: int,
    compactness: float,
    settings: ColocaliseSettings,
) -> dict[str, Any]:
    """Return CorLoc of the model and of the motion segments alone, per class and as the mean over classes.

    All frames of a video shape its colour models; those with a true mask are scored, against the box around the class's
    true pixels. A frame whose mask does not show the class is not scored.

    Args:
        workspace: the data.
        segmenter: the model.
        masks: the motion segments of all frames.
        records: videos with true masks and tags; others are passed over.
        folder: gets the model's boxes, one ``<video>.csv`` for each scored video.
        num_superpixels: per frame.
        compactness: of the superpixels.
        settings: of the energy.
    """
    own = [record for record in own_share(records) if record.annotated and masks.is_written(record.name)]
    scored: list[tuple[str, FloatArray, FloatArray, FloatArray]] = []  # class, box of the model, of motion, true box
    for record in follow(own, "co-localisation", least=4):
        moved = masks.open(record.name)
        boxes_of: dict[str, FloatArray] = {}
        for tag in record.tags:
            label = workspace.space.index(tag)
            with _video_on_disk(workspace, segmenter, record, label) as (frames, scores):
                found = colocalise(
                    frames, scores, 1, num_superpixels=num_superpixels, compactness=compactness, settings=settings
                )
            boxes_of[str(tag)] = found.boxes
            for frame in record.annotated:
                if frame >= min(len(found.boxes), len(moved)):
                    continue
                truth = workspace.truth(record, frame, moved.size)
                if truth is not None and (truth == label).any():
                    boxes = found.boxes[frame], largest_box(moved[frame]), enclosing_box(truth == label)
                    scored.append((str(tag), *boxes))
        _write_boxes(folder, record, boxes_of, moved.size)
    every = gather_lists(scored)
    classes: dict[str, dict[str, float]] = {}
    for name in sorted({row[0] for row in every}):
        rows = [row for row in every if row[0] == name]
        truths = [row[3][None] for row in rows]
        model, motion = (corloc(np.stack([row[k] for row in rows]), truths) for k in (1, 2))
        classes[name] = {"model": round(model, 5), "motion": round(motion, 5), "frames": len(rows)}
    if not classes:
        return {}
    mean = {key: round(mean_corloc({name: c[key] for name, c in classes.items()}), 5) for key in ("model", "motion")}
    return {**mean, "classes": classes}


def enclosing_box(mask: BoolArray) -> FloatArray:
    """Return the box around all pixels of a mask (H, W) that is not empty: float32 (4,), x0, y0, x1, y1."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _write_boxes(folder: Path, record: VideoRecord, boxes_of: dict[str, FloatArray], size: tuple[int, int]) -> None:
    """Write ``<video>.csv``: a line for every box, in pixels of the source video; x1, y1 lie beyond the last pixel.

    Args:
        folder: of the files.
        record: the video.
        boxes_of: class -> (T, 4), x0, y0, x1, y1; NaN where nothing is found.
        size: (height, width) of the frames in which the boxes were found.
    """
    height, width = VideoReader(record.path).size
    scale = np.array([width / size[1], height / size[0]] * 2)
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{record.name}.csv"
    partial = final.with_name(f".{final.name}.{os.getpid()}")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("frame", "class", "x0", "y0", "x1", "y1"))
        for name, boxes in boxes_of.items():
            for frame in np.flatnonzero(np.isfinite(boxes).all(axis=1)):
                writer.writerow((int(frame), name, *(round(float(side), 1) for side in boxes[frame] * scale)))
    partial.replace(final)


@contextmanager
def _video_on_disk(
    workspace: Workspace, segmenter: Segmenter, record: VideoRecord, label: int
) -> Iterator[tuple[UInt8Array, npt.NDArray[np.float16]]]:
    """Give a video's frames, and its scores (T, 2, H, W) of background and one class, as memory maps.

    Long videos would not fit into memory.
    """
    reader = VideoReader(record.path)
    height, width = fit_longest_side(reader.size, workspace.cfg.data.max_side)
    with tempfile.TemporaryDirectory() as folder:
        shape = (len(reader), height, width)
        frames = np.lib.format.open_memmap(Path(folder) / "frames.npy", "w+", np.uint8, (*shape, 3))
        scores = np.lib.format.open_memmap(Path(folder) / "scores.npy", "w+", np.float16, (shape[0], 2, *shape[1:]))
        for start, part in reader.chunks(FRAMES_AT_ONCE):
            here = slice(start, start + len(part))
            frames[here] = np.stack([resize(frame, (height, width)) for frame in part])
            scores[here] = segmenter.predict_scores(np.asarray(frames[here]))[:, [0, label]]
        yield frames, scores
