"""The labels of M-CNN's shots as versions on disk, and their pictures: v0 = motion segments, then every stage's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger

from callbacks.pictures import Pictures
from datamodules.shot_store import ShotRecord, ShotStore
from modules.segmenter import Segmenter
from pseudolabel.decision import decide
from pseudolabel.label_prediction import SEGMENT
from pseudolabel.labellers import make_labeller
from pseudolabel.store import PAStore
from pseudolabel.types import Annotation, Clip, FloatArray, LabelSpace, UInt8Array
from recipes.workspace import Workspace

Shots = Mapping[str, Sequence[ShotRecord]]
"""Name of a video -> its shots."""

ShotLabeller = Callable[[ShotRecord, UInt8Array, FloatArray], tuple[UInt8Array, FloatArray]]
"""(shot, frames (T, H, W, 3), motion (T, H, W)) -> labels uint8 (T, H, W), quality float32 (T,) in [0, 1]."""


def motion_labels(space: LabelSpace) -> ShotLabeller:
    """Return what labels a shot with its hard motion segments; quality is the mean probability within a segment."""
    hard = make_labeller("hard")

    def label(shot: ShotRecord, frames: UInt8Array, motion: FloatArray) -> tuple[UInt8Array, FloatArray]:
        allowed = np.repeat(space.allowed(shot.tags)[None], len(frames), axis=0)
        alike = np.broadcast_to(np.float32(1 / allowed[0].sum()), (*allowed.shape, *motion.shape[1:]))
        labels = hard(frames, allowed, alike, motion, np.ones(motion.shape, bool))
        quality = [float(m[m > SEGMENT].mean()) if (m > SEGMENT).any() else 0.0 for m in motion]
        return labels, np.array(quality, np.float32)

    return label


def predicted_labels(segmenter: Segmenter) -> ShotLabeller:
    """Return what labels a shot with a network's decision; quality is the mean score of the classes it decides on."""

    def label(shot: ShotRecord, frames: UInt8Array, motion: FloatArray) -> tuple[UInt8Array, FloatArray]:
        scores = segmenter.predict_scores(frames)  # (T, C, H, W)
        labels = decide(scores, segmenter.decision)
        chosen = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)[:, 0]
        return labels, chosen.mean(axis=(1, 2)).astype(np.float32)

    return label


class ShotVersions:
    """Writes labels of the sampled frames of all shots as a version of ``<run>/pa`` and draws it.

    Args:
        run: the run folder.
        workspace: the data.
        store: the shots.
        shots: those to be labelled, by video.
        loggers: Lightning loggers; wandb among them gets the pictures.
    """

    def __init__(
        self, run: Path, workspace: Workspace, store: ShotStore, shots: Shots, *, loggers: Sequence[Logger] = ()
    ) -> None:
        self.workspace, self.store, self.shots = workspace, store, shots
        self.versions = PAStore(run / "pa")
        self.pictures = Pictures(
            run / "pictures", ShotPictures(workspace, store, shots), self.versions, loggers=loggers
        )

    def write(self, version: int, label: ShotLabeller) -> None:
        """Write and draw a version unless it is there; scores and motion of one shot at a time are in memory."""
        if version in self.versions.versions():
            return
        self.versions.begin(version)
        for name, shots in self.shots.items():
            if not self.versions.is_written(version, name):
                self.versions.write(version, *self._annotate(name, shots, label))
        self.versions.publish(version)
        self.pictures.draw(version)

    def _annotate(self, name: str, shots: Sequence[ShotRecord], label: ShotLabeller) -> tuple[Clip, Annotation]:
        parts = []
        for shot in shots:
            frames, indices, motion = self.store.read(shot.name)
            parts.append((frames, indices, *label(shot, frames, motion)))
        frames, indices, labels, quality = (np.concatenate(part) for part in zip(*parts, strict=True))
        record = self.workspace.by_name[name]
        clip = Clip(frames, indices, name, self.workspace.cache.fps(record), record.tags)
        return clip, Annotation(labels, quality)


class ShotPictures:
    """One frame of every video's shots, as :class:`callbacks.pictures.Pictures` wants it.

    Args:
        workspace: the data.
        store: the shots.
        shots: by video.
    """

    def __init__(self, workspace: Workspace, store: ShotStore, shots: Shots) -> None:
        self.workspace, self.store, self.shots = workspace, store, shots
        self.by_name: dict[str, Any] = {name: workspace.by_name[name] for name in shots}

    def clip(self, name: str) -> Clip:
        """Return one frame: that with a true mask which is nearest to the middle of its shot, else a middle one."""
        record = self.by_name[name]
        candidates = []  # (no mask, distance from the middle, shot, position)
        for number, shot in enumerate(self.shots[name]):
            _, indices, _ = self.store.read(shot.name)
            middle = len(indices) // 2
            candidates += [(int(i) not in record.annotated, abs(p - middle), number, p) for p, i in enumerate(indices)]
        _, _, number, position = min(candidates)
        frames, indices, _ = self.store.read(self.shots[name][number].name)
        here = slice(position, position + 1)
        return Clip(frames[here], indices[here], name, self.workspace.cache.fps(record), record.tags)

    def truth(self, record: Any, frame: int, size: tuple[int, int]) -> Any:
        """Return a true mask or None; shown, never used."""
        return self.workspace.truth(record, frame, size)
