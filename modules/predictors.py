"""What every segmenter offers, whichever paper it is from, and how a checkpoint of any of them is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from modules.attention_decoder import AttentionDecoder
from modules.checkpoints import read_checkpoint
from modules.segmenter import Segmenter
from pseudolabel.decision import Decision
from pseudolabel.types import DataError, FloatArray, LabelSpace, UInt8Array


class Predictor(Protocol):
    """Gives every pixel of a frame a score for every class.

    Attributes:
        space: its classes.
        max_side: longer side of the frames it was trained on, in pixels; None = any.
        decision: how a class is chosen by the scores.
    """

    space: LabelSpace
    max_side: int | None
    decision: Decision

    def predict_scores(self, frames: UInt8Array, *, batch_size: int = 16) -> FloatArray:
        """Return scores float32 (T, C, H, W) of sum 1 over the classes for frames uint8 (T, H, W, 3)."""
        ...


KINDS: dict[str, Any] = {"Segmenter": Segmenter, "AttentionDecoder": AttentionDecoder}
"""By the name that a checkpoint carries."""


def load_predictor(path: str | Path) -> Segmenter | AttentionDecoder:
    """Load a segmenter of any recipe, without running code from the checkpoint.

    Raises:
        DataError: unreadable, or of another kind, such as a classifier of tags.
    """
    kind = read_checkpoint(path).get("kind", "Segmenter")
    if kind not in KINDS:
        raise DataError(
            f"{path} holds a {kind}, expected one of {', '.join(KINDS)}. Give the checkpoint of a segmenter, such as "
            "runs/<name>/segmenter/best.ckpt."
        )
    loaded: Segmenter | AttentionDecoder = KINDS[kind].load(path)
    return loaded
