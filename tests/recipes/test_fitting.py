from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from recipes import fitting
from recipes.fitting import fit_steps


class Ranks:
    """A trainer on rank 0 of several that only counts its batches."""

    is_global_zero, current_epoch, global_rank = False, 0, 0

    def __init__(self, world_size: int) -> None:
        self.world_size, self.fit_loop = world_size, SimpleNamespace(max_epochs=1)
        self.steps, self.own = 0, 0

    def fit(self, module: Any, data: Any, **_: Any) -> None:
        data.trainer = self
        batches = list(data.train_dataloader().batch_sampler)
        self.steps, self.own = self.fit_loop.max_epochs * len(batches), len(batches[0])


@pytest.mark.parametrize(("ranks", "own", "steps"), [(1, 10, 20), (4, 3, 21), (8, 2, 20)])
def test_any_number_of_ranks_takes_the_same_number_of_steps(
    monkeypatch: pytest.MonkeyPatch, ranks: int, own: int, steps: int
) -> None:
    """43 pictures: 4 batches of 10 an epoch, 3 of 12 or 2 of 16."""
    trainer, schedule = Ranks(ranks), []
    monkeypatch.setattr(fitting, "build_trainer", lambda *args, **kwargs: trainer)
    segmenter: Any = SimpleNamespace(start_schedule=lambda first, total: schedule.append(total))
    cfg = OmegaConf.create({"workers_per_loader": 0, "seed": 0})
    done = fit_steps(cfg, Path("unused"), segmenter, lambda epoch: range(43), batch_size=10, steps=20, loggers=[])  # type: ignore[arg-type,return-value]
    assert (trainer.own, trainer.steps) == (own, steps) and schedule == [steps]
    assert (done["steps"], done["items"]) == (steps, 43)


def test_how_long_is_given_once() -> None:
    nothing: Any = None
    with pytest.raises(ValueError, match="epochs or steps"):
        fit_steps(nothing, Path("unused"), nothing, nothing, batch_size=1, loggers=[])
