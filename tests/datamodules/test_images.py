from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.images import ImageSource
from pseudolabel.types import DataError, LabelSpace, Tag
from tests.datamodules.fakes import write_mask_png, write_table

SPACE = LabelSpace((Tag("cat"), Tag("person"), Tag("zebra")))
CLASSES = ("grass", "cat", "body", "face")


def write_image(path: Path, *, size: tuple[int, int] = (24, 32), value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def mask_of(*values: int) -> np.ndarray:
    """A mask of grass whose first pixels of the top row have these values."""
    mask = np.zeros((24, 32), np.uint8)
    mask[0, : len(values)] = values
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows: list[Sequence[str]] = [
        ("image", "split", "classes"),
        ("one", "train", "grass;cat"),
        ("two", "val", "face;body;grass"),
        ("meadow", "test", "grass"),
        ("both", "test", "face;cat"),
    ]
    write_table(tmp_path / "labels.csv", rows)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for value, name in enumerate(("one", "two", "meadow", "both"), 1):
        write_image(tmp_path / "images" / f"{name}.jpg", value=40 * value)
    write_mask_png(tmp_path / "masks" / "one.png", mask_of(1, 2, 3, 255))
    return tmp_path


def open_images(root: Path, **options: Any) -> ImageSource:
    return ImageSource(root, SPACE, **{"aliases": {"face": "person", "body": "person"}, **options})


def test_records_in_the_words_of_the_label_space(root: Path) -> None:
    source = open_images(root)
    told = [(record.name, [str(tag) for tag in record.tags], record.split) for record in source.records]
    assert told == [("one", ["cat"], "train"), ("two", ["person"], "val"), ("both", ["cat", "person"], "test")]
    assert [record.name for record in source.select("test")] == ["both"]
    assert source.common == (Tag("cat"), Tag("person")) and source.num_classes_in_common == 2
    assert (source.num_without_class, source.num_excluded) == (1, 0)
    assert [record.tags for record in source.negatives] == [()] and source.negatives[0] not in source.records
    assert source.skipped == [
        (str(root / "labels.csv"), "images that show none of cat, person: 1, of use at most as counter-examples")
    ]
    assert "1 train, 1 val, 1 test" in source.summary and "1 that show other classes only" in source.summary
    image = source.image(source.records[1])
    assert image.shape == (24, 32, 3) and image.dtype == np.uint8
    assert abs(int(image.mean()) - 80) <= 1


def test_other_classes_are_background_and_void_stays(root: Path) -> None:
    source = open_images(root)
    mask = source.mask(source.records[0])
    assert mask is not None and mask.dtype == np.uint8
    assert mask[0, :5].tolist() == [1, 2, 2, 255, 0]
    assert source.mask(source.records[1]) is None
    only_cat = open_images(root, aliases=None).mask(source.records[0])
    assert only_cat is not None
    assert only_cat[0, :5].tolist() == [1, 0, 0, 255, 0]


def test_excluded_class_takes_its_images_along(root: Path) -> None:
    source = open_images(root, exclude=["face"])
    assert [record.name for record in source.records] == ["one"]
    assert (source.num_without_class, source.num_excluded) == (1, 2)
    assert (str(root / "labels.csv"), "images that show one of face: 2 left out") in source.skipped
    mask = source.mask(source.records[0])
    assert mask is not None
    assert mask[0, :5].tolist() == [1, 2, 255, 255, 0]
    assert open_images(root, exclude=["cat"]).common == (Tag("person"),)


def test_without_a_split_all_train(root: Path) -> None:
    write_table(root / "labels.csv", [("classes", "image"), ("cat", "one.jpg"), ("face", "two")])
    assert {(record.name, record.split) for record in open_images(root).records} == {("one", "train"), ("two", "train")}


def test_tags_csv_without_masks_needs_no_class_names(tmp_path: Path) -> None:
    rows = [("image", "class"), ("a.png", "zebra"), ("a", "cat"), ("a", "cat"), ("b", "tree")]
    write_table(tmp_path / "tags.csv", rows)
    for name in "ab":
        write_image(tmp_path / f"{name}.png")
    source = ImageSource(tmp_path, SPACE)
    assert [(record.name, record.tags) for record in source.records] == [("a", (Tag("cat"), Tag("zebra")))]
    assert source.num_without_class == 1
    assert source.mask(source.records[0]) is None


def test_turned_photograph_is_read_upright(root: Path) -> None:
    photo = Image.fromarray(np.zeros((32, 24, 3), np.uint8))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(root / "images" / "one.jpg", exif=exif)
    source = open_images(root)
    assert source.image(source.records[0]).shape == (24, 32, 3)
    assert source.mask(source.records[0]) is not None


def test_broken_and_missing_images_are_listed_and_stop_nothing(root: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("one.jpg", "two.jpg"):
        Image.fromarray(noise).save(root / "images" / name)
    whole = (root / "images" / "one.jpg").read_bytes()
    (root / "images" / "one.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "images" / "both.jpg").rename(root / "images" / "botj.jpg")
    source = open_images(root)
    assert [record.name for record in source.records] == ["two"]
    reasons = dict(source.skipped)
    assert "truncated" in reasons["one"]
    assert "did you mean 'botj'?" in reasons["both"]
    (root / "images" / "two.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"No usable image .* cat, person"):
        open_images(root)


def test_second_file_of_a_name_is_listed(root: Path) -> None:
    write_image(root / "images" / "one.png")
    source = open_images(root)
    assert source.records[0].path.name == "one.jpg"
    assert (str(root / "images" / "one.png"), "is a second file of that name; one.jpg counts") in source.skipped


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((24, 30), np.uint8), r"24x30 \(height x width\), but .*one.jpg is 24x32"),
        (mask_of(4, 9), r"values 4, 9, beyond classes.txt: expected 0 to 3 \(grass to face\)"),
    ],
)
def test_bad_masks_name_the_cure(root: Path, mask: np.ndarray, message: str) -> None:
    write_mask_png(root / "masks" / "one.png", mask)
    source = open_images(root)
    with pytest.raises(DataError, match=message):
        source.mask(source.records[0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("image", "clases"), ("one", "cat")], "no column 'classes'; did you mean 'clases'"),
        ([("image", "classes"), ("one", "cat"), ("one.jpg", "face")], r"line 3 .*'one' stands there twice"),
        ([("image", "classes"), ("a/one", "cat")], "plain image name, got a path"),
        ([("image", "classes"), ("a\\one", "cat")], "plain image name, got a path"),
        ([("image", "classes"), ("", "cat")], "no image"),
        ([("image", "classes"), ("one", "cta")], r"class 'cta', which is not in .*; did you mean 'cat'"),
        ([("image", "classes", "split"), ("one", "cat", "trian")], "unknown split 'trian'; did you mean 'train'"),
        ([("image", "classes")], "is empty: it names no image"),
    ],
)
def test_bad_labels_name_the_line_and_the_cure(root: Path, rows: list[Sequence[str]], message: str) -> None:
    write_table(root / "labels.csv", rows)
    with pytest.raises(DataError, match=message):
        open_images(root)


def test_tags_csv_in_two_splits_is_refused(tmp_path: Path) -> None:
    rows = [("image", "class", "split"), ("a", "cat", "val"), ("a", "zebra", "test")]
    write_table(tmp_path / "tags.csv", rows)
    with pytest.raises(DataError, match="in split 'test' here and in 'val' above"):
        ImageSource(tmp_path, SPACE)
    write_table(tmp_path / "tags.csv", [("image", "class"), ("a", "")])
    with pytest.raises(DataError, match=r"no class\. Fill in"):
        ImageSource(tmp_path, SPACE)


@pytest.mark.parametrize(
    ("text", "message"),
    [("grass\n\ncat\n", "line 2 is empty"), ("grass\ncat\ngrass\n", "'grass' stands there twice"), ("", "has 0 names")],
)
def test_bad_class_names(root: Path, text: str, message: str) -> None:
    (root / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        open_images(root)


def test_missing_files_and_wrong_words(root: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_images(root / "nowhere")
    with pytest.raises(DataError, match=r"no class in common: the folder has grass, cat, body, face; .* has dog, cow"):
        ImageSource(root, LabelSpace((Tag("dog"), Tag("cow"))))
    with pytest.raises(DataError, match="`aliases`: 'fase' is not one of the folder's classes; did you mean 'face'"):
        open_images(root, aliases={"fase": "person"})
    with pytest.raises(DataError, match="`aliases`: 'preson' is not one of the label space; did you mean 'person'"):
        open_images(root, aliases={"face": "preson"})
    with pytest.raises(DataError, match="`exclude`: 'gras' is not one of the folder's classes; did you mean 'grass'"):
        open_images(root, exclude=["gras"])
    with pytest.raises(DataError, match="did you mean 'train'"):
        open_images(root).select("trains")
    with pytest.raises(DataError, match=r"classes such as 'cat-walking'.*actions=false"):
        ImageSource(root, LabelSpace((Tag("cat", "walking"),)))
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes\.txt is missing"):
        open_images(root)
    (root / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"neither labels\.csv nor tags\.csv"):
        open_images(root)
