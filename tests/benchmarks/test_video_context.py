from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.motion import scene
from benchmarks.video_context import LATER, SUPERVOXELS, TARGET, WORDS, main, measure


def test_every_stage_takes_time_and_the_first_round_is_their_sum() -> None:
    stages = measure(np.stack(list(scene(4, height=64, width=96))), every=2, level=3)
    assert (stages.frames, stages.key_frames) == (4, 2) and stages.nodes >= 2
    assert len(stages.seconds) == 8 and all(seconds > 0 for seconds in stages.seconds.values())
    others = sum(seconds for name, seconds in stages.seconds.items() if name not in (WORDS, LATER))
    assert stages.total == pytest.approx(others) and others > stages.seconds[SUPERVOXELS]
    assert stages.rate == pytest.approx(4 / others)


def test_the_table_and_its_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, frame in enumerate(scene(3, height=64, width=96)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    code = main(["--frames", str(tmp_path), "--every", "1", "3", "--level", "2"])
    printed = " ".join(capsys.readouterr().out.split())  # however it is wrapped
    rates = [float(rate) for rate in re.findall(r"([\d.]+) frames/s", printed)]
    assert len(rates) == 2
    assert code == (0 if min(rates) >= TARGET else 2)
    assert "3 key frames" in printed and "1 key frames" in printed and "proposals" in printed
    assert main(["--frames", str(tmp_path / "none")]) == 1
    assert "expected the frames of a video" in capsys.readouterr().err
