"""WS2's wise selection of training frames, by cut and paste (Chen et al. 2020, Sec. 3.2, Fig. 5)."""

from __future__ import annotations

import numpy as np
from omegaconf import DictConfig

from datamodules.progress import follow
from modules.checkpoints import to_plain
from modules.discriminator import cross_fitted_realness
from modules.encoder2d import Encoder2D
from pseudolabel.select import cut_and_paste, patch_passes
from pseudolabel.store import Index, PAStore
from pseudolabel.types import VOID, FloatArray, UInt8Array
from recipes.workspace import Workspace


class WiseSelector:
    """Passes frames whose cut-and-paste patch fools the discriminator OR is recognised by the classifier (Fig. 5).

    Args:
        workspace: the data.
        store: where the version is.
        encoder: the classifier of stage 1.
        options: ``use``, ``patch_size`` and the discriminator's settings.
        seed: decides background squares and the cross-fit.
    """

    def __init__(
        self, workspace: Workspace, store: PAStore, encoder: Encoder2D, options: DictConfig, seed: int
    ) -> None:
        self.workspace, self.store, self.encoder, self.options, self.seed = workspace, store, encoder, options, seed

    def __call__(self, index: Index) -> FloatArray:
        """Weigh the rows of the newest version: 1 = selected for training, 0 = not."""
        version = self.store.current() or 0
        training = self.workspace.split_index(index, validation=False)
        place = {(row.video, row.frame): position for position, row in enumerate(index)}
        weights = np.zeros(len(index), np.float32)
        frames_of: dict[str, list[int]] = {}
        for row in training:
            frames_of.setdefault(row.video, []).append(row.frame)
        videos = sorted(frames_of)
        patches = []
        dominant: list[list[int]] = []
        waiting = follow(videos, "cut and paste", least=8)
        for number, name in enumerate(waiting):
            clip = self.workspace.clip(name)
            chosen = np.isin(clip.indices, frames_of[name])
            labels = np.stack([self.store.read(version, name, int(frame)) for frame in clip.indices[chosen]])
            rng = np.random.default_rng((self.seed, version, number))
            patches.append(cut_and_paste(clip.frames[chosen], labels, size=self.options.patch_size, rng=rng))
            dominant.append([_dominant_class(labels[position]) for position in patches[-1].positions])
        realness = cross_fitted_realness(
            [p.foreground for p in patches],
            [p.pasted for p in patches],
            device=self.encoder.device,
            seed=self.seed + version,
            **to_plain(self.options.discriminator),
        )
        actor_of = self.workspace.space.actor_of
        for name, patch, real, classes in zip(videos, patches, realness, dominant, strict=True):
            top1 = self.encoder.classify(patch.pasted)
            real = np.where(patch.has_background, real, 0)
            passed = patch_passes(real, top1 + 1, actor_of[classes], use=self.options.use)
            frames = np.asarray(frames_of[name])
            for frame in frames[patch.positions[passed]]:
                weights[place[name, int(frame)]] = 1
        return weights


def _dominant_class(labels: UInt8Array) -> int:
    counts = np.bincount(labels[(labels > 0) & (labels != VOID)], minlength=1)
    return int(counts.argmax())
