from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from datamodules import stills
from datamodules.rendering import render_video
from datamodules.stills import IMAGE_SOURCES, SyntheticStills, generate_stills, render_still, with_void_band
from datamodules.studio.actors import BODIES
from datamodules.studio.painting import cast_shadow, ground, pastel
from datamodules.studio.scenery import DISTRACTORS
from datamodules.studio.still_life import DEFAULT_CLASSES, StillOptions, StillPlan, poses_of, set_still
from pseudolabel.types import VOID, DataError, LabelSpace, Tag

TINY: dict[str, Any] = {"train": 6, "val": 2, "test": 2, "size": (48, 64)}
SPACE = LabelSpace(tuple(map(Tag, DEFAULT_CLASSES)))
OPTIONS = StillOptions(**TINY, classes=DEFAULT_CLASSES, seed=0, several=0.5, objects=2, foreign=0.0, border=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_stills(tmp_path_factory.mktemp("stills"), **TINY, several=0.5, workers=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_layout_and_table_agree_with_the_masks(folder: Path) -> None:
    names = (folder / "classes.txt").read_text().split("\n")[:-1]
    assert names == ["background", *DEFAULT_CLASSES, *DISTRACTORS]
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert Counter(row["split"] for row in rows) == {"train": 6, "val": 2, "test": 2}
    for row in rows:
        with Image.open(folder / "images" / f"{row['image']}.jpg") as image:
            assert (image.format, image.size) == ("JPEG", (64, 48))
        with Image.open(folder / "masks" / f"{row['image']}.png") as image:
            assert image.mode == "P"
            mask = np.array(image)
        shown = {names[value] for value in np.unique(mask) if value not in (0, VOID)}
        assert set(row["classes"].split(";")) == shown
        assert shown & set(DEFAULT_CLASSES)
        assert 0.005 < (mask == VOID).mean() < 0.4


def test_the_boxes_are_those_of_the_masks(folder: Path) -> None:
    names = (folder / "classes.txt").read_text().split("\n")[:-1]
    with (folder / "boxes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        mask = np.array(Image.open(folder / "masks" / f"{row['image']}.png"))
        x0, y0, x1, y1 = (int(row[key]) for key in ("x0", "y0", "x1", "y1"))
        inside = mask[y0:y1, x0:x1] == names.index(row["class"])
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_same_options_same_bytes_whatever_the_workers(folder: Path, tmp_path: Path) -> None:
    again = generate_stills(tmp_path, **TINY, several=0.5, workers=2)
    assert again.name == folder.name
    assert contents(again) == contents(folder)
    assert len(contents(folder)) == 2 * 10 + 4
    other = generate_stills(tmp_path, **TINY, several=0.5, seed=1, workers=1)
    assert other.name != folder.name
    assert contents(other)["images/train_00000.jpg"] != contents(folder)["images/train_00000.jpg"]


def test_existing_folder_is_read_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stills, "_write", lambda *_: pytest.fail("written again"))
    source = SyntheticStills(folder.parent, SPACE, **TINY, several=0.5)
    assert source.root == folder and source.skipped == []
    assert source.common == SPACE.tags
    assert [len(source.select(split)) for split in ("train", "val", "test")] == [6, 2, 2]
    for record in source.records:
        mask = source.mask(record)
        assert mask is not None and mask.shape == source.image(record).shape[:2]
        assert {SPACE.index(tag) for tag in record.tags} == set(np.unique(mask).tolist()) - {0, VOID}


def test_every_class_leads_equally_often() -> None:
    plans = replace(OPTIONS, train=40).images()
    train = [plan for plan in plans if plan.split == "train"]
    assert Counter(plan.actors[0] for plan in train) == dict.fromkeys(DEFAULT_CLASSES, 10)
    pairs = [plan.actors for plan in train if len(plan.actors) == 2]
    assert 10 <= len(pairs) <= 30
    assert any(first == second for first, second in pairs) and any(first != second for first, second in pairs)
    assert {len(plan.objects) for plan in train} == {0, 1, 2}


def test_foreign_images_show_other_classes_only(tmp_path: Path) -> None:
    plans = replace(OPTIONS, train=200, foreign=0.3, objects=0).images()
    foreign = [plan for plan in plans if not plan.actors]
    assert len(foreign) / len(plans) == pytest.approx(0.3, abs=0.08)
    assert all(plan.objects for plan in foreign)
    source = SyntheticStills(tmp_path, SPACE, **{**TINY, "train": 8}, foreign=0.5, workers=1)
    assert source.num_without_class > 0
    assert len(source.records) + source.num_without_class == 12


def test_image_shows_its_plan_and_depends_on_nothing_else() -> None:
    plan = StillPlan("train", 0, ("dog",), ("plate",))
    image, mask = render_still(plan, OPTIONS)
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, OPTIONS.names.index("dog"), OPTIONS.names.index("plate")}
    assert (mask == OPTIONS.names.index("dog")).mean() >= stills.MIN_VISIBLE
    again, same = render_still(plan, OPTIONS)
    assert (again == image).all() and (same == mask).all()


def test_void_band_by_hand() -> None:
    mask = np.zeros((5, 7), np.uint8)
    mask[:, 4:] = 3
    banded = with_void_band(mask, border=1)
    np.testing.assert_array_equal(banded, np.tile([0, 0, 0, 255, 255, 3, 3], (5, 1)))
    assert with_void_band(mask, border=0) is mask


def test_heads_are_the_same_part_in_both_domains() -> None:
    """The same seed gives a body the same head, and stills are made of the bodies that videos are made of."""
    scene = set_still(np.random.default_rng(0), ["cat"], [], OPTIONS.names, size=(48, 64))
    head = next(part for part in scene.things[0].body.parts if part.name == "head")
    film = next(part for part in BODIES["cat"](np.random.default_rng(3)).parts if part.name == "head")
    np.testing.assert_array_equal(head.sprite.pixels[..., 3], film.sprite.pixels[..., 3])
    assert scene.things[0].label == OPTIONS.names.index("cat")
    assert set(poses_of("cat")) == {"jumping", "none", "rolling", "walking"}


def test_domains_differ_in_brightness_and_noise() -> None:
    films = [render_video([n], [Tag("cat", "walking")], [1], frames=1, size=(48, 64), annotated=[0]) for n in range(8)]
    images = [render_still(StillPlan("train", n, ("cat",), ()), OPTIONS) for n in range(8)]
    film = [video.frames[0][video.masks[0] == 0].mean() for video in films]
    still = [image[mask == 0].mean() for image, mask in images]
    assert np.mean(still) > np.mean(film) + 20


def test_grounds_and_shadow() -> None:
    rng = np.random.default_rng(0)
    colours = pastel(rng, 200)
    assert colours.min() >= 0 and colours.max() <= 255 and colours.max(axis=1).min() >= 0.6 * 255 - 1
    for _ in range(8):
        assert ground(rng, (20, 30)).shape == (20, 30, 3)
    canvas = np.full((40, 40, 3), 200, np.float32)
    covered = np.zeros((40, 40), bool)
    covered[15:25, 15:25] = True
    cast_shadow(rng, canvas, covered)
    assert canvas.min() < 150 and canvas[0, 0, 0] == pytest.approx(200, abs=0.5)
    rows = np.nonzero((canvas[..., 0] < 170).any(axis=1))[0]
    assert rows.mean() > 19.5  # the shadow falls downwards


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ["cat", "brid"]}, "'brid'; did you mean 'bird'"),
        ({"classes": ["cat", "cat"]}, "each once"),
        ({"classes": []}, "one class or more"),
        ({"train": 0, "val": 0, "test": 0}, "at least one image"),
        ({"size": (8, 64)}, r"\(H, W\), at least 16"),
        ({"seed": -1}, "at least 0"),
        ({"several": 1.5}, r"several must be in \[0, 1\]"),
        ({"foreign": 1.0}, r"foreign in \[0, 1\)"),
    ],
)
def test_bad_options_are_data_errors(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        generate_stills(tmp_path, **{**TINY, **changed})
    assert list(tmp_path.iterdir()) == []


def test_label_spaces_with_actions_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Still images show no action"):
        SyntheticStills(tmp_path, LabelSpace((Tag("cat", "walking"),)), **TINY)
    assert list(tmp_path.iterdir()) == []


def test_configurations_name_real_options(tmp_path: Path) -> None:
    for name in IMAGE_SOURCES:
        config = yaml.safe_load(Path(f"configs/images/{name}.yaml").read_text())
        assert config["name"] == name
        options = {key: value for key, value in config["source"].items() if key not in ("root", "workers")}
        if name == "synthetic":
            source = SyntheticStills(tmp_path, SPACE, **{**options, "train": 1, "val": 0, "test": 0}, workers=1)
            assert len(source.records) == 1
            root = source.root
    assert IMAGE_SOURCES["folder"](root, SPACE, aliases=None, exclude=[]).records
    assert yaml.safe_load(Path("configs/images/none.yaml").read_text()) == {"name": "none"}
