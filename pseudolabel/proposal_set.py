"""Many sets of pixels of one frame, kept as sets of the regions of one partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pseudolabel.superpixels import IntArray
from pseudolabel.types import BoolArray, DataError, FloatArray, Int32Array


@dataclass(frozen=True)
class Proposals:
    """Proposals of one frame, each a set of the regions of one partition of it.

    So sums over the pixels of all proposals are one product of matrices: ``members @ sums_of_regions``.

    Attributes:
        regions: int32 (H, W), the region of each pixel, 0..S-1.
        members: bool (R, S), which regions a proposal unites; the likely objects first. R may be 0.
        boxes: float32 (R, 4), the tight boxes x0, y0, x1, y1 in pixels, x1 and y1 beyond the last pixel; NaN of a
            proposal without pixels.
        areas: int64 (R,), pixels.
    """

    regions: Int32Array
    members: BoolArray
    boxes: FloatArray
    areas: IntArray

    @classmethod
    def from_members(cls, regions: Int32Array, members: BoolArray) -> Proposals:
        """Measure the proposals that unite these regions; arguments as the attributes.

        Raises:
            DataError: shapes or types do not fit, or a region has no column in ``members``.
        """
        if regions.ndim != 2 or not regions.size or regions.dtype.kind not in "iu" or regions.min() < 0:
            raise DataError(
                f"Proposals: regions must be whole numbers >= 0 of shape (H, W), got {regions.dtype} {regions.shape}."
            )
        if members.ndim != 2 or members.dtype != np.bool_ or members.shape[1] <= regions.max():
            raise DataError(
                f"Proposals: members must be bool (R, S) with a column for each of {int(regions.max()) + 1} regions, "
                f"got {members.dtype} {members.shape}."
            )
        count = members.shape[1]
        pixels = np.bincount(regions.ravel(), minlength=count)
        areas = np.rint(members.astype(np.float32) @ pixels.astype(np.float32)).astype(np.int64)
        corners = _region_boxes(regions, count)
        boxes = np.stack([np.where(members, side, np.inf).min(axis=1, initial=np.inf) for side in corners], axis=1)
        boxes *= np.array([1, 1, -1, -1], np.float32)
        boxes[areas == 0] = np.nan
        return cls(regions.astype(np.int32), members, boxes, areas)

    @classmethod
    def from_masks(cls, masks: BoolArray) -> Proposals:
        """Make proposals of masks bool (R, H, W); the regions are the pixels that the same masks hold.

        Raises:
            DataError: masks are not bool (R, H, W) with pixels.
        """
        if masks.ndim != 3 or masks.dtype != np.bool_ or 0 in masks.shape[1:]:
            raise DataError(f"Proposals: masks must be bool (R, H, W), got {masks.dtype} {masks.shape}.")
        count, height, width = masks.shape
        if not count:
            return cls.from_members(np.zeros((height, width), np.int32), np.zeros((0, 1), bool))
        codes = np.ascontiguousarray(np.packbits(masks.reshape(count, -1), axis=0).T)  # (H * W, bytes)
        keys = codes.view(np.dtype((np.void, codes.shape[1]))).ravel()
        _, first, regions = np.unique(keys, return_index=True, return_inverse=True)
        members = masks.reshape(count, -1)[:, first]
        return cls.from_members(regions.reshape(height, width).astype(np.int32), members)

    def __len__(self) -> int:
        return len(self.members)

    def mask(self, number: int) -> BoolArray:
        """Return bool (H, W), the pixels of one proposal."""
        return np.asarray(self.members[number][self.regions])

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays, for ``np.savez``; members are packed eight to a byte."""
        return {
            "regions": self.regions,
            "packed": np.packbits(self.members, axis=1),
            "shape": np.array(self.members.shape),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Proposals:
        """Inverse of :meth:`to_arrays`."""
        members = np.unpackbits(arrays["packed"], axis=1, count=int(arrays["shape"][1])).astype(bool)
        return cls.from_members(arrays["regions"], members)


def _region_boxes(regions: Int32Array, count: int) -> FloatArray:
    """Return float32 (4, S): x0, y0, -x1, -y1 of every region, so that a union's corner is always a minimum."""
    corners = np.full((4, count), np.inf, np.float32)
    for region, place in enumerate(ndimage.find_objects(regions + 1)):
        if place is not None:
            rows, columns = place
            corners[:, region] = columns.start, rows.start, -columns.stop, -rows.stop
    return corners
