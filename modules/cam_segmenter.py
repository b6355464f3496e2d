"""Attention maps taken as a segmentation: the baseline that the decoder of Hong et al. 2017 has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from modules.encoder2d import Encoder2D
from modules.image_inference import CLASS_THRESHOLD, segment_images, stretch
from pseudolabel.decision import Decision
from pseudolabel.types import FloatArray, LabelSpace, UInt8Array


class CamSegmenter:
    """The encoder's CAM, stretched to [0, 1], in place of the decoder's foreground probability.

    Args:
        encoder: the classifier.
        space: the classes, all of them the encoder's.
        scales: of the attention; the maximum over them counts.
        class_threshold: probability from which an image shows a class.

    Attributes:
        space: as given.
        max_side: None, frames of any size.
        decision: the likeliest class.
    """

    max_side: int | None = None
    decision: Decision = "likeliest"

    def __init__(
        self,
        encoder: Encoder2D,
        space: LabelSpace,
        *,
        scales: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
        class_threshold: float = CLASS_THRESHOLD,
    ) -> None:
        self.encoder, self.space, self.class_threshold = encoder, space, class_threshold
        self.scales = tuple(scales)
        self._columns = [encoder.classes.index(str(tag)) for tag in space.tags]

    def predict_scores(self, frames: UInt8Array, *, batch_size: int = 16) -> FloatArray:
        """Return float32 (T, C, H, W) of sum 1 for frames uint8 (T, H, W, 3); class 0 is background."""
        maps, answers = self.encoder.look(
            frames, self._columns, scales=self.scales, method="cam", reduce="max", batch_size=batch_size
        )
        attention = stretch(torch.from_numpy(maps)).transpose(0, 1)  # (K, T, H, W) -> (T, K, H, W)
        scores = segment_images(
            torch.from_numpy(answers)[:, self._columns],
            lambda classes: attention[:, classes],
            lambda _, chosen: chosen[:, 0],
            size=(frames.shape[1], frames.shape[2]),
            threshold=self.class_threshold,
        )
        return scores.numpy()
