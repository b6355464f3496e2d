from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.web.manifest import Decision, ManifestWriter, Progress, read_manifest
from pseudolabel.types import DataError

ROWS = [
    Decision("dog", "a/1", 'Rex, "the"\nking;\x00 ../x', "search", True, "hit 1"),
    Decision("dog", "a/1", "犬", "window", True, "why\r\nso", 1.5, 0.25, "f.mp4", 0.0, 3.5),
]


def test_rows_survive_on_one_line_each(tmp_path: Path) -> None:
    with ManifestWriter(tmp_path) as manifest:
        manifest.write(ROWS)
        assert not (tmp_path / "manifest.csv").exists()
    assert len((tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()) == 3
    first, second = read_manifest(tmp_path / "manifest.csv")
    assert (first.title, first.seconds, first.score, first.file) == ('Rex, "the" king; ../x', None, None, "")
    assert second == Decision("dog", "a/1", "犬", "window", True, "why so", 1.5, 0.25, "f.mp4", 0.0, 3.5)


def test_an_error_leaves_the_old_manifest(tmp_path: Path) -> None:
    with ManifestWriter(tmp_path) as manifest:
        manifest.write(ROWS[:1])
    with pytest.raises(RuntimeError), ManifestWriter(tmp_path) as manifest:
        manifest.write(ROWS)
        raise RuntimeError
    assert len(list(read_manifest(tmp_path / "manifest.csv"))) == 1


@pytest.mark.parametrize(
    ("old", "new"), [("search", "serch"), (",1,hit", ",yes,hit"), ("0.250000", "much"), ("step", "stop")]
)
def test_a_bad_manifest_is_an_error(tmp_path: Path, old: str, new: str) -> None:
    with ManifestWriter(tmp_path) as manifest:
        manifest.write(ROWS)
    path = tmp_path / "manifest.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.csv"):
        list(read_manifest(path))
    with pytest.raises(DataError, match="is missing"):
        list(read_manifest(tmp_path / "absent.csv"))


def test_a_step_is_done_once_and_again_after_an_error(tmp_path: Path) -> None:
    progress, calls = Progress(tmp_path, {"a": 1}), list[int]()

    def work() -> list[int]:
        calls.append(1)
        if len(calls) == 1:
            raise DataError("no")
        return calls

    with pytest.raises(DataError, match="no"):
        progress.once("x", work)
    assert progress.once("x", work) == [1, 1]
    assert Progress(tmp_path, {"a": 1}).once("x", work) == [1, 1] and len(calls) == 2
    (tmp_path / ".steps" / "x.json").write_text("[1,")
    with pytest.raises(DataError, match=r"x\.json is damaged.*Delete it"):
        progress.once("x", work)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    Progress(tmp_path, {"margin": 2.0, "classes": ("dog",)})
    Progress(tmp_path, {"margin": 2.0, "classes": ["dog"]})
    with pytest.raises(DataError, match=r"other settings \(margin: 2.0 there, 3.0 now\).*another folder"):
        Progress(tmp_path, {"margin": 3.0, "classes": ["dog"]})
    (tmp_path / "retrieval.json").write_text("{")
    with pytest.raises(DataError, match=r"retrieval\.json is damaged"):
        Progress(tmp_path, {"margin": 2.0, "classes": ["dog"]})
