from __future__ import annotations

from pseudolabel.video_graph_settings import VideoGraphSettings
from recipes.configuration import load_config
from recipes.webly_settings import PARTS, check_webly, graph_settings, part_of


def test_the_defaults_are_the_papers() -> None:
    cfg = load_config("train", ["recipe=webly", "scale=paper"])
    check_webly(cfg)
    assert graph_settings(cfg) == VideoGraphSettings()
    assert cfg.data.name == "synthetic_web" and (cfg.retrieval.thumbnail, cfg.retrieval.margin) == (0.8, 2.0)
    assert load_config("train", ["recipe=webly", "data=videos", "data.root=mine"]).data.name == "videos"


def test_parts_switch_terms_off() -> None:
    weights = {part: part_of(VideoGraphSettings(), part) for part in PARTS}
    shown = {part: (of.lambda_a, of.lambda_m, of.lambda_c) for part, of in weights.items()}
    assert shown == {
        "motion": (0, 1, 2),
        "attention": (2, 0, 0),
        "attention_motion": (2, 1, 0),
        "attention_colour": (2, 0, 2),
    }
