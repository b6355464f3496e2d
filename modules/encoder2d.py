"""Stage 1, appearance: a 2-D classifier on actor tags whose Grad-CAM locates the actor (Chen et al., Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from modules.checkpoints import load_hyper_checkpoint
from modules.nets.backbones import create_backbone, freeze_batch_norm
from modules.nets.gradcam import GradCAM, class_activation_map, multi_scale_maps
from modules.tagger import Tagger
from pseudolabel.types import DataError, FloatArray, UInt8Array


class Encoder2D(Tagger):
    """Any timm backbone + global average pooling + a linear classifier.

    Args:
        classes: names of the actors (or plain classes).
        backbone: timm name.
        weights: local file of pretrained weights, or None for a random start.
        backbone_args: further arguments of the timm model.
        output_stride: stride of the feature map that Grad-CAM reads.
        mean: channel means of the input on the 0..1 scale; None = the backbone's.
        std: channel deviations; None = the backbone's.
        freeze_bn: keep batch-norm statistics and affine parameters as loaded.
        trainable: ``"all"`` or ``"head"`` (only the classifier is trained; the backbone stays as loaded).
        dropout: before the classifier.
        image_size: side of the training crops; :meth:`classify` resizes patches to it.
        **tagger: see :class:`modules.tagger.Tagger`.
    """

    input_key = "image"
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        classes: list[str],
        *,
        backbone: str = "resnet50",
        weights: str | None = None,
        backbone_args: Mapping[str, Any] | None = None,
        output_stride: int = 32,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        freeze_bn: bool = False,
        trainable: str = "all",
        dropout: float = 0.0,
        image_size: int = 224,
        **tagger: Any,
    ) -> None:
        super().__init__(classes, **tagger)
        self.save_hyperparameters()
        if trainable not in ("all", "head"):
            raise DataError(f"trainable must be 'all' or 'head', got '{trainable}'")
        self.backbone = create_backbone(
            backbone, weights=weights, output_stride=output_stride, args=backbone_args, mean=mean, std=std
        )
        self.classifier = nn.Linear(self.backbone.num_features, len(classes))
        self.dropout = nn.Dropout(dropout)
        self.image_size = image_size
        if freeze_bn:
            freeze_batch_norm(self.backbone)
        if trainable == "head":
            self.backbone.requires_grad_(False)
        preprocessing = self.backbone.preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1) * 255, persistent=False)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the classifier's parameters."""
        return list(self.classifier.parameters())

    def on_fit_start(self) -> None:
        """Freeze once more what synchronised batch norm has built anew."""
        if self.hparams["freeze_bn"]:
            freeze_batch_norm(self.backbone)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 or float 0..255 (B, 3, H, W) -> what the backbone was trained on, channels last."""
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..255 -> logits (B, len(classes))."""
        features = self.backbone(self.normalize(images))
        return self.classifier(self.dropout(features.mean((-2, -1))))

    def attention(
        self,
        frames: UInt8Array,
        targets: Sequence[int],
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        method: str = "gradcam",
        batch_size: int = 16,
    ) -> FloatArray:
        """Attention maps of whole frames.

        Args:
            frames: uint8 (T, H, W, 3).
            targets: class indices, K of them.
            scales: the frame is resized by each factor and the maps are averaged.
            flip: average with the mirrored frame's map as well.
            method: ``"gradcam"`` (Selvaraju et al. 2017) or ``"cam"`` (Zhou et al. 2016).
            batch_size: frames at a time.

        Returns:
            float32 (K, T, H, W) >= 0, resized bilinearly from the feature map to the frame.

        Raises:
            DataError: another method.
        """
        if method not in ("gradcam", "cam"):
            raise DataError(f"Unknown attention method '{method}'. Expected 'gradcam' or 'cam'.")
        classes = torch.as_tensor(list(targets), device=self.device)

        def maps(images: torch.Tensor) -> torch.Tensor:
            targets_bk = classes.expand(len(images), -1)
            if method == "cam":
                with torch.no_grad():
                    features = self.backbone(self.normalize(images))
                    return class_activation_map(features.float(), self.classifier.weight, targets_bk).relu()
            with GradCAM(self, self.backbone) as cam:
                return cam(images, targets_bk)[0]

        was_training = self.training
        self.eval()
        try:
            parts = []
            for start in range(0, len(frames), batch_size):
                images = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch_size]))
                images = images.to(self.device).permute(0, 3, 1, 2).float()  # (B, H, W, 3) -> (B, 3, H, W)
                parts.append(multi_scale_maps(maps, images, scales, reduce="mean", flip=flip).float().cpu())
        finally:
            self.train(was_training)
        return torch.cat(parts).transpose(0, 1).numpy()  # (T, K, H, W) -> (K, T, H, W)

    @torch.no_grad()
    def classify(self, patches: UInt8Array, *, batch_size: int = 64) -> npt.NDArray[np.int64]:
        """Return the most probable class (N,) of square patches uint8 (N, s, s, 3)."""
        was_training = self.training
        self.eval()
        answers = []
        for start in range(0, len(patches), batch_size):
            images = torch.from_numpy(np.ascontiguousarray(patches[start : start + batch_size])).to(self.device)
            images = images.permute(0, 3, 1, 2).float()
            size = (self.image_size, self.image_size)
            images = nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
            answers.append(self(images).argmax(1).cpu().numpy())
        self.train(was_training)
        return np.concatenate(answers) if answers else np.zeros(0, np.int64)

    @classmethod
    def load(cls, path: str | Path) -> Encoder2D:
        """Load a checkpoint without running code from it and without the pretrained file it started from."""
        return load_hyper_checkpoint(cls, path, weights=None)
