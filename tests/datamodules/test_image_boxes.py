from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.image_boxes import ImageBoxes, boxes_of_mask
from datamodules.images import ImageSource
from pseudolabel.types import VOID, DataError, LabelSpace, Tag
from tests.datamodules.fakes import write_mask_png, write_table
from tests.recipes.moving import stills_folder

HEADER = ["image", "class", "x0", "y0", "x1", "y1"]


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    """Six stills, of which every other shows a red square; green is no class here."""
    return ImageSource(stills_folder(tmp_path / "stills", train=6, val=0), LabelSpace.from_tags([Tag("red")]))


def test_every_component_of_some_size_has_a_tight_box() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 3:9] = 1
    mask[10:15, 20:30] = 1
    mask[18, 1] = 1  # a stray pixel
    mask[:2, 25:] = VOID
    found = sorted(map(tuple, boxes_of_mask(mask).tolist()))
    assert found == [(3, 2, 9, 8), (20, 10, 30, 15)]
    assert boxes_of_mask(np.zeros((4, 4), np.uint8)).shape == (0, 4)
    assert boxes_of_mask(np.full((4, 5), 3, np.uint8), label=3).tolist() == [[0, 0, 5, 4]]


def test_without_a_table_the_masks_tell(source: ImageSource) -> None:
    boxes = ImageBoxes(source, from_masks=True)
    for record in source.records:
        mask = source.mask(record)
        assert mask is not None
        found = boxes.of(record)
        assert found is not None and len(found) == 1
        x0, y0, x1, y1 = found[0].astype(int)
        assert (mask[y0:y1, x0:x1] == 1).all() and (mask == 1).sum() == (x1 - x0) * (y1 - y0)
    assert source.negatives
    for record in source.negatives:
        none = boxes.of(record)
        assert none is not None and none.shape == (0, 4)


def test_a_table_wins_and_names_what_it_does_not_know(source: ImageSource) -> None:
    first, *others = source.records
    rows = [HEADER, [f"{first.name}.png", "red", 1, 2.5, 9, 12], [first.name, "red", 20, 3, 30, 14]]
    write_table(source.root / "boxes.csv", [*rows, [first.name, "green", 0, 0, 5, 5]])
    boxes = ImageBoxes(source)
    found = boxes.of(first)
    assert found is not None and found.tolist() == [[1, 2.5, 9, 12], [20, 3, 30, 14]]
    assert [boxes.of(record) for record in others] == [None] * len(others)
    assert source.negatives
    for record in source.negatives:
        none = boxes.of(record)
        assert none is not None and none.shape == (0, 4)


def test_without_a_table_it_is_asked_for(source: ImageSource) -> None:
    with pytest.raises(DataError, match=r"(?s)boxes\.csv is missing.*image,class,x0,y0,x1,y1"):
        ImageBoxes(source)
    write_mask_png(source.root / "masks/still1.png", np.zeros((48, 64), np.uint8))
    assert ImageBoxes(source, from_masks=True).of(source.records[0]) is None, "tagged, but nothing is marked"


def test_what_a_table_says_is_held_against_the_images(source: ImageSource) -> None:
    green, (first, second, third) = source.negatives[0], source.records
    rows: list[list[object]] = [HEADER, [first.name, "red", 50, 40, 90, 47], [second.name, "red", 0.1, 0.2, 0.5, 0.9]]
    rows += [[green.name, "red", 1, 2, 9, 12], ["still9", "red", 1, 2, 9, 12], [third.name, "red", 50, 40, 65, 48]]
    write_table(source.root / "boxes.csv", rows)
    boxes = ImageBoxes(source)
    assert boxes.unknown == ["still9"]
    with pytest.raises(DataError, match=r"still1' that reaches to \[90.0, 47.0\], but the image is 64 x 48"):
        boxes.of(first)
    with pytest.raises(DataError, match=r"still3'.* not as shares of the image"):
        boxes.of(second)
    with pytest.raises(DataError, match="image 'still0', which is not tagged with it"):
        boxes.of(green)
    assert boxes.of(third) is not None, "a pixel beyond the border is rounding"
    write_table(source.root / "boxes.csv", [HEADER, ["stil1", "red", 1, 2, 9, 12]])
    with pytest.raises(DataError, match="names no image of its folder, the first 'stil1'; did you mean 'still1'"):
        ImageBoxes(source)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["still1", "rde", 1, 2, 9, 12], r"line 2 .*no class 'rde'; did you mean 'red'"),
        (["still1", "red", 1, "two", 9, 12], r"line 2 .*'two'.*Expected four numbers"),
        (["still1", "red", 9, 2, 1, 12], r"line 2 .*expected 0 <= x0 < x1"),
        (["still1", "red", 1, 2, "nan", 12], r"line 2 .*expected 0 <= x0 < x1"),
        (["", "red", 1, 2, 9, 12], "no image"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(source: ImageSource, row: list[object], message: str) -> None:
    write_table(source.root / "boxes.csv", [HEADER, row])
    with pytest.raises(DataError, match=message):
        ImageBoxes(source)
