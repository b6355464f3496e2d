from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.key_frame_store import KeyFrames, KeyFrameStore, MapSpool, thin_out
from pseudolabel.types import DataError


def found(count: int = 3) -> KeyFrames:
    maps = np.arange(count * 6, dtype=np.int32).reshape(count, 2, 3)
    return KeyFrames(np.arange(count) * 5, np.array([0, 0, 1], np.int32)[:count], maps)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = KeyFrameStore(tmp_path)
    assert not store.is_written("a")
    store.write("a", found(), frames=12, num_shots=2)
    again = store.read("a")
    np.testing.assert_array_equal(again.supervoxels, found().supervoxels)
    np.testing.assert_array_equal(again.indices, [0, 5, 10])
    assert store.is_written("a") and store.note("a") == {
        **{"frames": 12, "num_shots": 2},
        **{"indices": [0, 5, 10], "shots": [0, 0, 1]},
    }


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    store = KeyFrameStore(tmp_path)
    store.write("a", found(), frames=12)
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.npz cannot be read .* Delete .*a\.\* and run again"):
        store.read("a")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json cannot be read"):
        store.note("a")
    with pytest.raises(DataError, match="expected the counts of 'b'"):
        store.note("b")


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError, match="3 key frames need shots"):
        KeyFrames(np.arange(3), np.zeros(2, np.int32), np.zeros((3, 2, 2), np.int32))


def test_maps_come_back_from_the_spool() -> None:
    maps = [np.full((2, 3), value, np.int32) for value in (7, -1, 300_000)]
    with MapSpool() as spool:
        assert [spool.keep(labels) for labels in maps] == [1, 2, 3]
        for position in (2, 0, 1):
            np.testing.assert_array_equal(spool.read(position), maps[position])


@pytest.mark.parametrize(
    ("most", "expected"), [(None, [0, 3, 4, 9, 11]), (5, [0, 3, 4, 9, 11]), (2, [0, 4]), (1, [0]), (3, [0, 3, 9])]
)
def test_key_frames_are_thinned_out_evenly(most: int | None, expected: list[int]) -> None:
    assert thin_out([0, 3, 4, 9, 11], most) == expected
