"""A 2-D classifier of tags that locates what it names by Grad-CAM (Chen et al., Sec. 3.1) or CAM (Hong et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from modules.checkpoints import load_hyper_checkpoint
from modules.modes import evaluating
from modules.nets.backbones import create_backbone, freeze_batch_norm
from modules.nets.gradcam import GradCAM, class_activation_map, multi_scale_maps
from modules.nets.unpooling import drop_last_pool
from modules.nets.vgg import is_vgg
from modules.tagger import Tagger
from pseudolabel.types import DataError, FloatArray, UInt8Array


class Encoder2D(Tagger):
    """Any timm backbone (+ one more convolution) + global average pooling + a linear classifier.

    Args:
        classes: names of the actors (or plain classes).
        backbone: timm name.
        weights: local file of pretrained weights, or None for a random start.
        backbone_args: further arguments of the timm model.
        output_stride: stride of the feature map that the attention reads; a VGG at 16 loses its last max-pool.
        mean: channel means of the input on the 0..1 scale; None = the backbone's.
        std: channel deviations; None = the backbone's.
        freeze_bn: keep batch-norm statistics and affine parameters as loaded.
        trainable: ``"all"`` or ``"head"`` (only the classifier is trained; the backbone stays as loaded).
        dropout: before the classifier.
        image_size: side of the training crops; :meth:`classify` resizes patches to it.
        extra_conv: channels of a new 3 x 3 convolution with ReLU after the backbone (Hong et al. 2017, Sec. 3.1;
            Zhou et al. 2016 use 1024); 0 = none.
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
        extra_conv: int = 0,
        **tagger: Any,
    ) -> None:
        super().__init__(classes, **tagger)
        self.save_hyperparameters()
        if trainable not in ("all", "head"):
            raise DataError(f"trainable must be 'all' or 'head', got '{trainable}'")
        if extra_conv < 0:
            raise DataError(f"extra_conv must be a number of channels >= 0, got {extra_conv}. The paper's is 1024.")
        no_last_pool = is_vgg(backbone) and output_stride == 16
        stride = 32 if no_last_pool else output_stride
        self.backbone = create_backbone(
            backbone, weights=weights, output_stride=stride, args=backbone_args, mean=mean, std=std
        )
        if no_last_pool:
            drop_last_pool(self.backbone)
        self.extra: nn.Module = nn.Identity()  # no name of its own in a checkpoint
        if extra_conv:
            convolution = nn.Conv2d(self.backbone.num_features, extra_conv, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            self.extra = nn.Sequential(convolution, nn.ReLU())
        self.classifier = nn.Linear(extra_conv or self.backbone.num_features, len(classes))
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
        """Return the parameters of the new convolution and the classifier."""
        return [*self.extra.parameters(), *self.classifier.parameters()]

    def on_fit_start(self) -> None:
        """Freeze once more what synchronised batch norm has built anew."""
        if self.hparams["freeze_bn"]:
            freeze_batch_norm(self.backbone)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 or float 0..255 (B, 3, H, W) -> what the backbone was trained on, channels last."""
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..255 -> the maps F(x) (B, C, ceil(H / stride), ceil(W / stride)) that are pooled."""
        return self.extra(self.backbone(self.normalize(images)))

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Pool and classify the maps of :meth:`features`: logits (B, len(classes))."""
        return self.classifier(self.dropout(features.mean((-2, -1))))

    def activation_map(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """CAM (Hong et al. 2017, Eq. 2): maps of :meth:`features` and classes (B, K) -> (B, K, h, w) >= 0."""
        return class_activation_map(features.float(), self.classifier.weight, targets).relu()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..255 -> logits (B, len(classes))."""
        return self.score(self.features(images))

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits -> probabilities float32 (B, len(classes)): sigmoid or softmax, as trained."""
        multi_label = isinstance(self.loss, nn.BCEWithLogitsLoss)
        return logits.float().sigmoid() if multi_label else logits.float().softmax(1)

    def attention(
        self,
        frames: UInt8Array,
        targets: Sequence[int],
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        method: str = "gradcam",
        reduce: Literal["mean", "max"] = "mean",
        batch_size: int = 16,
    ) -> FloatArray:
        """Attention maps of whole frames.

        Args:
            frames: uint8 (T, H, W, 3).
            targets: class indices, K of them.
            scales: the frame is resized by each factor.
            flip: the mirrored frame is looked at as well.
            method: ``"gradcam"`` (Selvaraju et al. 2017) or ``"cam"`` (Zhou et al. 2016).
            reduce: ``"mean"`` or ``"max"`` (Hong et al. 2017) over the maps of all scales and flips.
            batch_size: frames at a time.

        Returns:
            float32 (K, T, H, W) >= 0, resized bilinearly from the feature map to the frame.

        Raises:
            DataError: another method.
        """
        parts = self._look(frames, targets, scales, flip=flip, method=method, reduce=reduce, batch_size=batch_size)
        return torch.cat([maps for maps, _ in parts]).transpose(0, 1).numpy()  # (T, K, H, W) -> (K, T, H, W)

    def look(
        self,
        frames: UInt8Array,
        targets: Sequence[int],
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        method: str = "gradcam",
        reduce: Literal["mean", "max"] = "mean",
        batch_size: int = 16,
    ) -> tuple[FloatArray, FloatArray]:
        """Attention maps and class probabilities of whole frames, from one pass where 1 is among the scales.

        Arguments and errors are those of :meth:`attention`.

        Returns:
            maps: float32 (K, T, H, W) >= 0.
            probabilities: float32 (T, len(classes)) of the frames as they are (:meth:`predict_probabilities` sees them
                as squares).
        """
        parts = self._look(frames, targets, scales, flip=flip, method=method, reduce=reduce, batch_size=batch_size)
        answers: list[torch.Tensor] = []
        for number, (_, logits) in enumerate(parts):
            if logits is None:
                chunk = self._to_device(frames[number * batch_size : (number + 1) * batch_size])
                with evaluating(self), torch.no_grad():
                    logits = self(chunk)
            answers.append(self.probabilities(logits).cpu())
        maps_tk = torch.cat([maps for maps, _ in parts])
        return maps_tk.transpose(0, 1).numpy(), torch.cat(answers).numpy()

    def _look(
        self,
        frames: UInt8Array,
        targets: Sequence[int],
        scales: Sequence[float],
        *,
        flip: bool,
        method: str,
        reduce: Literal["mean", "max"],
        batch_size: int,
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Per batch of frames: maps (B, K, H, W) on the CPU, and the logits of scale 1 if that is among the scales."""
        if method not in ("gradcam", "cam"):
            raise DataError(f"Unknown attention method '{method}'. Expected 'gradcam' or 'cam'.")
        classes = torch.as_tensor(list(targets), device=self.device)
        passes: list[torch.Tensor] = []

        def maps(images: torch.Tensor) -> torch.Tensor:
            targets_bk = classes.expand(len(images), -1)
            if method == "cam":
                with torch.no_grad():
                    features = self.features(images)
                    passes.append(self.score(features))
                    return self.activation_map(features, targets_bk)
            with GradCAM(self, self.extra if self.hparams["extra_conv"] else self.backbone) as cam:
                found, logits = cam(images, targets_bk)
            passes.append(logits)
            return found

        parts: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        with evaluating(self):
            for start in range(0, len(frames), batch_size):
                passes.clear()
                images = self._to_device(frames[start : start + batch_size])
                found = multi_scale_maps(maps, images, scales, reduce=reduce, flip=flip).float().cpu()
                parts.append((found, passes[list(scales).index(1) * (2 if flip else 1)] if 1 in scales else None))
        return parts

    def classify(self, patches: UInt8Array, *, batch_size: int = 64) -> npt.NDArray[np.int64]:
        """Return the most probable class (N,) of square patches uint8 (N, s, s, 3)."""
        return self._square_logits(patches, batch_size).argmax(1).numpy()

    def predict_probabilities(self, images: UInt8Array | Sequence[UInt8Array], *, batch_size: int = 64) -> FloatArray:
        """Probability of every class in images that are resized to squares of ``image_size``, as in validation.

        Args:
            images: uint8 (N, H, W, 3), or N images uint8 (H, W, 3) of any sizes.
            batch_size: images at a time.

        Returns:
            float32 (N, len(classes)): sigmoid or softmax, as trained.

        Raises:
            DataError: an image is not uint8 (H, W, 3).
        """
        for number, image in enumerate(images):
            if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
                raise DataError(
                    f"Image {number} is {image.dtype} {tuple(image.shape)}, expected uint8 (H, W, 3). "
                    "Convert it to RGB."
                )
        return self.probabilities(self._square_logits(images, batch_size)).numpy()

    @torch.no_grad()
    def _square_logits(self, images: UInt8Array | Sequence[UInt8Array], batch_size: int) -> torch.Tensor:
        """Logits (N, len(classes)), on the CPU, of images resized to squares; the mode is left as found."""
        size, answers = (self.image_size, self.image_size), [torch.zeros(0, len(self.classes))]
        with evaluating(self):
            for start in range(0, len(images), batch_size):
                chunk = images[start : start + batch_size]
                groups = [chunk] if isinstance(chunk, np.ndarray) else [image[None] for image in chunk]
                squares = [
                    nn.functional.interpolate(self._to_device(group), size, mode="bilinear", antialias=True)
                    for group in groups
                ]
                answers.append(self(torch.cat(squares)).float().cpu())
        return torch.cat(answers)

    def _to_device(self, images: UInt8Array) -> torch.Tensor:
        """uint8 (B, H, W, 3) -> float (B, 3, H, W) in 0..255 on this module's device."""
        tensor = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return tensor.permute(0, 3, 1, 2).float()

    @classmethod
    def load(cls, path: str | Path) -> Encoder2D:
        """Load a checkpoint without running code from it and without the pretrained file it started from."""
        return load_hyper_checkpoint(cls, path, weights=None)
