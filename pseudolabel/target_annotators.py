"""Annotators of two-class data: the tag decides first, then the method (Liang et al. 2017, Sec. 3.2 and 4.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pseudolabel.labellers import EmAdaptLabeller
from pseudolabel.types import Annotation, Annotator, BoolArray, Clip, DataError, Scores

TARGET = 1
"""Class id of the target; 0 is background."""


@dataclass(frozen=True)
class TaggedOnly:
    """Videos without the target's tag are background everywhere; the others go to another annotator.

    Attributes:
        annotator: of the videos that carry the tag.
    """

    annotator: Annotator

    def __call__(self, clip: Clip, scores: Scores | None) -> Annotation:
        """Annotate a clip."""
        if clip.tags:
            return self.annotator(clip, scores)
        return Annotation(np.zeros(clip.frames.shape[:3], np.uint8), np.ones(len(clip.frames), np.float32))


@dataclass(frozen=True)
class ImageLevelAnnotator:
    """The frame's tag alone as supervision, by EM-Adapt's E-step (Sec. 4.4, as Papandreou et al. 2015).

    The quality of a frame is the share of it that the network, asked without its tag, calls foreground: "EM" drops
    frames of less than a tenth.

    Attributes:
        start: scores of the network before any training, (T, H, W, 3) -> (T, C, H, W); they make version 0.
        labeller: the E-step.
    """

    start: Callable[[np.ndarray], Scores]
    labeller: EmAdaptLabeller = field(default_factory=EmAdaptLabeller)

    def __call__(self, clip: Clip, scores: Scores | None) -> Annotation:
        """Annotate a clip.

        Raises:
            DataError: as :func:`pseudolabel.em_adapt.em_adapt_labels`.
        """
        first = scores is None
        known = self.start(clip.frames) if scores is None else scores
        if known.shape[1] != TARGET + 1:
            raise DataError(f"Video '{clip.name}': expected scores of background and target, got {known.shape[1]}.")
        allowed: BoolArray = np.ones(known.shape[:2], bool)
        labels = self.labeller(clip.frames, allowed, known, None, np.ones(clip.frames.shape[:3], bool))
        share = (known.argmax(axis=1) == TARGET).mean(axis=(1, 2))
        return Annotation(labels, np.ones(len(labels), np.float32) if first else share.astype(np.float32))
