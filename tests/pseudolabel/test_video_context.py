from __future__ import annotations

import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pseudolabel.detect_boxes import Boxes
from pseudolabel.proposals import Proposals
from pseudolabel.types import DataError
from pseudolabel.video_context import VideoContext, build_context
from tests.pseudolabel.contexts import random_context, two_shots


def assert_same(first: VideoContext, second: VideoContext) -> None:
    for field in fields(VideoContext):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    for box, same in zip(first.boxes, second.boxes, strict=True):
        np.testing.assert_array_equal(box.boxes, same.boxes)
        np.testing.assert_array_equal(box.scores, same.scores)
    for pool, again in zip(first.proposals, second.proposals, strict=True):
        for name, array in pool.to_arrays().items():
            np.testing.assert_array_equal(array, again.to_arrays()[name])


def test_the_graph_of_two_shots() -> None:
    _, masks, context = two_shots()
    assert (context.num_frames, context.num_nodes, context.size) == (6, 12, (24, 32))
    assert context.node_supervoxel.tolist() == [4, 9] * 6
    np.testing.assert_array_equal(context.node_supervoxel[context.nodes] == 4, masks)
    assert context.edges.tolist() == [[2 * k, 2 * k + 1] for k in range(6)]
    assert context.clique_members.tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
    assert context.clique_starts.tolist() == [0, 3, 6, 9, 12]
    assert (context.distances > 0.5).all()  # red and green share few words
    assert [len(boxes) for boxes in context.boxes] == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("shots", [1, 3])
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, shots: int) -> None:
    context = random_context(np.random.default_rng(shots), frames=4, size=(6, 5), supervoxels=4, shots=shots)
    mixed = replace(context, boxes=[Boxes.none(), *context.boxes[1:]])
    path = tmp_path / "made" / "video.npz"
    mixed.save(path)
    assert_same(VideoContext.load(path), mixed)
    two_shots()[2].save(path)
    assert_same(VideoContext.load(path), two_shots()[2])
    assert [file.name for file in path.parent.iterdir()] == ["video.npz"]  # nothing is left beside it


def test_no_box_at_all_and_no_proposal(tmp_path: Path) -> None:
    context = random_context(np.random.default_rng(0), frames=2, size=(4, 4), supervoxels=3)
    empty = Proposals.from_masks(np.zeros((0, 4, 4), bool))
    bare = replace(context, boxes=[Boxes.none()] * 2, proposals=[empty] * 2)
    bare.save(tmp_path / "video.npz")
    assert_same(VideoContext.load(tmp_path / "video.npz"), bare)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "video.npz"
    context = two_shots()[2]
    context.save(path)

    def full_disk(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        random_context(np.random.default_rng(0), frames=2, size=(4, 4), supervoxels=3).save(path)
    assert_same(VideoContext.load(path), context)
    assert [file.name for file in tmp_path.iterdir()] == ["video.npz"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_half_written_files_are_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "video.npz"
    two_shots()[2].save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"video\.npz' cannot be read .* make it anew"):
        VideoContext.load(path)


def test_any_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "video.npz"
    context = random_context(np.random.default_rng(0), frames=2, size=(4, 4), supervoxels=3)
    context.save(path)
    content, refused = path.read_bytes(), 0
    for position in np.random.default_rng(1).integers(0, len(content), 150):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            read = VideoContext.load(path)
        except DataError:
            refused += 1
        else:
            assert_same(read, context)  # a date, say
    assert refused > 75


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "video.npz"
    with pytest.raises(DataError, match="FileNotFoundError"):
        VideoContext.load(path)
    np.savez(path, something=np.ones(3))
    with pytest.raises(DataError, match="make it anew"):
        VideoContext.load(path)
    np.savez(path, format=np.array([object()], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        VideoContext.load(path)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="cannot be read"):
        VideoContext.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("format.npy", b"no array")
    with pytest.raises(DataError, match="cannot be read"):
        VideoContext.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": np.array([0, 4, 4, 20, 21, 30])}, "do not rise"),
        ({"shots": np.array([0, 0, 1, 0, 1, 1], np.int32)}, "shots fall"),
        ({"shots": np.array([0, 0, 0, 1, 1, 1])}, "type int64, expected int32"),
        ({"node_area": np.ones(12, np.int64)}, "areas"),
        ({"edges": np.array([[0, 12]] * 6, np.int32)}, r"outside of 0\.\.11"),
        ({"edges": np.array([[0, 11]] * 6, np.int32)}, "two frames"),
        ({"distances": np.full(6, np.nan, np.float32)}, "not finite"),
        ({"distances": np.ones(5, np.float32)}, "edges has shape"),
        ({"clique_members": np.zeros(12, np.int32)}, "every node once"),
        ({"clique_starts": np.array([0, 3, 3, 9, 12])}, "starts"),
        ({"boxes": []}, "0 sets of boxes"),
        ({"proposals": [Proposals.from_masks(np.ones((1, 2, 2), bool))] * 6}, "proposals of sizes"),
    ],
)
def test_contexts_that_do_not_fit_together_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(two_shots()[2], **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((6, 24, 32, 3))}, "uint8"),
        ({"frames": np.zeros((0, 24, 32, 3), np.uint8)}, "K >= 1"),
        ({"supervoxels": np.zeros((5, 24, 32), np.int32)}, "key frames only"),
        ({"supervoxels": np.full((6, 24, 32), -1)}, ">= 0"),
        ({"shots": [0] * 5}, "5 shots"),
        ({"boxes": []}, "0 boxes"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    frames, masks, context = two_shots()
    given = {
        "frames": frames,
        "supervoxels": masks.astype(np.int32),
        "indices": context.indices,
        "shots": context.shots,
        "proposals": context.proposals,
        "boxes": context.boxes,
    }
    with pytest.raises(DataError, match=message):
        build_context(**{**given, **change})
