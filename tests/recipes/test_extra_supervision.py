from __future__ import annotations

import numpy as np

from pseudolabel.proposals import ProposalSettings
from recipes.extra_supervision import mask_from_boxes

SMALL = ProposalSettings(number=200, superpixels=60, regions=30)


def test_a_box_becomes_the_proposal_that_fits_it() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (48, 64, 3)).astype(np.uint8)
    image[12:30, 20:44] = (220, 40, 40)
    true = np.zeros((48, 64), bool)
    true[12:30, 20:44] = True
    found = mask_from_boxes(image, np.array([[20, 12, 44, 30]], np.float32), SMALL) == 1
    assert (found & true).sum() / (found | true).sum() > 0.8
    assert not mask_from_boxes(image, np.zeros((0, 4), np.float32), SMALL).any()
