"""Labellers: ways to turn frames, tags, scores and motion into labels, behind one signature (the E-steps of `mcnn`).

Tokmakov et al. 2016: label prediction (Sec. 3.3), motion segments as labels and EM-Adapt (the rows "hard" and
"EM-Adapt" of Table 1), and the network's prediction alone (Sec. 4.4, images). All of them can be pickled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from pseudolabel.em_adapt import em_adapt_labels
from pseudolabel.label_prediction import SEGMENT, LabelPredictionSettings, predict_labels
from pseudolabel.types import VOID, BoolArray, DataError, FloatArray, Scores, UInt8Array, nearest_name


class Labeller(Protocol):
    """A way to label the frames of a shot, or still images."""

    def __call__(
        self, frames: UInt8Array, allowed: BoolArray, scores: Scores, motion: FloatArray | None, valid: BoolArray
    ) -> UInt8Array:
        """Label frames.

        Args:
            frames: uint8 (T, H, W, 3), RGB.
            allowed: bool (T, C), the tags of every frame; background is always allowed.
            scores: float32 (T, C, H, W), softmax scores in [0, 1].
            motion: float32 (T, H, W) in [0, 1], soft motion segmentation; None = unknown.
            valid: bool (T, H, W), pixels that exist.

        Returns:
            uint8 (T, H, W), class ids allowed in the frame, 255 = void exactly where not valid.
        """
        ...


@dataclass(frozen=True)
class MotionLabeller:
    """Label prediction on one shot: all frames share their tags. Without motion, the scores alone decide."""

    settings: LabelPredictionSettings = field(default_factory=LabelPredictionSettings)

    def __call__(
        self, frames: UInt8Array, allowed: BoolArray, scores: Scores, motion: FloatArray | None, valid: BoolArray
    ) -> UInt8Array:
        """See :class:`Labeller`.

        Raises:
            DataError: the frames differ in their tags, or as :func:`pseudolabel.label_prediction.predict_labels`.
        """
        _check(frames, allowed, scores)
        if (allowed[:, 1:] != allowed[:1, 1:]).any():
            raise DataError(
                "Motion labeller: all frames of a shot share its tags, got frames of different tags. Give one shot at "
                "a time, or use the labeller 'network' for still images."
            )
        return predict_labels(frames, scores, _tags(allowed[0]), motion=motion, valid=valid, settings=self.settings)


@dataclass(frozen=True)
class HardLabeller:
    """The motion segment (probability > 0.5) is the object; of several tags, the best-scored at each pixel."""

    def __call__(
        self, frames: UInt8Array, allowed: BoolArray, scores: Scores, motion: FloatArray | None, valid: BoolArray
    ) -> UInt8Array:
        """See :class:`Labeller`.

        Raises:
            DataError: there is no motion segmentation, or shapes do not fit.
        """
        _check(frames, allowed, scores)
        if motion is None or motion.shape != frames.shape[:3]:
            got = None if motion is None else motion.shape
            raise DataError(
                f"Hard labeller: motion must be {frames.shape[:3]}, got {got}. Segment the motion first, or use the "
                "labeller 'network' or 'em_adapt' for still images."
            )
        labels = np.zeros(motion.shape, np.uint8)
        for t, segment in enumerate(motion > SEGMENT):
            tags = _tags(allowed[t])
            if tags:
                best = np.array(tags, np.uint8)[scores[t, tags].argmax(axis=0)]
                labels[t, segment] = best[segment]
        return np.where(valid, labels, np.uint8(VOID))


@dataclass(frozen=True)
class EmAdaptLabeller:
    """EM-Adapt's E-step on every frame by itself; fields as of :func:`pseudolabel.em_adapt.em_adapt_labels`."""

    background: float = 0.4
    foreground: float = 0.2
    iterations: int = 5
    margin: float = 1e-5
    seed: int = 0

    def __call__(
        self, frames: UInt8Array, allowed: BoolArray, scores: Scores, motion: FloatArray | None, valid: BoolArray
    ) -> UInt8Array:
        """See :class:`Labeller`; motion is not looked at.

        Raises:
            DataError: as :func:`pseudolabel.em_adapt.em_adapt_labels`.
        """
        _check(frames, allowed, scores)
        labels = [
            em_adapt_labels(
                scores[t],
                _tags(allowed[t]),
                background=self.background,
                foreground=self.foreground,
                iterations=self.iterations,
                margin=self.margin,
                seed=self.seed,
                valid=valid[t],
            )
            for t in range(len(frames))
        ]
        return np.stack(labels)


@dataclass(frozen=True)
class NetworkLabeller:
    """The energy with "only the network prediction component", frame by frame, each with its own tags."""

    settings: LabelPredictionSettings = field(default_factory=LabelPredictionSettings)

    def __call__(
        self, frames: UInt8Array, allowed: BoolArray, scores: Scores, motion: FloatArray | None, valid: BoolArray
    ) -> UInt8Array:
        """See :class:`Labeller`; motion is not looked at.

        Raises:
            DataError: as :func:`pseudolabel.label_prediction.predict_labels`.
        """
        _check(frames, allowed, scores)
        labels = np.empty(frames.shape[:3], np.uint8)
        for t in range(len(frames)):
            one = slice(t, t + 1)
            labels[one] = predict_labels(
                frames[one], scores[one], _tags(allowed[t]), motion=None, valid=valid[one], settings=self.settings
            )
        return labels


LABELLERS: dict[str, Callable[..., Labeller]] = {
    "motion": MotionLabeller,
    "hard": HardLabeller,
    "em_adapt": EmAdaptLabeller,
    "network": NetworkLabeller,
}
"""Labellers by name."""


def make_labeller(name: str, **options: Any) -> Labeller:
    """Return a labeller.

    Args:
        name: a key of ``LABELLERS``.
        options: its fields; for ``"motion"`` and ``"network"`` also those of
            :class:`pseudolabel.label_prediction.LabelPredictionSettings`, e.g. ``alpha=2.0``.

    Raises:
        DataError: the name or an option is unknown (names the nearest one), or a value is out of its range.
    """
    if name not in LABELLERS:
        raise DataError(f"Unknown labeller '{name}'{nearest_name(name, LABELLERS)} Known: {', '.join(LABELLERS)}.")
    known = list(inspect.signature(LABELLERS[name]).parameters)
    fields = list(LabelPredictionSettings.__dataclass_fields__) if "settings" in known else []
    for option in options:
        if option not in known + fields:
            hint = nearest_name(option, known + fields)
            raise DataError(
                f"Labeller '{name}': unknown option '{option}'{hint} Known: {', '.join(known + fields) or 'none'}."
            )
    changes = {option: value for option, value in options.items() if option in fields}
    own = {option: value for option, value in options.items() if option in known}
    if changes:
        own["settings"] = replace(own.get("settings", LabelPredictionSettings()), **changes)
    return LABELLERS[name](**own)


def _tags(allowed: BoolArray) -> list[int]:
    return [int(label) for label in np.flatnonzero(allowed) if label > 0]


def _check(frames: UInt8Array, allowed: BoolArray, scores: Scores) -> None:
    if allowed.ndim != 2 or len(allowed) != len(frames) or allowed.dtype != bool:
        raise DataError(
            f"Labeller: allowed must be bool ({len(frames)}, C), one row per frame, got {allowed.dtype} "
            f"{allowed.shape}."
        )
    expected = (*allowed.shape, *frames.shape[1:3])
    if scores.shape != expected:
        raise DataError(f"Labeller: scores must be (T, C, H, W) = {expected}, got {scores.shape}. Resize them.")
