"""Annotators: from a clip and its evidence, or the network's scores, to a pseudo-annotation (Chen et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pseudolabel.attention import label_by_attention, normalize, otsu_levels, otsu_mask, resize_maps
from pseudolabel.decision import EVEN
from pseudolabel.refine import refine_labels
from pseudolabel.sharpen import Sharpener
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import VOID, Annotation, BoolArray, Clip, FloatArray, LabelSpace, Scores, UInt8Array, is_object


class SlicRefiner:
    """Algorithm 2 on whole clips.

    Args:
        space: the label space.
        slic: ``n`` and ``compactness``.
        refine: ``alpha``, ``beta``, ``overlap``.
        enabled: False leaves the labels as they are (ablation).
    """

    def __init__(
        self, space: LabelSpace, slic: dict[str, Any], refine: dict[str, Any], *, enabled: bool = True
    ) -> None:
        self.num_classes, self.slic, self.options, self.enabled = space.num_classes, slic, refine, enabled

    def __call__(self, frames: UInt8Array, labels: UInt8Array) -> UInt8Array:
        """Refine labels (T, H, W) of frames (T, H, W, 3); a frame whose object would vanish keeps its raw labels."""
        if not self.enabled:
            return labels
        refined = np.empty_like(labels)
        for t, (frame, raw) in enumerate(zip(frames, labels, strict=True)):
            superpixels = segment_superpixels(frame, **self.slic)
            refined[t] = refine_labels(raw, superpixels, num_classes=self.num_classes, **self.options)
            if not is_object(refined[t]).any():
                refined[t] = raw
        return refined


class AttentionAnnotator:
    """PA.v0: Otsu on each attention map, union of the cues, SLIC refinement (Sec. 3.1 and 4).

    Reads ``clip.evidence["actor"]`` and ``["action"]``, float32 (len(tags), T, h, w).
    """

    def __init__(self, space: LabelSpace, refiner: SlicRefiner) -> None:
        self.space, self.refiner = space, refiner

    def __call__(self, clip: Clip, scores: Scores | None) -> Annotation:
        """Annotate a clip from its attention maps."""
        ids = [self.space.index(tag) for tag in clip.tags]
        size = clip.frames.shape[1:3]
        cues = [normalize(resize_maps(maps, size)) for maps in clip.evidence.values()]  # each (K, T, H, W)
        labels = np.zeros(clip.frames.shape[:3], np.uint8)
        quality = np.zeros(len(labels), np.float32)
        for t in range(len(labels)):
            masks = np.any([[otsu_mask(cue[k, t]) for k in range(len(ids))] for cue in cues], axis=0)  # (K, H, W)
            attention = np.mean([cue[:, t] for cue in cues], axis=0)
            labels[t] = label_by_attention(attention, masks, ids)
            if (labels[t] > 0).any():
                quality[t] = attention.max(axis=0)[labels[t] > 0].mean()
        return Annotation(self.refiner(clip.frames, labels), quality)


class PredictionAnnotator:
    """PA.v1 and later: the network's refined prediction, restricted to the video's tags (SPEC S-f).

    ``decision="argmax"`` is the literal reading: scores of classes that are no tag of the video are dropped and the
    highest of the rest wins.

    ``decision="object_first"`` asks first whether a pixel is foreground at all: where the scores of all foreground
    classes together exceed 0.5, the best of the video's tags wins. A network that is torn between two actions of an
    actor gives none of them half of its score, and ``"argmax"`` would call the actor background.

    ``decision="otsu"`` keeps what the network is sure of. The scores of all foreground classes count together (a
    network that is torn between actions still finds the actor); over a video they fall into three groups by Otsu's own
    criterion: background, unsure and sure. A network that learned from blobs is unsure in their halos, so only sure
    pixels become foreground; they take the best of the video's tags. ``unsure`` says what the middle group becomes.

    ``decision="expected"`` takes as many pixels of a frame as foreground is expected there, see
    :func:`expected_foreground`.

    Args:
        space: the label space.
        refiner: fits raw labels to the frames.
        decision: ``"otsu"``, ``"object_first"``, ``"expected"`` or ``"argmax"``.
        unsure: ``"background"`` or ``"void"`` (neither trained on nor scored); of ``"otsu"``.
        sharpener: fits what is decided, all objects as one, to colours before the refiner does; None = without.
    """

    def __init__(
        self,
        space: LabelSpace,
        refiner: SlicRefiner,
        *,
        decision: str = "otsu",
        unsure: str = "background",
        sharpener: Sharpener | None = None,
    ) -> None:
        self.space, self.refiner, self.decision, self.unsure = space, refiner, decision, unsure
        self.sharpener = sharpener

    def __call__(self, clip: Clip, scores: Scores | None) -> Annotation:
        """Annotate a clip from the present network's scores (T, C, H, W)."""
        if scores is None:
            raise ValueError("predictions are refined from scores, got None")
        tags = np.flatnonzero(self.space.allowed(clip.tags))[1:]
        within = scores[:, tags]
        best = tags[within.argmax(axis=1)].astype(np.uint8)
        foreground = within.max(axis=1) if self.decision == "argmax" else 1 - scores[:, 0]
        rival = scores[:, 0] if self.decision == "argmax" else 1 - foreground
        likely = np.zeros(foreground.shape, bool)
        if self.decision == "otsu":
            likely, objects = sure_foreground(foreground)
        elif self.decision == "expected":
            objects = expected_foreground(foreground)
        else:
            objects = foreground > rival
        if self.sharpener is not None:
            share = np.asarray(foreground / np.maximum(foreground + rival, np.finfo(np.float32).tiny), np.float32)
            objects = self.sharpener(clip.frames, share, objects)
        unsure = likely & ~objects if self.unsure == "void" else np.zeros(objects.shape, bool)
        raw = np.where(objects, best, np.where(unsure, VOID, 0)).astype(np.uint8)
        quality = [float(f[o].mean()) if o.any() else 0.0 for f, o in zip(foreground, objects, strict=True)]
        return Annotation(self.refiner(clip.frames, raw), np.asarray(quality, np.float32))


def expected_foreground(foreground: FloatArray, *, least: float = 0.2) -> BoolArray:
    """Take as many pixels of each frame, the likeliest, as foreground is expected there: the sum of its scores.

    A network's scores tell how often its labels were foreground. So their sum is the area that it would label if it
    saw sharply; no threshold shrinks or swells what it learned from one version to the next. (The dense CRF behind it
    takes away what no colour supports.)

    Args:
        foreground: float32 (T, H, W) in [0, 1].
        least: a frame without any higher score has no object, and a pixel of a lower one is none: many small scores
            are no object.

    Returns:
        bool (T, H, W).
    """
    flat = foreground.reshape(len(foreground), -1)
    counts = np.rint(flat.sum(axis=1, dtype=np.float64)).astype(int)
    chosen = np.zeros(flat.shape, bool)
    for row, count, found in zip(flat, counts, chosen, strict=True):
        if count > 0 and row.max() > row.min():
            found[:] = row >= max(np.partition(row, -count)[-count], least)
    return chosen.reshape(foreground.shape)


def sure_foreground(foreground: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Part a video's pixels by their foreground score into background, unsure and sure (three-class Otsu).

    The upper threshold is not let below 0.5 if any pixel of the video reaches that. A frame without a sure pixel keeps
    its likely ones of 0.5 and more: an object does not vanish because it is surer in other frames.

    Args:
        foreground: float32 (T, H, W) in [0, 1].

    Returns:
        bool (T, H, W) unsure or sure, and bool (T, H, W) sure.
    """
    lower, upper = otsu_levels(foreground)
    if foreground.max() > EVEN:
        upper = max(upper, EVEN)
    sure = foreground > upper
    empty = ~sure.any(axis=(1, 2))
    sure[empty] = foreground[empty] > EVEN
    return np.asarray((foreground > min(lower, EVEN)) | sure), np.asarray(sure)
