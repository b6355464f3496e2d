from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pseudolabel.palette import colorize, overlay, read_mask, voc_palette, write_atomically, write_mask
from pseudolabel.types import DataError


def test_palette_is_vocs() -> None:
    palette = voc_palette()
    assert len(palette) == 768
    colours = [tuple(palette[3 * i : 3 * i + 3]) for i in range(256)]
    assert colours[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert colours[15] == (192, 128, 128)  # VOC's person
    assert colours[20] == (0, 64, 128)  # VOC's tv monitor
    assert colours[255] == (224, 224, 192)  # VOC's void
    assert len(set(colours)) == 256


def test_every_value_survives_writing_and_reading(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / "mask.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), labels)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        assert bytes(image.getpalette() or []) == voc_palette()
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]


def test_write_refuses_other_types(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uint8"):
        write_mask(tmp_path / "mask.png", np.zeros((4, 4), np.int32))  # type: ignore[arg-type]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pseudolabel.palette.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_reads_grey_masks_and_foreign_palettes(tmp_path: Path) -> None:
    labels = np.array([[0, 3], [255, 1]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    image = Image.fromarray(labels)
    image.putpalette(bytes(range(256)) * 3)
    image.save(tmp_path / "other.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "other.png"), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_refuses_colours_and_wide_values(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png.*" + mode.split(";")[0] + r".*indexed"):
        read_mask(tmp_path / "mask.png")


def test_refuses_missing_broken_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="cannot be read"):
        read_mask(tmp_path / "text.png")
    write_mask(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:1200])
    with pytest.raises(DataError, match="cannot be read"):
        read_mask(tmp_path / "cut.png")


def test_colorize() -> None:
    np.testing.assert_array_equal(colorize(np.array([[1, 255]], np.uint8)), [[[128, 0, 0], [224, 224, 192]]])


def test_overlay_blends_inside_and_draws_the_contour() -> None:
    frame = np.full((7, 7, 3), 100, np.uint8)
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    labels[0, 0] = 255
    result = overlay(frame, labels, opacity=0.25)
    assert tuple(result[0, 0]) == (100, 100, 100)  # void stays
    assert tuple(result[6, 6]) == (100, 100, 100)
    assert tuple(result[1, 3]) == (128, 0, 0)  # contour
    assert tuple(result[3, 3]) == (107, 75, 75)  # 0.75 * 100 + 0.25 * (128, 0, 0)
    assert (frame == 100).all()
    ring = (result == (128, 0, 0)).all(-1)
    assert ring.sum() == 16  # one pixel wide


def test_overlay_refuses_another_size() -> None:
    with pytest.raises(DataError, match="differ in size"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))
