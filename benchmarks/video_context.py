"""Speed of labelling a shot: ``OMP_NUM_THREADS=1 python -m benchmarks.video_context``, under two minutes.

``--frames FOLDER`` takes the pictures of a folder in place of generated ones, their longer edge at most 427 pixels.
From frames to masks: supervoxels of all frames; of the key frames boxes, proposals, graph and energy. Every
``--every``-th frame counts as a key frame; with 1 all do, the slowest case. The network that gives the scores of later
rounds is not timed. Seconds are CPU seconds of one thread, which other jobs on the machine hardly change.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.motion import scene
from benchmarks.video_graph import load_frames
from pseudolabel.bags_of_words import learn_vocabulary
from pseudolabel.detect import HogDetector
from pseudolabel.proposals import propose_regions
from pseudolabel.supervoxels import segment_supervoxels
from pseudolabel.types import DataError
from pseudolabel.video_context import VideoContext, build_context
from pseudolabel.video_context_energy import infer_masks
from recipes.tables import show

Array = npt.NDArray[Any]

TARGET = 2.0
"""Frames per second and core that labelling a shot of 427 x 240 pixels must reach."""

SUPERVOXELS = "supervoxels"
WORDS = "words, within the graph"
LATER = "energy and cut with scores, in later rounds"


@dataclass
class Stages:
    """CPU seconds of labelling one shot.

    Attributes:
        frames: of the shot.
        key_frames: of the shot.
        nodes: of the graph.
        seconds: of every stage, by its name; ``SUPERVOXELS`` is of all frames, the others of the key frames.
    """

    frames: int
    key_frames: int
    nodes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        """End a stage; the next one begins."""
        now = time.process_time()
        self.seconds[name], self._last = now - self._last, now

    @property
    def total(self) -> float:
        """Seconds from frames to the first masks."""
        return sum(seconds for name, seconds in self.seconds.items() if name not in (WORDS, LATER))

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.frames / self.total


def measure(frames: Array, *, every: int = 1, level: int = 10) -> Stages:
    """Label a shot stage by stage.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
        every: each so-many-th frame is a key frame, the first one too.
        level: of the supervoxels.
    """
    keys, indices = frames[::every], np.arange(0, len(frames), every)
    stages = Stages(len(frames), len(keys))
    supervoxels = segment_supervoxels(frames, level=level)[::every]
    stages.lap(SUPERVOXELS)
    boxes = HogDetector()(keys, video="shot", indices=indices)
    stages.lap("detection (HOG)")
    pools = [propose_regions(frame) for frame in keys]
    stages.lap("proposals")
    learn_vocabulary(keys)
    stages.lap(WORDS)
    context = build_context(keys, supervoxels, indices, np.zeros(len(keys), np.int32), pools, boxes)
    stages.lap("graph")
    with tempfile.TemporaryDirectory() as folder:
        context.save(Path(folder) / "shot.npz")
        context = VideoContext.load(Path(folder) / "shot.npz")
    stages.lap("file, written and read")
    infer_masks(context, None)
    stages.lap("energy and cut")
    likely = np.random.default_rng(0).random(context.nodes.shape).astype(np.float32)
    scores = np.stack([1 - likely, likely], axis=1)
    stages.lap("scores")
    infer_masks(context, scores)
    stages.lap(LATER)
    del stages.seconds["scores"]  # the network's part
    stages.nodes = context.num_nodes
    return stages


def show_stages(stages: Stages, size: tuple[int, int]) -> None:
    """Print milliseconds of every stage for each frame it is made of, and frames per second of the whole."""
    rows = []
    for name, seconds in stages.seconds.items():
        per, count = ("frame", stages.frames) if name == SUPERVOXELS else ("key frame", stages.key_frames)
        rows.append((name, per, f"{1000 * seconds / count:.1f}"))
    rows.append(("all, in the first round", "frame", f"{1000 * stages.total / stages.frames:.1f}"))
    title = (
        f"{stages.rate:.2f} frames/s on one core (target: {TARGET:g}); {stages.frames} frames of {size[1]}x{size[0]}, "
        f"{stages.key_frames} key frames, {stages.nodes} nodes"
    )
    show(title, ("stage", "per", "ms"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and run what they ask for; 2 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", help="folder of pictures; generated frames when left out")
    parser.add_argument("--count", type=int, default=40, help="frames of the shot")
    parser.add_argument("--every", type=int, nargs="*", default=[1, 5], help="one run per number: see above")
    parser.add_argument("--level", type=int, default=10, help="of the supervoxels")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        pictures = (
            list(scene(options.count)) if options.frames is None else load_frames(options.frames, most=options.count)
        )
        frames = np.stack(pictures)
        measure(frames[:2], level=options.level)  # compile
        reached = True
        for every in options.every:
            stages = measure(frames, every=every, level=options.level)
            show_stages(stages, frames.shape[1:3])
            reached &= stages.rate >= TARGET
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if reached else 2


if __name__ == "__main__":
    sys.exit(main())
