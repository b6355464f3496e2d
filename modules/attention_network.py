"""Encoder and decoder of Hong et al. 2017 as one network: locate a class, then segment what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.encoder2d import Encoder2D
from modules.image_inference import segment_images, stretch
from modules.nets.deconvnet import DeconvNet
from modules.nets.gradcam import multi_scale_maps
from modules.nets.unpooling import find_levels, record_switches

Switches = dict[int, Tensor]


class AttentionNetwork(nn.Module):
    """A tag classifier that locates classes, and a class-agnostic decoder (Hong et al. 2017, Sec. 3.3 and 3.4).

    Args:
        encoder: the classifier.
        class_index: long (N,), the place of every object class among the encoder's classes.
        width: see :class:`DeconvNet`.
        batch_norm: see :class:`DeconvNet`.
        init: see :class:`DeconvNet`.
        scales: of the attention.
        train_encoder: let gradients reach the encoder; else it stays as loaded, in evaluation mode.
    """

    class_index: Tensor

    def __init__(
        self,
        encoder: Encoder2D,
        class_index: Sequence[int],
        *,
        width: float = 1.0,
        batch_norm: bool = False,
        init: str = "kaiming",
        scales: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
        train_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("class_index", torch.tensor(class_index), persistent=False)
        stride = encoder.backbone.output_stride
        self.decoder = DeconvNet(
            find_levels(encoder.backbone), output_stride=stride, width=width, batch_norm=batch_norm, init=init
        )
        self.scales, self.train_encoder = tuple(scales), train_encoder
        if not train_encoder:
            encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> AttentionNetwork:
        """Set the mode; a frozen encoder stays in evaluation mode, its batch statistics as they are."""
        super().train(mode)
        if not self.train_encoder:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> tuple[Tensor, Switches]:
        """Run the encoder once.

        Args:
            images: (B, 3, H, W) in 0..255, padded (:meth:`pad`).

        Returns:
            The encoder's maps (B, F, h, w) and its switches by stride.
        """
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and self.train_encoder),
            record_switches(self.encoder.backbone, self.decoder.levels, self.decoder.channels) as switches,
        ):
            return self.encoder.features(images), switches

    def attend(self, images: Tensor, targets: Tensor, features: Tensor | None = None) -> Tensor:
        """Multi-scale attention: CAM (Eq. 2), the maximum over the scales, each map stretched to [0, 1].

        Args:
            images: (B, 3, H, W) in 0..255.
            targets: long (B, K), object classes 0..N - 1.
            features: the encoder's maps of these images as they are, if there; spares a pass.

        Returns:
            float32 (B, K, H, W).
        """
        classes = self.class_index[targets]

        def maps(resized: Tensor) -> Tensor:
            own = features if features is not None and resized.shape == images.shape else self.encoder.features(resized)
            return self.encoder.activation_map(own, classes).float()

        with torch.set_grad_enabled(torch.is_grad_enabled() and self.train_encoder):
            return stretch(multi_scale_maps(maps, images.float(), self.scales, reduce="max"))

    def pad(self, images: Tensor) -> Tensor:
        """Repeat the right and bottom borders of (B, C, H, W) until both sides are multiples of the stride."""
        stride = self.decoder.output_stride
        below, right = -images.shape[-2] % stride, -images.shape[-1] % stride
        return F.pad(images.float(), (0, right, 0, below), mode="replicate")

    def forward(self, images: Tensor, attention: Tensor) -> Tensor:
        """Segment what the attention points at.

        Args:
            images: (B, 3, H, W) in 0..255.
            attention: float (B, 1, h, w) in [0, 1], of any size.

        Returns:
            logits (B, 2, H, W), background and foreground.
        """
        return self.decode(attention, self.encode(self.pad(images))[1], (images.shape[-2], images.shape[-1]))

    def decode(self, attention: Tensor, switches: Mapping[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Decode attention (B, 1, h, w) of any size, with the padded images' switches, to logits (B, 2, *size)."""
        if attention.shape[-2:] != size:
            attention = F.interpolate(attention.float(), size=size, mode="bilinear", align_corners=False)
        return self.decoder(self.pad(attention), switches)[..., : size[0], : size[1]]

    def probabilities(self, features: Tensor) -> Tensor:
        """The encoder's maps -> probabilities (B, N) of the object classes."""
        return self.encoder.probabilities(self.encoder.score(features))[:, self.class_index]

    @torch.no_grad()
    def segment(self, images: Tensor, *, threshold: float, allowed: Tensor | None, maps_at_once: int) -> Tensor:
        """Segment (B, 3, H, W) in 0..255 (Sec. 3.4): scores (B, N + 1, H, W), see :func:`segment_images`."""
        height, width = images.shape[-2:]
        padded = self.pad(images)
        features, switches = self.encode(padded)

        def attend(classes: Tensor) -> Tensor:
            return self.attend(padded, classes.expand(len(images), -1), features)[..., :height, :width]

        def decode(places: Tensor, attention: Tensor) -> Tensor:
            mine = {stride: of_stride[places] for stride, of_stride in switches.items()}
            return self.decode(attention, mine, (height, width)).float().softmax(1)[:, 1]

        return segment_images(
            self.probabilities(features),
            attend,
            decode,
            size=(height, width),
            threshold=threshold,
            allowed=allowed,
            maps_at_once=maps_at_once,
        )
