"""A detector of one class that learns from a few images with boxes: torchvision's FCOS on a timm backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

from modules.checkpoints import load_hyper_checkpoint
from modules.modes import evaluating
from modules.nets.backbones import Backbone, create_backbone, remove_unused
from modules.optim import build_optimizer, one_cycle
from pseudolabel.detect_boxes import MOST_BOXES, Boxes
from pseudolabel.types import DataError, UInt8Array

_OBJECT = 1  # its label; 0 is never taught, so that numbers are those of torchvision's other detectors
_GROUP = 32  # torchvision's group norm has so many groups
_STRIDES = (8, 16, 32)  # of the backbone's last levels
_PROBE = 64


class _Pyramid(nn.Module):
    """The last three levels of a timm CNN, strides 8 to 32, each with ``out_channels`` channels."""

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        self.body, self.out_channels = backbone.body, channels
        if not hasattr(self.body, "forward_intermediates"):
            raise DataError(f"Backbone '{backbone.name}' gives no features of several sizes. Use resnet18 or the like.")
        with evaluating(self.body), torch.enable_grad():
            levels = self._levels(torch.zeros(1, 3, _PROBE, _PROBE))
        strides = [_PROBE // level.shape[-1] for level in levels]
        if strides != list(_STRIDES):
            raise DataError(
                f"Backbone '{backbone.name}' has features of strides {strides}, expected {list(_STRIDES)}. Use "
                "resnet18 or the like."
            )
        remove_unused(self.body, levels)  # distributed training wants a gradient for every parameter
        self.pyramid = FeaturePyramidNetwork([level.shape[1] for level in levels], channels)

    def _levels(self, images: torch.Tensor) -> list[torch.Tensor]:
        found: list[torch.Tensor] = self.body.forward_intermediates(  # type: ignore[operator]
            images, indices=len(_STRIDES), intermediates_only=True
        )
        return found

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(self.pyramid({str(n): level for n, level in enumerate(self._levels(images))}))


class BoxDetector(pl.LightningModule):
    """FCOS (Tian et al. 2019) for one class, small enough to be trained on a CPU.

    It stands for the imperfect detector of Liang et al. 2017, which "needs a certain number of bounding box
    annotations" (Sec. 2). Trained on few and in another domain, it errs as theirs does, not the same way in each frame.

    Args:
        backbone: timm name.
        weights: local file of pretrained weights, or None for a random start.
        backbone_args: further arguments of the timm model.
        channels: of the feature pyramid and the heads, a multiple of 32.
        mean: channel means of the input on the 0..1 scale; None = the backbone's.
        std: channel deviations; None = the backbone's.
        crop: side of the training crops in pixels.
        image_size: shorter side in pixels at which frames are looked at; None = as they come.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        lr: highest learning rate, of one cycle.
        weight_decay: L2 factor.
        clip: longest gradient, > 0.

    Raises:
        DataError: the backbone does not fit.
    """

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        weights: str | None = None,
        backbone_args: Mapping[str, Any] | None = None,
        channels: int = 256,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        crop: int = 320,
        image_size: int | None = None,
        optimizer: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        clip: float = 5.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if crop < 1 or not clip > 0:
            raise DataError(f"The detector needs crop >= 1 and clip > 0, got {crop} and {clip}.")
        if channels < 1 or channels % _GROUP:
            raise DataError(
                f"channels={channels}: FCOS normalises {_GROUP} groups of channels; expected {_GROUP}, 64, …"
            )
        body = create_backbone(backbone, weights=weights, args=backbone_args, mean=mean, std=std)
        pyramid = _Pyramid(body, channels)
        sizes = tuple((stride,) for stride in _STRIDES)
        self.network = FCOS(
            pyramid,
            num_classes=2,
            anchor_generator=AnchorGenerator(sizes=sizes, aspect_ratios=((1.0,),) * len(sizes)),
            min_size=crop,
            max_size=8 * crop,
            image_mean=list(body.preprocessing.mean),
            image_std=list(body.preprocessing.std),
            score_thresh=0.05,
            detections_per_img=MOST_BOXES,
        )
        self.steps = 1

    def start_schedule(self, start: int, steps: int) -> None:
        """Set the length of the learning rate's cycle, in steps; it begins at the first."""
        self.steps = max(1, steps)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Return FCOS's loss on crops (B, 3, crop, crop) in 0..255 with their boxes."""
        images = [image.float() / 255 for image in batch["image"]]
        targets = []
        for boxes, count in zip(batch["boxes"], batch["count"].tolist(), strict=True):
            labels = torch.full((count,), _OBJECT, dtype=torch.int64, device=boxes.device)
            targets.append({"boxes": boxes[:count], "labels": labels})
        self.network.transform.min_size = (images[0].shape[-1],)
        loss = sum(self.network(images, targets).values())
        assert isinstance(loss, torch.Tensor)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip: boxes that are far off have long gradients at first."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.hparams["clip"])

    def configure_optimizers(self) -> Any:
        """One cycle over the whole training."""
        options = self.hparams
        optimizer = build_optimizer(
            self.network.parameters(), options["optimizer"], lr=options["lr"], weight_decay=options["weight_decay"]
        )
        schedule = one_cycle(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def detect(self, frames: UInt8Array) -> list[Boxes]:
        """Return the boxes of frames uint8 (T, H, W, 3) with their probabilities, in pixels of the frames."""
        side = self.hparams["image_size"] or min(frames.shape[1:3])
        self.network.transform.min_size = (side,)
        images = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
        with evaluating(self):
            answers = self.network(list(images.permute(0, 3, 1, 2).float() / 255))
        chosen = [answer["labels"] == _OBJECT for answer in answers]
        return [
            Boxes(answer["boxes"][mine].float().cpu().numpy(), answer["scores"][mine].float().cpu().numpy())
            for answer, mine in zip(answers, chosen, strict=True)
        ]

    @classmethod
    def load(cls, path: str | Path) -> BoxDetector:
        """Load a checkpoint, in eval mode; pretrained weights are not read again."""
        return load_hyper_checkpoint(cls, path, weights=None)
