from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recipes.webly_web import retrieval_problems

LIMITS = OmegaConf.create({"retrieval": {"thumbnail": 0.8, "key_frame": 0.7}})


def found(**changed: Any) -> dict[str, Any]:
    plain = {"clips": {"cat": 2, "dog": 0}, "thumbnails": {"cat": (3, 0.9), "dog": (4, 0.31)}, "without_hit": []}
    return {**plain, "skipped": [], **changed}


def test_each_class_without_a_clip_is_told_with_what_to_change() -> None:
    def reason(**changed: Any) -> str:
        ((name, text),) = retrieval_problems(LIMITS, found(**changed), Path("run/web"))
        assert name == "dog" and text.endswith("run/web/manifest.csv")
        return text

    assert "none of 4 thumbnails scores above retrieval.thumbnail=0.8 (best: 0.31)" in reason()
    assert "data.keywords={dog: …}" in reason(without_hit=["dog"], thumbnails={"dog": (0, 0.0)})
    assert "retrieval.key_frame=0.7" in reason(thumbnails={"dog": (4, 0.95)})


def test_what_cannot_be_read_is_told() -> None:
    all_there = found(clips={"cat": 1, "dog": 1}, skipped=[["torn", "ends mid-file"]])
    assert retrieval_problems(LIMITS, all_there, Path("web")) == [("torn", "ends mid-file")]
    assert retrieval_problems(LIMITS, None, Path("web")) == [], "videos were given, none retrieved"
