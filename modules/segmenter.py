"""DeepLab trained on pseudo-annotations (of rounds, or made per batch), judged by the region integrity criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torchmetrics import SumMetric

from modules.checkpoints import load_hyper_checkpoint
from modules.losses import class_weighted_cross_entropy, weighted_cross_entropy
from modules.metrics import RegionIntegrity
from modules.nets.backbones import create_backbone, freeze_batch_norm
from modules.nets.deeplab import DeepLabV2, FieldOfView
from modules.nets.gradcam import multi_scale_maps
from modules.nets.vgg import is_vgg
from modules.optim import build_optimizer, poly, step_down
from pseudolabel.decision import Decision, check_decision
from pseudolabel.refine import refine_labels
from pseudolabel.types import DataError, FloatArray, LabelSpace, UInt8Array


def check_scales(scales: Any) -> tuple[float, ...]:
    """Return factors of a frame's size; :class:`DataError` if there is none or one is not a number above 0."""
    given = list(scales) if isinstance(scales, Sequence) and not isinstance(scales, str) else []
    if not given or not all(isinstance(scale, int | float) and 0 < scale < np.inf for scale in given):
        raise DataError(f"test_scales={scales}: expected numbers above 0, such as [1.0, 1.5].")
    return tuple(float(scale) for scale in given)


class Segmenter(pl.LightningModule):
    """DeepLab on single frames (Chen et al. 2018; WS2 Sec. 5.2; Tokmakov et al. 2016, Sec. 3.2).

    Args:
        label_space: :meth:`LabelSpace.to_dict`; the checkpoint knows its classes.
        backbone: timm name.
        weights: local file of pretrained weights, or None.
        backbone_args: further arguments of the timm model.
        output_stride: stride of the feature map before the ASPP.
        rates: dilations of the ASPP.
        head: ``"aspp"``, ``"large_fov"`` or ``"small_fov"`` (:class:`modules.nets.deeplab.FieldOfView`).
        head_channels: channels of the latter two's fc6 and fc7; with a VGG, ``weights`` start these layers as well.
        mean: channel means of the input on the 0..1 scale; None = the backbone's.
        std: channel deviations; None = the backbone's.
        freeze_bn: keep batch-norm statistics and affine parameters as loaded (as DeepLab does).
        optimizer: ``"sgd"`` or ``"adamw"``.
        lr: base learning rate.
        head_multiplier: factor of the learning rate of the head (of its last layer alone where a VGG gives the others).
        momentum: of SGD.
        weight_decay: L2 factor.
        schedule: ``"poly"``, or ``"step"``: the rate times ``step_gamma`` every ``step_size`` steps.
        power: of the poly schedule.
        step_size: optimiser steps between two drops of the step schedule; None = a third of the schedule.
        step_gamma: factor of each drop.
        class_weights: (C,) factor of each class in the loss (:func:`modules.losses.class_balance`); None = 1, and the
            mean is taken per image, as WS2 has it, rather than over the pixels of the batch.
        refine: ``alpha``, ``beta`` and ``overlap`` of Algorithm 2, used for the criterion.
        ric_alpha: weight of RII in RIC (Eq. 3).
        max_side: longer side of the frames it was trained on; prediction resizes to it and back. None = any.
        test_scales: prediction averages the scores of the frame resized by each factor (ours; the papers: 1).
        test_flip: and those of the mirrored frame.
        decision: how prediction decides between the scores, see :func:`pseudolabel.decision.decide`.
        crf: the dense CRF with which it is tested (:func:`modules.crf_predictor.with_crf`); None = without.
    """

    mean: torch.Tensor
    std: torch.Tensor
    class_weights: torch.Tensor | None

    def __init__(
        self,
        label_space: dict[str, Any],
        *,
        backbone: str = "resnet101",
        weights: str | None = None,
        backbone_args: Mapping[str, Any] | None = None,
        output_stride: int = 8,
        rates: Sequence[int] = (6, 12, 18, 24),
        head: str = "aspp",
        head_channels: int = 1024,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        freeze_bn: bool = True,
        optimizer: str = "sgd",
        lr: float = 7e-4,
        head_multiplier: float = 10.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        schedule: str = "poly",
        power: float = 0.9,
        step_size: int | None = 2000,
        step_gamma: float = 0.1,
        class_weights: Sequence[float] | None = None,
        refine: Mapping[str, Any] | None = None,
        ric_alpha: float = 0.5,
        max_side: int | None = None,
        test_scales: Sequence[float] = (1.0,),
        test_flip: bool = False,
        decision: Decision = "likeliest",
        crf: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.space = LabelSpace.from_dict(label_space)
        body = create_backbone(
            backbone, weights=weights, output_stride=output_stride, args=backbone_args, mean=mean, std=std
        )
        self.network = DeepLabV2(
            body, self.space.num_classes, rates=tuple(rates), head=head, head_channels=head_channels
        )
        if weights is not None and is_vgg(backbone) and isinstance(self.network.head, FieldOfView):
            self.network.head.load_vgg(weights)
        if schedule not in ("poly", "step"):
            raise DataError(f"Unknown schedule '{schedule}'. Expected 'poly' or 'step'.")
        if freeze_bn:
            freeze_batch_norm(self.network.backbone)
        preprocessing = body.preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1) * 255, persistent=False)
        if class_weights is not None and len(class_weights) != self.space.num_classes:
            raise DataError(
                f"class_weights has {len(class_weights)} numbers for {self.space.num_classes} classes "
                f"({', '.join(self.space.names)}). Give one per class, background first."
            )
        balance = None if class_weights is None else torch.tensor([float(weight) for weight in class_weights])
        self.register_buffer("class_weights", balance, persistent=False)
        self.refine_options = dict(refine or {})
        self.foreground = SumMetric()
        self.integrity = RegionIntegrity(self.space.num_classes, alpha=ric_alpha)
        self.schedule_start, self.schedule_steps = 0, 1
        self.max_side = max_side
        self.test_scales, self.test_flip = check_scales(test_scales), test_flip
        self.decision: Decision = check_decision(decision)
        self.crf = dict(crf or {})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..255 -> logits (B, C, H, W)."""
        images = (images.float() - self.mean) / self.std
        return self.network(images.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Return the weighted cross-entropy of one batch of crops."""
        logits = self(batch["image"])
        if self.class_weights is None:
            loss = weighted_cross_entropy(logits.float(), batch["labels"], batch["weight"])
        else:
            loss = class_weighted_cross_entropy(logits, batch["labels"], self.class_weights, batch["weight"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(logits))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one video's frames to the criterion: prediction, refined prediction, pseudo-annotation."""
        labels = self._predict_labels(batch["frames"])
        self.foreground.update(float((labels > 0).sum()))
        refined = np.stack(
            [
                refine_labels(one, superpixels, num_classes=self.space.num_classes, **self.refine_options)
                for one, superpixels in zip(labels, batch["superpixels"].cpu().numpy(), strict=True)
            ]
        )
        predicted, snapped = (torch.from_numpy(part).long().to(self.device) for part in (labels, refined))
        self.integrity.update(predicted, snapped, batch["labels"].long())

    def _predict_labels(self, frames: torch.Tensor, batch_size: int = 16) -> UInt8Array:
        parts = [
            self(frames[start : start + batch_size]).argmax(1).byte().cpu().numpy()
            for start in range(0, len(frames), batch_size)
        ]
        return np.concatenate(parts)

    def on_validation_epoch_end(self) -> None:
        """Log RIC, mIoU_PA and RII, the same on all ranks (the metric sums its states over them)."""
        scores = self.integrity.compute()
        self.integrity.reset()
        self.log("val/foreground", self.foreground.compute())
        self.foreground.reset()
        self.log_dict({f"val/{name}": value for name, value in scores.items()}, prog_bar=True)

    def start_schedule(self, start: int, steps: int) -> None:
        """Begin a schedule of ``steps`` optimiser steps at global step ``start`` (a new version)."""
        self.schedule_start, self.schedule_steps = start, max(1, steps)

    def on_fit_start(self) -> None:
        """Freeze once more what synchronised batch norm has built anew."""
        if self.hparams["freeze_bn"]:
            freeze_batch_norm(self.network.backbone)

    def configure_optimizers(self) -> Any:
        """SGD with the schedule; what is new learns ``head_multiplier`` times faster (DeepLab's convention)."""
        options = self.hparams
        optimizer = build_optimizer(
            self.network.parameter_groups(options["lr"], head_multiplier=options["head_multiplier"]),
            options["optimizer"],
            lr=options["lr"],
            weight_decay=options["weight_decay"],
            momentum=options["momentum"],
        )
        if options["schedule"] == "step":
            schedule = step_down(
                optimizer,
                lambda: (self.schedule_start, self.schedule_steps),
                size=options["step_size"],
                gamma=options["step_gamma"],
            )
        else:
            schedule = poly(optimizer, lambda: (self.schedule_start, self.schedule_steps), power=options["power"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the span of the present schedule."""
        checkpoint["schedule"] = [self.schedule_start, self.schedule_steps]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the span of the schedule where it was."""
        self.schedule_start, self.schedule_steps = checkpoint.get("schedule", [0, 1])

    @torch.no_grad()
    def predict_scores(self, frames: UInt8Array, *, batch_size: int = 16) -> FloatArray:
        """Return softmax scores float32 (T, C, H, W) of frames uint8 (T, H, W, 3); the mode is left as found.

        Args:
            frames: uint8 (T, H, W, 3).
            batch_size: frames at a time; fewer where ``test_scales`` enlarge them.
        """
        was_training = self.training
        self.eval()
        parts = []
        chunk = max(1, int(batch_size / max(1.0, *self.test_scales) ** 2))
        for start in range(0, len(frames), chunk):
            images = torch.from_numpy(np.ascontiguousarray(frames[start : start + chunk])).to(self.device)
            images = images.permute(0, 3, 1, 2).float()  # (B, H, W, 3) -> (B, 3, H, W)
            parts.append(
                multi_scale_maps(self._scores, images, self.test_scales, reduce="mean", flip=self.test_flip).cpu()
            )
        self.train(was_training)
        return torch.cat(parts).numpy()

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        return self(images).float().softmax(1)

    @classmethod
    def load(cls, path: str | Path) -> Segmenter:
        """Load a checkpoint without running code from it and without the pretrained file it started from."""
        return load_hyper_checkpoint(cls, path, weights=None)
