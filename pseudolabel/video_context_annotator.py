"""The annotator of recipe `human`: masks of a video's key frames from its context and the network's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pseudolabel.types import Annotation, Clip, DataError, Scores
from pseudolabel.video_context import VideoContext
from pseudolabel.video_context_energy import VideoContextSettings, infer_masks


@dataclass(frozen=True)
class VideoContextAnnotator:
    """An :data:`~pseudolabel.types.Annotator` (Liang et al. 2017, Sec. 3.2); can be pickled if ``load`` can.

    Attributes:
        load: returns the context of a video by its name.
        label: class id of the object, 1..254.
        settings: of the energy.
    """

    load: Callable[[str], VideoContext]
    label: int = 1
    settings: VideoContextSettings = field(default_factory=VideoContextSettings)

    def __call__(self, clip: Clip, scores: Scores | None) -> Annotation:
        """Annotate a clip whose frames are the video's key frames.

        Args:
            clip: with the frames of the context, in order and at its size.
            scores: float32 (T, C, H, W), softmax scores of the present network; None at v0.

        Raises:
            DataError: the clip's frames are not those of the context, or as
                :func:`pseudolabel.video_context_energy.infer_masks`.
        """
        context = self.load(clip.name)
        if not np.array_equal(clip.indices, context.indices) or clip.frames.shape[1:3] != context.size:
            raise DataError(
                f"Video '{clip.name}': the clip has frames {_short(clip.indices)} of size {clip.frames.shape[1:3]}, "
                f"the context has {_short(context.indices)} of size {context.size}. Read the key frames that the "
                "context names, at the size at which it was made, or make the context anew."
            )
        try:
            return infer_masks(context, scores, self.settings, label=self.label)
        except DataError as error:
            raise DataError(f"Video '{clip.name}': {error}") from error


def _short(indices: np.ndarray) -> str:
    listed = ", ".join(map(str, indices[:4]))
    return f"[{listed}{', ...' if len(indices) > 4 else ''}] ({len(indices)})"
