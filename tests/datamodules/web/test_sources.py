from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from datamodules.web.sources import decode_image, safe_name
from pseudolabel.types import DataError


@pytest.mark.parametrize("name", ["dQw4w9WgXcQ", "a_b-C1"])
def test_a_safe_name_stays(name: str) -> None:
    assert safe_name(name) == name


def test_other_names_become_safe_and_stay_apart() -> None:
    names = [
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "a b",
        "a\nb",
        "a-b",
        "a.b",
        "CON: *?",
        "-a",
        "a-",
        "日本",
        "犬",
        "",
        "x" * 300,
    ]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    for name in safe:
        assert name and name[0] != "-" and len(name) < 80
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def test_images_become_upright_rgb() -> None:
    image = Image.new("P", (6, 4))
    image.putpalette([10, 200, 30] + [0] * 765)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    content = BytesIO()
    image.save(content, format="PNG", exif=exif)
    picture = decode_image(content.getvalue(), "here")
    assert picture.shape == (6, 4, 3) and picture.dtype == np.uint8
    assert (picture == (10, 200, 30)).all()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_no_image_is_an_error_that_tells_where(content: bytes) -> None:
    with pytest.raises(DataError, match=r"thumbs/a\.jpg cannot be read as an image"):
        decode_image(content, "thumbs/a.jpg")
