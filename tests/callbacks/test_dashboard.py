from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from callbacks.dashboard import METRICS_HEADER, Dashboard, append_metrics
from datamodules.loaders import EpochDataModule
from tests.callbacks.counting import Counter, Masks, annotator, clip, select_all, start
from tests.toys import quiet_trainer


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_grow_under_one_header(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.csv"
    append_metrics(path, [("a", 0, 1, 2, "loss", 0.5)])
    append_metrics(path, [("b", "", 1, 2, "acc", 0.25), ("b", "", 2, 4, "acc", 0.75)])
    assert path.read_text().splitlines()[0].split(",") == list(METRICS_HEADER)
    assert [(row["stage"], row["version"], row["value"]) for row in rows(path)] == [
        ("a", "0", "0.5"),
        ("b", "", "0.25"),
        ("b", "", "0.75"),
    ]


@pytest.mark.parametrize("with_rounds", [False, True])
def test_every_epoch_is_one_line_and_its_figures_are_kept(tmp_path: Path, with_rounds: bool) -> None:
    from callbacks.rounds import Rounds

    store, shown = start(tmp_path), io.StringIO()
    rounds = Rounds(
        store=store, clips=clip, videos=["a", "b", "c"], annotator=annotator, selector=select_all,
        folder=tmp_path / "segmenter", criterion="val/ric", max_epochs=2, max_versions=2, min_delta=-1,
    )  # fmt: skip
    board = Dashboard("teach", tmp_path / "metrics.csv", console=Console(file=shown, highlight=False, width=200))
    callbacks = [board, rounds] if with_rounds else [board]
    data = EpochDataModule(
        lambda epoch: Masks(store, rounds.version), lambda epoch: Masks(store, rounds.version), batch_size=3
    )
    trainer = quiet_trainer(max_epochs=4, callbacks=callbacks)
    trainer.fit(Counter({"val/ric": [0.5, 0.25, 0.75, 0.125]}), data)
    lines = shown.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("teach v1 epoch 3" if with_rounds else "teach epoch 3")
    assert "val/ric 0.7500" in lines[2] and lines[2].endswith(" s)")
    kept = rows(tmp_path / "metrics.csv")
    assert [row["value"] for row in kept] == ["0.5", "0.25", "0.75", "0.125"]
    assert [row["step"] for row in kept] == ["2", "4", "6", "8"]
    assert [row["epoch"] for row in kept] == ["0", "1", "2", "3"]
    assert {row["metric"] for row in kept} == {"val/ric"} and {row["stage"] for row in kept} == {"teach"}
    assert [row["version"] for row in kept] == (["0", "0", "1", "1"] if with_rounds else [""] * 4)
