"""Stage 1, motion: I3D on action tags whose 3-D Grad-CAM locates the action (Chen et al., Sec. 4, Eqs. 4-5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from modules.checkpoints import load_hyper_checkpoint
from modules.nets.backbones import load_weights
from modules.nets.gradcam import GradCAM
from modules.nets.i3d import InceptionI3d
from modules.tagger import Tagger
from pseudolabel.attention import maps_at, resize_maps, shift_maps
from pseudolabel.sampling import clip_indices
from pseudolabel.types import FloatArray, UInt8Array


class Encoder3D(Tagger):
    """Inflated Inception-v1 (Carreira & Zisserman 2017) on actions.

    Args:
        classes: names of the actions.
        weights: local Kinetics-400 checkpoint, or None for a random start.
        width: multiplier of all channel numbers (1 = the paper's).
        output_stride: spatial stride of the last feature map (32 = the paper's).
        temporal_stride: temporal stride of the last feature map (8 = the paper's).
        dilate: dilate what follows a removed stride, as pretrained weights want.
        last: block with which the network ends (Mixed_5c = the paper's); see :class:`modules.nets.i3d.InceptionI3d`.
        dropout: before the classifier.
        bn_momentum: of the batch norms; None = the network's own 0.01, which suits long training and fine-tuning.
        clip_size: side of the frames in a clip.
        clip_frames: frames per clip (t of Fig. 6).
        clip_stride: distance of neighbouring frames in source frames.
        **tagger: see :class:`modules.tagger.Tagger`.
    """

    input_key = "clip"

    def __init__(
        self,
        classes: list[str],
        *,
        weights: str | None = None,
        width: float = 1.0,
        output_stride: int = 32,
        temporal_stride: int = 8,
        dilate: bool = True,
        last: str = "Mixed_5c",
        dropout: float = 0.5,
        bn_momentum: float | None = None,
        clip_size: int = 224,
        clip_frames: int = 64,
        clip_stride: int = 1,
        **tagger: Any,
    ) -> None:
        super().__init__(classes, **tagger)
        self.save_hyperparameters()
        self.network = InceptionI3d(
            400,
            width=width,
            output_stride=output_stride,
            temporal_stride=temporal_stride,
            dropout=dropout,
            dilate=dilate,
            last=last,
        )
        if weights is not None:
            load_weights(self.network, weights, ignored=("logits.",))
        for layer in self.network.modules():
            if isinstance(layer, nn.BatchNorm3d) and bn_momentum is not None:
                layer.momentum = bn_momentum
        self.network.replace_logits(len(classes))
        self.clip_size, self.clip_frames, self.clip_stride = clip_size, clip_frames, clip_stride

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the classifier's parameters."""
        return list(self.network.logits.parameters())

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(B, 3, T, H, W) in 0..255 -> logits (B, len(classes))."""
        clips = (clips.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last_3d)
        return self.network(clips)

    def attention(
        self,
        frames: UInt8Array,
        targets: Sequence[int],
        *,
        positions: Sequence[int],
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> FloatArray:
        """Action-guided attention at some frames of a video.

        The video is covered by windows of ``clip_frames`` frames; within a window, map k of t' belongs to the centre of
        the k-th of t' equal parts (uniform sampling, Sec. 4). A frame of several windows takes their mean. In space, a
        cell of a map lies where the network looks from it, which SAME padding moves (:attr:`InceptionI3d.lag`).

        Args:
            frames: uint8 (N, H, W, 3), *all* frames of the video.
            targets: action indices, K of them.
            positions: frame numbers that are wanted.
            scales: frames are resized to each factor of ``clip_size``, in whole cells, and the maps are averaged.
            flip: average with the maps of the mirrored video as well.

        Returns:
            float32 (K, len(positions), h', w') >= 0, of the size of the finest maps.
        """
        every = [self._maps_at_scale(frames, targets, positions, scale, flip) for scale in scales]
        size = max((maps.shape[-2:] for maps in every), key=lambda shape: shape[0])
        return np.mean([resize_maps(maps, size) for maps in every], axis=0, dtype=np.float32)

    def _maps_at_scale(
        self, frames: UInt8Array, targets: Sequence[int], positions: Sequence[int], scale: float, flip: bool
    ) -> FloatArray:
        stride = self.network.stride  # a side that is no multiple of it would move the cells another way
        side = max(1, round(self.clip_size * scale / stride)) * stride
        small = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames])
        span = (self.clip_frames - 1) * self.clip_stride + 1
        starts = list(range(0, max(1, len(frames) - span + 1), max(1, span // 2)))
        if starts[-1] + span < len(frames):
            starts.append(len(frames) - span)
        total: FloatArray | None = None
        hits = np.zeros(len(positions), np.float32)
        wanted = np.asarray(positions)
        for start in starts:
            inside = np.flatnonzero((wanted >= start) & (wanted < start + span))
            if not len(inside):
                continue
            clip = small[clip_indices(len(frames), self.clip_frames, self.clip_stride, start)]
            maps = self._clip_maps(clip, targets)  # (K, t', h', w')
            if flip:
                maps = np.float32(0.5) * (maps + self._clip_maps(clip[:, :, ::-1], targets)[..., ::-1])
            where = (wanted[inside] - start) / self.clip_stride
            sampled = np.stack([maps_at(one, self.clip_frames, where) for one in maps])
            if total is None:
                total = np.zeros((len(maps), len(positions), *maps.shape[-2:]), np.float32)
            total[:, inside] += sampled
            hits[inside] += 1
        assert total is not None
        return (total / np.maximum(hits, 1)[None, :, None, None]).astype(np.float32)

    def _clip_maps(self, clip: UInt8Array, targets: Sequence[int]) -> FloatArray:
        frames = torch.from_numpy(np.ascontiguousarray(clip)).to(self.device)
        classes = torch.as_tensor(list(targets), device=self.device)[None]
        with GradCAM(self, self.network.get_submodule(self.network.last)) as cam:
            maps, _ = cam(frames.permute(3, 0, 1, 2)[None], classes)  # (T, H, W, 3) -> (1, 3, T, H, W)
        lag = self.network.lag / self.network.stride
        return shift_maps(maps[0].float().cpu().numpy(), lag)

    @classmethod
    def load(cls, path: str | Path) -> Encoder3D:
        """Load a checkpoint without running code from it and without the pretrained file it started from."""
        return load_hyper_checkpoint(cls, path, weights=None)
