"""Validation on ranks that have different numbers of items."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class UnevenValidation(pl.Callback):
    """Takes the network out of its DDP wrapper while it is validated.

    The wrapper exchanges buffers in *every* forward pass, so ranks with unequal numbers of validation items would wait
    for each other for ever. Validation needs no exchange but that of the metrics' sums at its end.
    """

    def __init__(self) -> None:
        self._wrapped: Any = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the bare network."""
        if trainer.world_size > 1:
            self._wrapped, trainer.strategy.model = trainer.strategy.model, pl_module

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train the wrapped one again."""
        if self._wrapped is not None:
            trainer.strategy.model, self._wrapped = self._wrapped, None
