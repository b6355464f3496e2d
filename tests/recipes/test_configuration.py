from __future__ import annotations

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pseudolabel.types import DataError
from recipes.configuration import CONFIGS, load_config


def test_the_main_job_is_the_default() -> None:
    cfg = load_config("train")
    assert (cfg.recipe, cfg.data.name, cfg.scale, cfg.seed) == ("ws2", "synthetic", "demo", 0)
    assert cfg.run_dir == "runs/ws2-synthetic-demo-seed0"


@pytest.mark.parametrize("data", ["a2d", "synthetic", "videos"])
@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_every_choice_composes(data: str, scale: str) -> None:
    cfg = load_config("train", [f"data={data}", f"scale={scale}", "data.root=x", "trainer=ddp_sim", "logger=csv"])
    assert cfg.data.name == data and cfg.scale == scale and cfg.trainer.devices == 2


METHOD = {  # what decides on masks and on what teaches, recipe by recipe
    "ws2": ["selection", "criterion", "compare", "cues", "align_radius", "refine", "selector.use", "rounds.decision",
            "rounds.crf", "rounds.colours", "rounds.unsure", "segmenter.model.decision"],
    "mcnn": ["labels.name", "energy", "em_adapt", "motion.preset", "with_images.labels", "colocalise.scores", "crf",
             "segmenter.class_weights", "segmenter.model.decision", "segmenter.model.test_scales"],
    "webly": ["training", "graph.seeds", "graph.motion", "graph.lambda_a", "graph.attention_floor", "graph.epsilon",
              "graph.spatial_weight", "retrieval.trim_at_cuts", "relevance", "adapt.foreground", "adapt.margin"],
    "human": ["labels", "energy", "finish", "selection.weighting", "selection.negatives", "detector.most",
              "extra.fill", "crf.bilateral_weight"],
}  # fmt: skip


def _chosen(cfg: DictConfig, recipe: str) -> dict[str, Any]:
    return {key: OmegaConf.select(cfg, key, default="no such key") for key in METHOD[recipe]}


@pytest.mark.parametrize("recipe", sorted(METHOD))
@pytest.mark.parametrize("scale", ["demo", "small"])
def test_a_scale_sets_sizes_and_never_the_method(recipe: str, scale: str) -> None:
    data = ["data=videos", "data.root=x", f"recipe={recipe}"]  # without what a data set needs
    paper, same = (
        load_config("train", [*data, "scale=paper"]),
        load_config("train", [*data, f"scale={scale}", "method=paper"]),
    )
    assert _chosen(same, recipe) == _chosen(paper, recipe)
    assert "no such key" not in _chosen(paper, recipe).values()
    assert same.encoder2d.model.backbone != paper.encoder2d.model.backbone  # sizes are the scale's


@pytest.mark.parametrize("recipe", sorted(METHOD))
@pytest.mark.parametrize("scale", ["demo", "small"])
def test_what_is_ours_is_on_by_one_group(recipe: str, scale: str) -> None:
    ours, paper = (
        load_config("train", [f"recipe={recipe}", f"scale={scale}", *more]) for more in ([], ["method=paper"])
    )
    assert _chosen(ours, recipe) != _chosen(paper, recipe)
    assert (ours.method, paper.method) == ("ours", "paper")


def test_overrides_win() -> None:
    cfg = load_config("train", ["encoder2d.epochs=3", "seed=7", "data.source.size=[32,48]", "encoder2d.model.lr=1"])
    assert (cfg.encoder2d.epochs, cfg.seed, list(cfg.data.source.size)) == (3, 7, [32, 48])
    assert cfg.run_dir.endswith("seed7")


def test_the_configuration_takes_no_new_keys() -> None:
    cfg: DictConfig = load_config("train")
    with pytest.raises(OmegaConfBaseException):
        cfg.encoder2d.epoch = 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["encoder2d.epoch=3"], "Unknown key 'encoder2d.epoch'; did you mean 'encoder2d.epochs'?"),
        (["sede=3"], "Unknown key 'sede'; did you mean 'seed'?"),
        (["zzz.qqq=3"], "Unknown key 'zzz.qqq'. `--cfg` shows all keys."),
        (["seed=1", "segmenter.model.backbne=x"], "did you mean 'segmenter.model.backbone'?"),
        (["data=video"], "Unknown data=video; did you mean 'videos'? Known: a2d, catalogue, synthetic, "),
        (["recipe=qqq"], "Unknown recipe=qqq. Known: "),
        (["method=mcnn-demo"], "method=mcnn-demo belongs to another recipe than recipe=ws2. Known: paper, ws2-demo, "),
        (
            ["recipe=human", "sizes=ws2-demo"],
            "sizes=ws2-demo belongs to another recipe than recipe=human. ",
        ),
        (["method="], "Unknown method=. Known: "),
        (["method=papr"], "Unknown method=papr; did you mean 'paper'? Known: "),
        (["images=qqq"], "Unknown images=qqq. Known: "),
        (["--fast"], "'--fast' is not of the form key=value"),
        (["fast"], "'fast' is not of the form key=value"),
        (["data=videos"], "data.root has no value and no default. Give data.root="),
        (["encoder2d.epochs=many"], "encoder2d.epochs=many: expected a whole number"),
        (["encoder2d.epochs=2.5"], "encoder2d.epochs=2.5: expected a whole number"),
        (["encoder2d.model.lr=high"], "encoder2d.model.lr=high: expected a number"),
        (["rounds.reinit=3"], "rounds.reinit=3: expected true or false"),
        (["seed=true"], "seed=True: expected a whole number"),
        (["workers=0"], "workers=0: expected at least 1, or -1"),
        (["seed="], "seed=: expected a whole number"),
        (["segmenter.scales=1"], "segmenter.scales=1: expected something like ["),
        (["seed=1", "encoder2d.epochs=[1"], "'encoder2d.epochs=[1' cannot be read: "),
        (["name=${nowhere}"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_that_helps(overrides: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_config("train", overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["data.frames_per_video=null", "name=2024", "trainer.devices=auto", "data.max_side=64", "rounds.min_delta=0"],
)
def test_values_of_another_kind_are_fine_where_they_make_sense(override: str) -> None:
    load_config("train", [override])


def test_a_mistake_leaves_no_trace() -> None:
    with pytest.raises(DataError):
        load_config("train", ["nonsense=1"])
    assert load_config("train").seed == 0


def test_every_group_has_a_default_that_says_what_it_is() -> None:
    for file in CONFIGS.rglob("*.yaml"):
        assert file.read_text().strip(), file
