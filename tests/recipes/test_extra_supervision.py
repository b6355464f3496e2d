from __future__ import annotations

import numpy as np

from datamodules.boxed_images import boxes_of_mask
from pseudolabel.proposals import ProposalSettings
from pseudolabel.types import VOID
from recipes.extra_supervision import mask_from_boxes

SMALL = ProposalSettings(number=200, superpixels=60, regions=30)


def test_every_component_of_some_size_has_a_tight_box() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 3:9] = 1
    mask[10:15, 20:30] = 1
    mask[18, 1] = 1  # a stray pixel
    mask[:2, 25:] = VOID
    found = sorted(map(tuple, boxes_of_mask(mask).tolist()))
    assert found == [(3, 2, 9, 8), (20, 10, 30, 15)]
    assert boxes_of_mask(np.zeros((4, 4), np.uint8)).shape == (0, 4)


def test_a_box_becomes_the_proposal_that_fits_it() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (48, 64, 3)).astype(np.uint8)
    image[12:30, 20:44] = (220, 40, 40)
    true = np.zeros((48, 64), bool)
    true[12:30, 20:44] = True
    found = mask_from_boxes(image, np.array([[20, 12, 44, 30]], np.float32), SMALL) == 1
    assert (found & true).sum() / (found | true).sum() > 0.8
    assert not mask_from_boxes(image, np.zeros((0, 4), np.float32), SMALL).any()
