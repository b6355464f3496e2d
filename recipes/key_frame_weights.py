"""Which key frames train the next network, and how much each counts (Liang et al. 2017, Sec. 3.2, Eq. 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

import numpy as np
from omegaconf import DictConfig

from pseudolabel.key_frame_selection import choose_key_frames, choose_negatives, count_negatives
from pseudolabel.store import Index, PAStore
from pseudolabel.types import FloatArray


class KeyFrameSelector:
    """The best key frames of every shot weighed by their quality, and frames in which nothing was detected.

    Args:
        training: keeps the rows of an index that belong to training.
        store: the versions; the present one seeds the draw of the negatives.
        shots: video -> frame -> number of its shot.
        undetected: video -> frames in which the detector found nothing.
        options: ``most`` key frames per shot, ``weighting`` and ``negatives`` (their share of all that train).
        seed: of the draw.
    """

    def __init__(
        self,
        training: Callable[[Index], Index],
        store: PAStore,
        shots: Mapping[str, Mapping[int, int]],
        undetected: Mapping[str, Set[int]],
        options: DictConfig,
        seed: int,
    ) -> None:
        self.training, self.store, self.options, self.seed = training, store, options, seed
        self.shots, self.undetected = shots, undetected

    def __call__(self, index: Index) -> FloatArray:
        """Return the weight (N,) of every row; 0 = it does not train.

        A key frame without an object has no quality and is dropped (SPEC H-f). Negatives count 1.
        """
        taught = {(row.video, row.frame) for row in self.training(index)}
        training = np.array([(row.video, row.frame) in taught for row in index], bool)
        shown = training & np.array([row.area > 0 and row.quality > 0 for row in index], bool)
        weights = np.zeros(len(index), np.float32)
        positions = np.flatnonzero(shown)
        if len(positions):
            rows = [index[position] for position in positions]
            number = {name: n for n, name in enumerate(sorted({row.video for row in rows}))}
            keys = [(number[row.video], self.shots[row.video][row.frame]) for row in rows]
            shots = np.unique(np.array(keys), axis=0, return_inverse=True)[1].reshape(-1)
            quality = np.array([row.quality for row in rows], np.float32)
            best = choose_key_frames(quality, shots, most=self.options.most)
            weights[positions[best]] = quality[best] if self.options.weighting == "quality" else 1.0
        empty = np.array(
            [
                free and row.area == 0 and row.frame in self.undetected.get(row.video, ())
                for free, row in zip(training, index, strict=True)
            ],
            bool,
        )
        count = count_negatives(int((weights > 0).sum()), share=self.options.negatives)
        rng = np.random.default_rng((self.seed, self.store.current() or 0))
        weights[choose_negatives(empty, count, rng)] = 1.0
        return weights


def surviving_frames(training: Callable[[Index], Index], *, least: float) -> Callable[[Index], FloatArray]:
    """Return the selector of "EM" (Sec. 4.4): frames predicted as at least ``least`` foreground train, all alike.

    The quality of a row is the share of its frame that the network predicted as foreground.
    """

    def select(index: Index) -> FloatArray:
        taught = {(row.video, row.frame) for row in training(index)}
        return np.array(
            [(row.video, row.frame) in taught and row.area > 0 and row.quality >= least for row in index], np.float32
        )

    return select
