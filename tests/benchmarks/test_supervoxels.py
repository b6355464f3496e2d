from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.motion import scene
from benchmarks.supervoxel_quality import (
    _superpixels,
    boundary_recall,
    consistency,
    edges,
    leaks,
    linked_superpixels,
    score,
)
from benchmarks.supervoxels import main
from pseudolabel.superpixels import segment_superpixels


def test_accuracy_and_leaks_by_hand() -> None:
    labels = np.array([[0, 0, 0, 1], [0, 0, 2, 2]])
    truth = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    accuracy, error = leaks(labels, truth)  # 1 pixel of region 0 and 1 of region 2 are wrong
    assert accuracy == pytest.approx(6 / 8) and error == pytest.approx(4 / 8)
    assert leaks(truth.astype(int), truth) == (1.0, 0.0)


def test_boundary_recall_by_hand() -> None:
    truth = np.zeros((9, 20), bool)
    truth[:, 10:] = True
    labels = np.zeros((9, 20), int)
    labels[:6, 12:] = 1  # its edge is 2 pixels beside, in rows 0 to 5
    assert edges(truth).sum() == 9 and edges(truth)[:, 9].all()
    assert boundary_recall(labels, truth, reach=2) == pytest.approx(8 / 9), "rows 6 and 7 are within reach"
    assert boundary_recall(labels, truth, reach=1) == 0
    assert np.isnan(boundary_recall(labels, np.zeros_like(truth)))


def test_consistency_by_hand() -> None:
    labels = np.array([[[0, 0, 1, 1]], [[9, 0, 0, 1]]])
    flow = np.zeros((1, 4, 2), np.float32)
    assert consistency(labels, [flow]) == pytest.approx(2 / 4)
    flow[..., 0] = 1
    assert consistency(labels, [flow]) == 1.0, "the last pixel leaves"


def test_linked_superpixels_keep_their_ids_on_a_still() -> None:
    frame = next(iter(scene(1, height=32, width=48)))
    frames, flows = np.stack([frame] * 3), [np.zeros((32, 48, 2), np.float32)] * 2
    labels = linked_superpixels(frames, [20, 20, 20], flows)
    assert (labels == labels[0]).all() and labels[0].max() >= 19
    quality = score(labels, np.zeros(labels.shape, bool), flows)
    assert (quality.accuracy, quality.consistency, quality.duration) == (1, 1, 3)


def test_the_tables_of_a_small_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / kind / "480p" / "one").mkdir(parents=True)
    for t, frame in enumerate(scene(3, height=48, width=64)):
        cv2.imwrite(str(tmp_path / "JPEGImages/480p/one" / f"{t:05d}.png"), frame[..., ::-1])
        reddish = (frame[..., 0].astype(int) - frame[..., 1] > 60) * np.uint8(255)
        cv2.imwrite(str(tmp_path / "Annotations/480p/one" / f"{t:05d}.png"), reddish)
    quick = ["--lengths", "2", "--memory", "--folder", str(tmp_path / "out")]
    scored = ["--davis", str(tmp_path), "--levels", "0", "2", "--picture", str(tmp_path / "out/picture.png")]
    assert main([*quick, *scored]) == 0
    printed = capsys.readouterr().out
    assert "ms per frame" in printed and "supervoxels, level 2" in printed and "SLIC" in printed
    assert len((tmp_path / "out/supervoxels.csv").read_text().splitlines()) == 5
    assert (tmp_path / "out/supervoxels-speed.csv").exists() and (tmp_path / "out/picture.png").stat().st_size > 0
    assert main(["--lengths", "--memory", "--davis", str(tmp_path / "absent")]) == 1
    assert "JPEGImages" in capsys.readouterr().err


def test_slic_makes_as_many_regions_as_it_can_come_near() -> None:
    rng = np.random.default_rng(0)
    frame = cv2.GaussianBlur(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8), (0, 0), 3)
    for count in (20, 60, 150):
        plain, near = segment_superpixels(frame, n=count), _superpixels(frame, count)
        made, plainly = len(np.unique(near)), len(np.unique(plain))
        assert abs(made - count) <= abs(plainly - count) and abs(made - count) <= 0.05 * count + 1
