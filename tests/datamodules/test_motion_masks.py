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
    assert [file.name for file in (tmp_path / "masks").iterdir()] == ["rex.npz"]


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    store = MotionMasks(tmp_path)
    with pytest.raises(DataError, match=r"rex\.npz.*Delete it"):
        store.read("rex")
    (tmp_path / "rex.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"rex\.npz"):
        store.read("rex")
