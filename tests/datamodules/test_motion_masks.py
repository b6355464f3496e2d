from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.motion_masks import MotionMasks
from pseudolabel.types import DataError


def test_what_is_written_is_read_and_small(tmp_path: Path) -> None:
    masks = np.zeros((7, 13, 11), bool)  # 1001 bits: no whole number of bytes
    masks[2:, 3:9, 4:10] = True
    store = MotionMasks(tmp_path / "masks")
    assert not store.is_written("rex")
    store.write("rex", masks)
    assert store.is_written("rex") and not store.is_written("tom")
    assert np.array_equal(store.read("rex"), masks)
    opened = store.open("rex")
    assert len(opened) == 7 and opened.size == (13, 11) and np.array_equal(opened[3], masks[3])
    assert opened.bits.nbytes == 7 * 18  # 143 bits a frame
    assert [file.name for file in (tmp_path / "masks").iterdir()] == ["rex.npz"]


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    store = MotionMasks(tmp_path)
    with pytest.raises(DataError, match=r"rex\.npz.*Delete it"):
        store.read("rex")
    (tmp_path / "rex.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"rex\.npz"):
        store.read("rex")
    store.write("rex", np.ones((3, 8, 8), bool))
    whole = (tmp_path / "rex.npz").read_bytes()
    (tmp_path / "rex.npz").write_bytes(whole[: len(whole) // 2])  # begins like an archive
    with pytest.raises(DataError, match=r"rex\.npz.*Delete it"):
        store.read("rex")


def test_masks_are_packed_as_they_come(tmp_path: Path) -> None:
    store = MotionMasks(tmp_path)
    store.write("rex", (np.full((2, 3), t % 2 == 0) for t in range(5)))
    assert store.read("rex").all(axis=(1, 2)).tolist() == [True, False, True, False, True]
    with pytest.raises(DataError, match="'rex' has no frame"):
        store.write("rex", iter(()))
