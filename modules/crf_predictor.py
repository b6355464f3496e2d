"""A predictor whose scores are sharpened by the dense CRF, as DeepLab-CRF tests (Chen et al. 2015; SPEC H3, H-j)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np

from modules.predictors import Predictor
from pseudolabel.refine import dense_crf
from pseudolabel.types import DataError, FloatArray, UInt8Array, nearest_name

_TINY = np.float32(1e-12)  # a pixel without any object has no shares


class CrfPredictor:
    """Another predictor, followed by mean-field steps of the fully connected CRF on every frame.

    Where an object is decided on first, whichever it is, the CRF parts all objects together from the background: class
    by class they would lose against it. Their shares of what is object stay.

    Args:
        predictor: gives the unary scores.
        options: of :func:`pseudolabel.refine.dense_crf`.
    """

    def __init__(self, predictor: Predictor, **options: Any) -> None:
        self.predictor, self.options = predictor, options
        self.space, self.max_side, self.decision = predictor.space, predictor.max_side, predictor.decision

    def predict_scores(self, frames: UInt8Array, *, batch_size: int = 16) -> FloatArray:
        """Return scores float32 (T, C, H, W) of sum 1 over the classes for frames uint8 (T, H, W, 3).

        Raises:
            DataError: the package pydensecrf2 is not installed.
        """
        scores = self.predictor.predict_scores(frames, batch_size=batch_size)
        if self.decision == "likeliest":
            return np.stack([dense_crf(one, frame, **self.options) for one, frame in zip(scores, frames, strict=True)])
        objects = scores[:, 1:] / np.maximum(scores[:, 1:].sum(axis=1, keepdims=True), _TINY)
        both = np.stack([scores[:, 0], 1 - scores[:, 0]], axis=1)
        sharp = np.stack([dense_crf(one, frame, **self.options) for one, frame in zip(both, frames, strict=True)])
        return np.concatenate([sharp[:, :1], objects * sharp[:, 1:]], axis=1)


def with_crf(predictor: Predictor, options: Mapping[str, Any]) -> Predictor:
    """Return the predictor, followed by the dense CRF if that is wanted.

    Args:
        predictor: gives the unary scores.
        options: of :func:`pseudolabel.refine.dense_crf`, and ``enabled``, which is false if it is missing.
    """
    chosen = dict(options)
    enabled = chosen.pop("enabled", False)
    return CrfPredictor(predictor, **chosen) if enabled else predictor


def check_crf(options: Mapping[str, Any], key: str = "crf") -> None:
    """Refuse a dense CRF that cannot run here, before any training.

    Args:
        options: with ``enabled``.
        key: where they stand in the configuration.

    Raises:
        DataError: ``enabled``, but the package pydensecrf2 is not installed; an option that is unknown or out of range
            (a reach of 0 would end the process).
    """
    known = [name for name in signature(dense_crf).parameters if name not in ("scores", "frame")]
    for name, value in options.items():
        if name == "enabled":
            if not isinstance(value, bool):
                raise DataError(f"{key}.enabled must be true or false, got {value!r}.")
            continue
        if name not in known:
            raise DataError(f"{key} has no option '{name}'{nearest_name(name, known)} Known: {', '.join(known)}.")
        above = name.endswith(("_xy", "_rgb")) or name == "floor"
        number = isinstance(value, int if name == "iterations" else int | float) and not isinstance(value, bool)
        if not (number and 0 <= value < float("inf") and (value > 0 or not above)):
            kind = "a whole number of at least 0" if name == "iterations" else "above 0" if above else "at least 0"
            raise DataError(f"{key}.{name} must be {kind}, got {value!r}.")
    if options["enabled"] and find_spec("pydensecrf") is None:
        raise DataError(
            f"{key}.enabled=true needs the package pydensecrf2. Install it (make install), or switch it off."
        )
