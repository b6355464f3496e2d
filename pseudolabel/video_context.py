"""What labelling a video needs in every round, made once: graph, boxes and proposals of its key frames.

Liang et al. 2017, Sec. 3.2. Only the network's scores change from round to round
(:mod:`pseudolabel.video_context_energy`); a context is one file.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pseudolabel.bags_of_words import BagOfWordsSettings, learn_vocabulary
from pseudolabel.detect_boxes import Boxes
from pseudolabel.palette import write_atomically
from pseudolabel.proposals import Proposals
from pseudolabel.types import DataError, FloatArray, Int32Array, UInt8Array
from pseudolabel.video_context_graph import colour_variance, find_edges, find_nodes, group_nodes

IntArray = npt.NDArray[np.int64]

_FORMAT = 1  # of the file; a file of another format is refused
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,  # not a zip file but an array: it has no keys
    RuntimeError,  # "encrypted", or a compression that is none
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class VideoContext:
    """The spatio-temporal graph of a video's K key frames, with what was found in each of them.

    A node is what a supervoxel covers of one frame. A clique is a supervoxel within one shot, with all its nodes.

    Attributes:
        indices: int64 (K,), numbers of the key frames in the source video, rising.
        shots: int32 (K,), the shot of each, never falling.
        nodes: int32 (K, H, W), the node of every pixel, 0..N-1, frame after frame.
        node_frame: int32 (N,), position of the node's frame, 0..K-1, never falling.
        node_supervoxel: int32 (N,).
        node_area: int64 (N,), pixels.
        edges: int32 (E, 2), nodes of a frame that touch, frame after frame.
        distances: float32 (E,), D of Eq. 6.
        clique_members: int32 (N,), the nodes clique by clique; cliques are in the order of shots.
        clique_starts: int64 (S+1,), clique s has the members ``clique_starts[s]:clique_starts[s + 1]``.
        variance: float32 (S,), sigma_s of Eq. 7, the RGB variance of the clique's pixels.
        proposals: per frame.
        boxes: per frame.

    Raises:
        DataError: shapes or types do not fit together, or an id is out of its range.
    """

    indices: IntArray
    shots: Int32Array
    nodes: Int32Array
    node_frame: Int32Array
    node_supervoxel: Int32Array
    node_area: IntArray
    edges: Int32Array
    distances: FloatArray
    clique_members: Int32Array
    clique_starts: IntArray
    variance: FloatArray
    proposals: list[Proposals]
    boxes: list[Boxes]

    def __post_init__(self) -> None:
        for what, wrong in self._faults():
            if wrong:
                raise DataError(f"Video context: {what}. Make it anew with build_context.")

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.node_frame)

    @property
    def num_frames(self) -> int:
        """K."""
        return len(self.indices)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.nodes.shape[1], self.nodes.shape[2]

    def save(self, path: str | Path) -> None:
        """Write the context to one compressed ``.npz`` file, whole or not at all; its folder is made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self._to_arrays())
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> VideoContext:
        """Read what :meth:`save` has written; nothing in it is executed.

        Raises:
            DataError: the file is missing, damaged, half-written, or no video context.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls._from_arrays(dict(arrays))
        except _DAMAGE as error:
            raise DataError(
                f"Video context '{path}' cannot be read ({type(error).__name__}: {error}). Expected a file that "
                "VideoContext.save has written: delete it and make it anew."
            ) from error

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {"format": np.array(_FORMAT)}
        for name in _ARRAYS:
            arrays[name] = getattr(self, name)
        arrays["box_counts"] = np.array([len(boxes.scores) for boxes in self.boxes], np.int64)
        arrays["box_corners"] = np.concatenate([boxes.boxes for boxes in self.boxes])
        arrays["box_scores"] = np.concatenate([boxes.scores for boxes in self.boxes])
        for k, pool in enumerate(self.proposals):
            for name, array in pool.to_arrays().items():
                arrays[f"proposals/{k}/{name}"] = array
        return arrays

    @classmethod
    def _from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> VideoContext:
        if int(arrays["format"]) != _FORMAT:
            raise DataError(f"it has format {arrays['format']}, expected {_FORMAT}")
        ends = np.cumsum(arrays["box_counts"])[:-1]
        corners, scores = np.split(arrays["box_corners"], ends), np.split(arrays["box_scores"], ends)
        pools: list[dict[str, npt.NDArray[Any]]] = [{} for _ in arrays["indices"]]
        for key, array in arrays.items():
            if key.startswith("proposals/"):
                _, k, name = key.split("/", 2)
                pools[int(k)][name] = array
        return cls(
            **{name: arrays[name] for name in _ARRAYS},
            proposals=[Proposals.from_arrays(pool) for pool in pools],
            boxes=[Boxes(*pair) for pair in zip(corners, scores, strict=True)],
        )

    def _faults(self) -> Iterator[tuple[str, bool]]:
        """Yield what may be wrong, each with whether it is; later ones rely on earlier ones."""
        frames, count = self.indices.size, self.node_frame.size
        edges, cliques = self.distances.size, self.variance.size
        shapes = {
            "K": (frames,),
            "KHW": self.nodes.shape,
            "N": (count,),
            "E": (edges,),
            "E2": (edges, 2),
            "S": (cliques,),
            "S+1": (cliques + 1,),
        }
        for name, (kind, shape) in _ARRAYS.items():
            got = getattr(self, name)
            yield f"{name} has type {got.dtype}, expected {np.dtype(kind)}", got.dtype != kind
            yield f"{name} has shape {got.shape}, expected {shapes[shape]}", got.shape != shapes[shape]
        yield f"nodes {self.nodes.shape} are not ({frames}, H, W)", self.nodes.ndim != 3 or len(self.nodes) != frames
        yield "there is no key frame, expected one or more", not frames or not self.nodes.size
        yield "indices do not rise", bool((np.diff(self.indices) <= 0).any())
        yield "shots fall", bool((np.diff(self.shots) < 0).any())
        outside = not _within(self.nodes, count) or not _within(self.edges, count)
        yield f"a pixel or an edge names a node outside of 0..{count - 1}", outside
        yield (
            "the nodes' frames are out of range or fall",
            not (_within(self.node_frame, frames) and bool((np.diff(self.node_frame) >= 0).all())),
        )
        ends = self.node_frame[self.edges]
        yield "an edge joins two frames", bool((ends[:, 0] != ends[:, 1]).any())
        counts = np.bincount(self.nodes.ravel(), minlength=count)
        yield "the nodes' areas are not those of their pixels", not np.array_equal(counts, self.node_area)
        starts = self.clique_starts
        yield (
            "the cliques' starts do not rise from 0 to N",
            bool(starts[0] != 0 or starts[-1] != count or (np.diff(starts) < 1).any()),
        )
        yield (
            "the cliques do not hold every node once",
            not np.array_equal(np.sort(self.clique_members), np.arange(count)),
        )
        positive = [self.distances, self.variance]
        yield (
            "a distance or variance is negative or not finite",
            not all(bool((np.isfinite(values) & (values >= 0)).all()) for values in positive),
        )
        lists = len(self.proposals), len(self.boxes)
        yield f"{lists[0]} proposal pools and {lists[1]} sets of boxes, expected {frames}", lists != (frames, frames)
        sizes = {pool.regions.shape for pool in self.proposals}
        yield f"proposals of sizes {sizes}, expected {self.nodes.shape[1:]}", sizes != {self.nodes.shape[1:]}


_ARRAYS: dict[str, tuple[type[np.generic], str]] = {
    "indices": (np.int64, "K"),
    "shots": (np.int32, "K"),
    "nodes": (np.int32, "KHW"),
    "node_frame": (np.int32, "N"),
    "node_supervoxel": (np.int32, "N"),
    "node_area": (np.int64, "N"),
    "edges": (np.int32, "E2"),
    "distances": (np.float32, "E"),
    "clique_members": (np.int32, "N"),
    "clique_starts": (np.int64, "S+1"),
    "variance": (np.float32, "S"),
}
"""The plain arrays of a context: type and shape."""


def build_context(
    frames: UInt8Array,
    supervoxels: Int32Array,
    indices: npt.ArrayLike,
    shots: npt.ArrayLike,
    proposals: Sequence[Proposals],
    boxes: Sequence[Boxes],
    *,
    settings: BagOfWordsSettings | None = None,
) -> VideoContext:
    """Build the graph of a video's key frames (Liang et al. 2017, Sec. 3.2; SPEC H8, H9).

    Args:
        frames: uint8 (K, H, W, 3), RGB, the key frames in order, K >= 1.
        supervoxels: int (K, H, W), ids >= 0 that stand for the same supervoxel in all frames.
        indices: int (K,), their numbers in the source video, rising.
        shots: int (K,), the shot of each, never falling.
        proposals: per frame, of its size.
        boxes: per frame, may be empty.
        settings: of the bags of words; the paper's when None.

    Raises:
        DataError: lengths, sizes or types do not fit, or there is no key frame.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise DataError(
            f"Video context: frames must be uint8 (K, H, W, 3) with K >= 1, got {frames.dtype} {frames.shape}. Give "
            "the key frames of the video as 8-bit RGB."
        )
    labels = np.asarray(supervoxels)
    if labels.shape != frames.shape[:3] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"Video context: supervoxels must be whole numbers >= 0 {frames.shape[:3]}, got {labels.dtype} "
            f"{labels.shape}. Take the maps of the key frames only."
        )
    numbers, shot_of = np.asarray(indices, np.int64), np.asarray(shots, np.int32)
    for name, given in (("indices", numbers), ("shots", shot_of), ("proposals", proposals), ("boxes", boxes)):
        if len(given) != len(frames):
            raise DataError(f"Video context: {len(frames)} frames but {len(given)} {name}, expected one per frame.")
    found = find_nodes(labels)
    edges, distances = find_edges(frames, found, learn_vocabulary(frames, settings))
    members, starts = group_nodes(found, shot_of)
    return VideoContext(
        indices=numbers,
        shots=shot_of,
        nodes=found.nodes,
        node_frame=found.frame,
        node_supervoxel=found.supervoxel,
        node_area=found.area,
        edges=edges,
        distances=distances,
        clique_members=members,
        clique_starts=starts,
        variance=colour_variance(frames, found, members, starts),
        proposals=list(proposals),
        boxes=list(boxes),
    )


def _within(ids: npt.NDArray[np.integer], count: int) -> bool:
    return not ids.size or bool(ids.min() >= 0 and ids.max() < count)
