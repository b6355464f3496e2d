"""The best shot of each video (Tokmakov et al. 2016, Sec. 3.4): what stages B and C are taught by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datamodules.progress import follow
from datamodules.shot_store import ShotRecord, ShotStore
from modules.distributed import barrier, from_rank_zero, gather_lists, own_share, rank
from modules.segmenter import Segmenter
from pseudolabel.decision import decide
from pseudolabel.graphs import Float64Array
from pseudolabel.label_prediction import SEGMENT
from pseudolabel.types import BoolArray, LabelSpace
from recipes.run_folder import write_json

CHOICE = "shots.json"
"""In the stage's folder: every shot's overlap; a stage that is begun goes on with the shots it began with."""


def shot_overlaps(
    folder: Path, segmenter: Segmenter, store: ShotStore, shots: Sequence[ShotRecord], space: LabelSpace
) -> dict[str, float]:
    """Return how well a network's prediction overlaps with every shot's motion segments, alike on all ranks.

    Each rank looks at its share. What was found before a job was killed is read from ``folder``.

    Args:
        folder: gets ``shots.json``.
        segmenter: the network.
        store: the shots.
        shots: those to be looked at.
        space: the classes.

    Returns:
        name of a shot -> mean over its frames of the intersection over union of the pixels predicted as one of its
        tags and its motion segment, in [0, 1].
    """
    file = folder / CHOICE
    before = from_rank_zero(json.loads(file.read_text()) if file.exists() else None)
    if before is not None:
        return dict(before)
    own = own_share(shots)
    overlaps = []
    for shot in follow(own, "overlap with motion", least=20):
        frames, _, motion = store.read(shot.name)
        predicted = decide(segmenter.predict_scores(frames), segmenter.decision)  # (T, H, W)
        tagged = np.isin(predicted, np.flatnonzero(space.allowed(shot.tags))[1:])
        overlaps.append((shot.name, round(float(np.mean(frame_overlaps(tagged, motion > SEGMENT))), 5)))
    found = dict(sorted(gather_lists(overlaps)))
    if rank() == 0:
        write_json(file, found)
    barrier()
    return found


def best_shots(shots: Sequence[ShotRecord], overlaps: Mapping[str, float], *, least: float) -> list[ShotRecord]:
    """Return the shot of each video with the largest overlap, the first of equals, if that is at least ``least``."""
    best: dict[str, ShotRecord] = {}
    for shot in shots:
        if shot.video not in best or overlaps[shot.name] > overlaps[best[shot.video].name]:
            best[shot.video] = shot
    return [shot for shot in best.values() if overlaps[shot.name] >= least]


def frame_overlaps(first: BoolArray, second: BoolArray) -> Float64Array:
    """Return the intersection over union of two masks (T, H, W) per frame, (T,) in [0, 1]; 0 where both are empty."""
    union = (first | second).sum(axis=(1, 2))
    return (first & second).sum(axis=(1, 2)) / np.maximum(union, 1)
