"""Annotators: from a clip and its evidence, or the network's scores, to a pseudo-annotation (Chen et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pseudolabel.attention import label_by_attention, normalize, otsu_mask, resize_maps
from pseudolabel.refine import refine_labels
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import Annotation, Clip, LabelSpace, Scores, UInt8Array


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
            if not refined[t].any():
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

    The tags say which classes the foreground can be. With ``mass``, the scores of all foreground classes count
    together, a pixel is foreground where they reach ``threshold``, and it takes the best of the video's tags: a network
    that is torn between actions still finds the actor, and the halo of the blobs of PA.v0, of which it is unsure, is
    shed.
    ``argmax`` is the literal reading: the scores of other classes are dropped and the highest of the rest wins.
    """

    def __init__(
        self, space: LabelSpace, refiner: SlicRefiner, *, decision: str = "mass", threshold: float = 0.8
    ) -> None:
        self.space, self.refiner, self.decision, self.threshold = space, refiner, decision, threshold

    def __call__(self, clip: Clip, scores: Scores | None) -> Annotation:
        """Annotate a clip from the present network's scores (T, C, H, W)."""
        if scores is None:
            raise ValueError("predictions are refined from scores, got None")
        tags = np.flatnonzero(self.space.allowed(clip.tags))[1:]
        within = scores[:, tags]
        if self.decision == "mass":
            foreground = 1 - scores[:, 0]
            surest = foreground.max(axis=(1, 2), keepdims=True)  # a frame without any sure pixel keeps its likely ones
            inside = foreground >= np.where(surest >= self.threshold, self.threshold, 0.5)
        else:
            foreground = within.max(axis=1)
            inside = foreground > scores[:, 0]
        raw = np.where(inside, tags[within.argmax(axis=1)], 0).astype(np.uint8)
        quality = [float(f[r > 0].mean()) if (r > 0).any() else 0.0 for f, r in zip(foreground, raw, strict=True)]
        return Annotation(self.refiner(clip.frames, raw), np.asarray(quality, np.float32))
