"""A training that is killed, as by a power cut: ``python -m tests.recipes.killed motion|stage_b|v1 [key=value …]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from datamodules.shot_store import ShotStore
from pseudolabel.store import PAStore
from recipes.configuration import load_config
from recipes.engine import WholeFiles
from train import train

KILLED = 9


def kill_in_motion() -> None:
    """End the process when the first video's shots are found and those of the second are written, but not stated."""
    mark_done, done = ShotStore.mark_done, []

    def mark(self: ShotStore, video: str, **counts: int) -> None:
        if done:
            os._exit(KILLED)
        done.append(video)
        mark_done(self, video, **counts)

    ShotStore.mark_done = mark  # type: ignore[method-assign]


def kill_in_stage(stage: str) -> None:
    """End the process in the middle of a stage, when an epoch is over and its checkpoint not yet written."""
    save = WholeFiles.save_checkpoint

    def save_or_die(self: WholeFiles, checkpoint: dict[str, Any], path: Any, *args: Any, **kwargs: Any) -> None:
        if Path(path).parent.name == stage:
            os._exit(KILLED)
        save(self, checkpoint, path, *args, **kwargs)

    WholeFiles.save_checkpoint = save_or_die  # type: ignore[method-assign]


def kill_in_version(number: int) -> None:
    """End the process when a version's masks are written, but not published."""
    publish = PAStore.publish

    def publish_or_die(self: PAStore, version: int) -> Path:
        if version == number:
            os._exit(KILLED)
        return publish(self, version)

    PAStore.publish = publish_or_die  # type: ignore[method-assign]


if __name__ == "__main__":
    where, *overrides = sys.argv[1:]
    if where == "motion":
        kill_in_motion()
    elif where == "v1":
        kill_in_version(1)
    else:
        kill_in_stage(where)
    train(load_config("train", overrides))
