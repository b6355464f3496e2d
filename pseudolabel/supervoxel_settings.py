"""The settings of supervoxels (`pseudolabel.supervoxels`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from pseudolabel.flow import FlowSettings
from pseudolabel.types import DataError


@dataclass(frozen=True)
class SupervoxelSettings:
    """Every constant of hierarchical graph-based video segmentation.

    ``c`` to ``levels`` are the five numbers of LIBSVX's ``gbh 5 200 100 0.5 20`` (Xu and Corso 2012; SPEC H-c), the two
    growth factors those of its code (SPEC A-X). What follows is ours, or is not told in public.

    Attributes:
        c: how far colours within a supervoxel of level 0 may differ, grey levels times voxels, >= 0.
        c_reg: the same of level 1, in units of the edge weight times voxels, >= 0.
        min_size: a supervoxel of level n >= 1 has at least ``min_size * min_size_growth**n`` voxels; >= 1 (unless it is
            all there is).
        sigma: of the Gaussian that smooths each frame, pixels, >= 0; 0 = none.
        levels: region levels above level 0, >= 0; they are numbered 0..``levels``.
        c_reg_growth: c_reg of a level over that of the level below, >= 1.
        min_size_growth: min_size of a level over that of the level below, >= 1.
        histogram_bins: per channel of the Lab histograms, 2..256.
        histogram_reach: a and b are binned in [-reach, reach], what is beyond counts as the outermost bin; in 1..128.
            Few colours are farther from grey, and with 128 most frames fill three or four bins.
        part_size: ours: a supervoxel of level 0 has at least so many voxels, >= 1. It is ``min_size`` in GBH; but with
            100, thin parts of objects are gone before a histogram is looked at.
        contrast: ours: an edge weighs as much as the histogram distance of its regions where colours differ by so many
            grey levels along their border, and this is the whole border of one of them (see
            :func:`~pseudolabel.supervoxel_regions.edge_weights`); >= 1. It acts as ``c_reg`` does; with 100 the levels
            have about as many supervoxels as by the histogram distance alone. None: the histogram distance alone, as
            GBH has it.
        hidden_levels: ours: steps between level 0 and level 1 that have no number, >= 0; ``c_reg`` and ``min_size``
            grow over them as over the levels. What a step has joined is weighed anew as a whole; in one great step
            small parts join in chains, each link weighed by a few voxels.
        max_link: ours: pixels of two frames are neighbours only if their colours differ by at most so many grey levels,
            >= 0; infinity = always, as the authors do, but then many supervoxels go on over a cut.
        follow_motion: link a pixel to the frame before along optical flow (Grundmann et al., section 2.3; LIBSVX links
            the same place).
        flow_settings: how flow is computed.
        window: new frames that are segmented at once, >= 1. Time and memory are linear in it. Sizes are counted within
            a window, so that a longer one gives longer, hence fewer supervoxels.
        overlap: frames of the window before that are segmented once more, so that supervoxels go on, in 1..``window``.

    Raises:
        DataError: a value is out of its range.
    """

    c: float = 5.0
    c_reg: float = 200.0
    min_size: int = 100
    sigma: float = 0.5
    levels: int = 20
    c_reg_growth: float = 1.4
    min_size_growth: float = 1.2
    histogram_bins: int = 20
    histogram_reach: float = 64.0
    part_size: int = 25
    contrast: float | None = 100.0
    hidden_levels: int = 6
    max_link: float = 20.0
    follow_motion: bool = True
    flow_settings: FlowSettings = field(default_factory=lambda: FlowSettings(preset="ultrafast"))
    window: int = 10
    overlap: int = 2

    def __post_init__(self) -> None:
        for name, least, most in (
            ("c", 0, float("inf")),
            ("c_reg", 0, float("inf")),
            ("min_size", 1, float("inf")),
            ("sigma", 0, float("inf")),
            ("levels", 0, float("inf")),
            ("c_reg_growth", 1, float("inf")),
            ("min_size_growth", 1, float("inf")),
            ("histogram_bins", 2, 256),
            ("histogram_reach", 1, 128),
            ("part_size", 1, float("inf")),
            ("contrast", 1, 1e6),
            ("hidden_levels", 0, 100),
            ("max_link", 0, float("inf")),
            ("window", 1, float("inf")),
            ("overlap", 1, self.window),
        ):
            value = getattr(self, name)
            if name == "contrast" and value is None:
                continue
            if not least <= value <= most:
                raise DataError(f"Supervoxels: {name} must be in [{least}, {most}], got {value}.")
