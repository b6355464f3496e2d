from __future__ import annotations

from typing import Any

import pytest

from pseudolabel.flow import FlowSettings
from pseudolabel.types import DataError
from pseudolabel.video_graph_settings import VideoGraphSettings


def test_the_papers_weights_are_the_defaults() -> None:
    settings = VideoGraphSettings()
    assert (settings.lambda_a, settings.lambda_m, settings.lambda_c) == (2.0, 1.0, 2.0)
    assert (settings.spatial_weight, settings.temporal_weight, settings.epsilon) == (500.0, 400.0, 1e-3)
    assert (settings.seed_foreground, settings.seed_background) == (0.5, 0.2)
    assert (settings.foreground_components, settings.background_components) == (5, 8)
    assert (settings.num_superpixels, settings.compactness) == (1500, 30.0)


def test_what_is_shared_with_motion_segmentation_is_passed_on() -> None:
    changes: dict[str, Any] = {
        "flow_settings": FlowSettings(preset="fast"),
        "max_edge": 200,
        "num_superpixels": 70,
        "compactness": 5.0,
        "foreground_components": 2,
        "background_components": 3,
        "em_iters": 4,
        "bin_width": None,
        "spatial_weight": 6.0,
        "temporal_weight": 7.0,
    }
    observation = VideoGraphSettings(**changes).observation()
    assert {name: getattr(observation, name) for name in changes} == changes
    assert VideoGraphSettings().observation().residual_share == 0.0  # inside-outside maps alone
    assert VideoGraphSettings(motion_preset="papazoglou").observation().camera == "none"
    assert VideoGraphSettings(motion_preset="robust").observation().camera == "homography"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lambda_a": -1.0}, "lambda_a must be finite and >= 0"),
        ({"lambda_c": float("nan")}, "lambda_c must be finite"),
        ({"temporal_weight": float("inf")}, "temporal_weight must be finite"),
        ({"lambda_a": 0.0, "lambda_m": 0.0}, "lambda_a and lambda_m are both 0"),
        ({"epsilon": 0.0}, "epsilon must be in"),
        ({"epsilon": 0.5}, "epsilon must be in"),
        ({"seed_background": 0.6}, "seed_background <= seed_foreground"),
        ({"seed_foreground": 0.0, "seed_background": 0.0}, "seed_foreground > 0"),
        ({"motion": "ration"}, "unknown motion 'ration'; did you mean 'ratio'"),
        ({"seeds": "attenton"}, "did you mean 'attention'"),
        ({"attention_floor": 1.0}, r"attention_floor must be in \[0, 1\), got 1.0"),
        ({"motion_preset": "robus"}, "did you mean 'robust'"),
        ({"motion_full_at": 0.0}, "motion_full_at"),
        ({"num_superpixels": 1}, "num_superpixels must be >= 2"),
        ({"foreground_components": 0}, "foreground_components must be >= 1"),
        ({"em_iters": -1}, "em_iters must be >= 0"),
        ({"max_edge": 4}, "max_edge"),
        ({"compactness": 0.0}, "compactness must be > 0"),
        ({"bin_width": 0.0}, "bin_width > 0"),
        ({"window": 5, "overlap": 5}, "smaller than window"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        VideoGraphSettings(**changes)
