"""The graph over a video's key frames: supervoxels cut by frames, their neighbours and groups (Liang et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pseudolabel.bags_of_words import Vocabulary, region_features
from pseudolabel.superpixels import adjacency
from pseudolabel.types import FloatArray, Int32Array, UInt8Array

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Nodes:
    """A node is what a supervoxel covers of one key frame, connected or not.

    Attributes:
        nodes: int32 (K, H, W), the node of every pixel, 0..N-1; frame after frame, within one in the order of the
            supervoxels' ids.
        frame: int32 (N,), position of the node's frame, 0..K-1.
        supervoxel: int32 (N,).
        area: int64 (N,), pixels.
    """

    nodes: Int32Array
    frame: Int32Array
    supervoxel: Int32Array
    area: IntArray


def find_nodes(supervoxels: Int32Array) -> Nodes:
    """Cut supervoxels, int32 (K, H, W), by frames."""
    nodes, frames, ids, areas, total = np.empty(supervoxels.shape, np.int32), [], [], [], 0
    for k, labels in enumerate(supervoxels):
        present = np.unique(labels)
        rank = np.searchsorted(present, labels)
        nodes[k] = rank + total
        frames.append(np.full(len(present), k, np.int32))
        ids.append(present.astype(np.int32))
        areas.append(np.bincount(rank.ravel(), minlength=len(present)))
        total += len(present)
    return Nodes(nodes, np.concatenate(frames), np.concatenate(ids), np.concatenate(areas).astype(np.int64))


def find_edges(frames: UInt8Array, nodes: Nodes, vocabulary: Vocabulary) -> tuple[Int32Array, FloatArray]:
    """Join the nodes of a frame that touch (4-neighbours), and compare what they look like.

    Returns:
        edges int32 (E, 2), frame after frame, and D, the Euclidean distance of the two nodes' bags of words,
        float32 (E,).
    """
    starts = np.searchsorted(nodes.frame, np.arange(len(frames) + 1))
    edges, distances = [], []
    for k, frame in enumerate(frames):
        regions = nodes.nodes[k] - np.int32(starts[k])
        features = region_features(frame, regions, vocabulary, count=int(starts[k + 1] - starts[k]))
        pairs, _ = adjacency(regions)
        distances.append(np.sqrt(np.square(features[pairs[:, 0]] - features[pairs[:, 1]]).sum(axis=1)))
        edges.append((pairs + starts[k]).astype(np.int32))
    return np.concatenate(edges), np.concatenate(distances).astype(np.float32)


def group_nodes(nodes: Nodes, shots: Int32Array) -> tuple[Int32Array, IntArray]:
    """Gather the nodes of each supervoxel within each shot.

    Args:
        nodes: of the video.
        shots: int32 (K,), the shot of each frame, never falling.

    Returns:
        members int32 (N,), all nodes group by group, and starts int64 (S+1,): group s has the members
        ``starts[s]:starts[s + 1]``, in rising order. Groups are in the order of shots, then of supervoxels.
    """
    shot = shots[nodes.frame]
    members = np.lexsort((nodes.supervoxel, shot))  # stable: nodes rise within a group
    changes = (np.diff(shot[members]) != 0) | (np.diff(nodes.supervoxel[members]) != 0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(members)]])
    return members.astype(np.int32), starts.astype(np.int64)


def colour_variance(frames: UInt8Array, nodes: Nodes, members: Int32Array, starts: IntArray) -> FloatArray:
    """Return sigma_s of every group: the variance of its pixels' RGB values, summed over the channels.

    Returns:
        float32 (S,), in squared grey levels.
    """
    first = np.searchsorted(nodes.frame, np.arange(len(frames) + 1))
    sums = np.zeros((4, len(nodes.area)))  # of r, g, b and of r^2 + g^2 + b^2
    for k, frame in enumerate(frames):
        here = slice(first[k], first[k + 1])
        regions = (nodes.nodes[k] - np.int32(first[k])).ravel()
        pixels = frame.reshape(-1, 3).astype(np.float64)
        for row, values in enumerate((*pixels.T, np.square(pixels).sum(axis=1))):
            sums[row, here] = np.bincount(regions, values, minlength=first[k + 1] - first[k])
    area = np.add.reduceat(nodes.area[members], starts[:-1])
    means = np.add.reduceat(sums[:, members], starts[:-1], axis=1) / area
    return np.maximum(means[3] - np.square(means[:3]).sum(axis=0), 0).astype(np.float32)
