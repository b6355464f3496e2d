from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from callbacks.rounds import Rounds
from modules.checkpoints import read_checkpoint
from pseudolabel.store import Index, PAStore
from pseudolabel.types import Annotation, Clip, DataError, FloatArray, Scores
from tests.callbacks import counting
from tests.callbacks.counting import STEPS, Counter, areas, run
from tests.callbacks.learning import learn
from tests.toys import make_toy

RISING = [0.1 * epoch for epoch in range(40)]
THREE_VERSIONS = [0.5, 0.6, 0.55, 0.5, 0.7, 0.6, 0.6, 0.7, 0.7, 0.7]
"""v0: best in its 2nd epoch; v1: in its 1st; v2: no better than v1."""


def test_a_version_ends_when_the_criterion_has_not_risen_for_patience_epochs(tmp_path: Path) -> None:
    rounds = run(tmp_path, Counter({"val/ric": THREE_VERSIONS}))
    assert [report.epochs for report in rounds.reports] == [4, 3, 3]
    assert [report.best_epoch["val/ric"] for report in rounds.reports] == [2, 1, 1]
    assert [report.best["val/ric"] for report in rounds.reports] == pytest.approx([0.6, 0.7, 0.7])
    assert [report.steps for report in rounds.reports] == [8, 6, 6]
    assert [(report.selected, report.frames) for report in rounds.reports] == [(6, 6)] * 3
    assert rounds.done and not rounds.turning


def test_the_best_model_of_a_version_annotates_the_next_and_trains_on(tmp_path: Path) -> None:
    module = Counter({"val/ric": THREE_VERSIONS})
    rounds = run(tmp_path, module)
    assert rounds.store.versions() == [0, 1, 2]
    # v0 is best after 2 epochs = 4 steps; v1 goes on from there and is best after 2 steps more; v2 likewise.
    assert [areas(rounds.store, version) for version in (1, 2)] == [{4}, {6}]
    counts = [int(read_checkpoint(rounds.weights_of(version))["state_dict"]["count"]) for version in (0, 1, 2)]
    assert counts == [4, 6, 8]


def test_with_reinit_every_version_starts_from_the_first_weights(tmp_path: Path) -> None:
    rounds = run(tmp_path, Counter({"val/ric": THREE_VERSIONS}), reinit=True)
    assert [areas(rounds.store, version) for version in (1, 2)] == [{4}, {2}]


def test_a_new_version_is_served_after_the_turn(tmp_path: Path) -> None:
    module = Counter({"val/ric": THREE_VERSIONS})
    run(tmp_path, module)
    expected = [{40}] * 4 + [{4}] * 3 + [{6}] * 3
    for seen in (module.taught, module.checked):
        assert {epoch for epoch, _ in seen} == set(range(10))
        assert all(found == expected[epoch] for epoch, found in seen)


def test_a_version_has_at_most_max_epochs_and_there_are_at_most_max_versions(tmp_path: Path) -> None:
    rounds = run(tmp_path, Counter({"val/ric": RISING}), max_epochs=3, max_versions=2)
    assert [report.epochs for report in rounds.reports] == [3, 3]
    assert rounds.store.versions() == [0, 1]
    assert areas(rounds.store, 1) == {6}


@pytest.mark.parametrize(("min_delta", "versions"), [(0.04, 3), (0.06, 2)])
def test_rounds_end_when_a_version_is_not_better_by_min_delta(tmp_path: Path, min_delta: float, versions: int) -> None:
    values = [0.50, 0.55, 0.55]
    rounds = run(tmp_path, Counter({"val/ric": values}), max_epochs=1, min_delta=min_delta)
    assert len(rounds.reports) == versions


def test_a_falling_version_is_compared_with_the_best_before(tmp_path: Path) -> None:
    rounds = run(tmp_path, Counter({"val/ric": [0.5, 0.6, 0.7, 0.65]}), max_epochs=1)
    assert len(rounds.reports) == 4


def test_every_version_begins_its_own_schedule_at_the_full_rate(tmp_path: Path) -> None:
    module = Counter({"val/ric": THREE_VERSIONS})
    run(tmp_path, module)
    assert module.spans == [(0, 10), (8, 10), (14, 10)]
    expected = [1 - step / 10 for steps in (8, 6, 6) for step in range(steps)]
    assert module.rates == pytest.approx(expected)


def test_momentum_does_not_leak_into_the_next_version(tmp_path: Path) -> None:
    module = Counter({"val/ric": THREE_VERSIONS})
    run(tmp_path, module)
    assert [step for step, carried in enumerate(module.momenta) if not carried] == [0, 8, 14]


def test_rivals_annotate_into_stores_of_their_own_and_change_nothing(tmp_path: Path) -> None:
    criteria = {"val/ric": THREE_VERSIONS, "val/other": [0.1, 0.1, 0.9, 0.1, 0.7, 0.8, 0.6, 0.1, 0.2, 0.3]}
    rounds = run(tmp_path / "with", Counter(criteria), compare=["val/other", "val/ric"])
    alone = run(tmp_path / "without", Counter({"val/ric": THREE_VERSIONS}))
    assert rounds.compare == ["val/other"]
    for version in range(3):
        assert areas(rounds.store, version) == areas(alone.store, version)
    rival = rounds.rival_store("val/other")
    assert rival.root.name == "pa-by-other"
    # It would pick v0's model of epoch 3, and v1's of epoch 2, which went on from the criterion's 4 steps.
    assert rival.versions() == [1, 2]
    assert [areas(rival, version) for version in (1, 2)] == [{6}, {8}]


def test_a_criterion_that_is_not_logged_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'val/foo' was not logged. Known metrics: .*val/ric"):
        run(tmp_path, Counter({"val/ric": RISING}), criterion="val/foo")


def test_every_published_version_is_told_of(tmp_path: Path) -> None:
    told: list[int] = []
    run(tmp_path, Counter({"val/ric": THREE_VERSIONS}), on_version=told.append)
    assert told == [1, 2]


def test_only_what_is_selected_is_marked_and_trains(tmp_path: Path) -> None:
    def first_frames(index: Index) -> FloatArray:
        return np.array([0.5 if row.frame == 0 else 0.0 for row in index], np.float32)

    rounds = run(tmp_path, Counter({"val/ric": RISING}), selector=first_frames, max_epochs=1, max_versions=2)
    assert [(report.selected, report.frames, report.steps) for report in rounds.reports] == [(3, 6, 1)] * 2
    for version in (0, 1):
        assert {(row.frame, row.selected, row.weight) for row in rounds.store.index(version)} == {
            (0, True, 0.5),
            (1, False, 0.0),
        }


def test_when_nothing_passes_all_frames_with_an_object_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(index: Index) -> FloatArray:
        return np.zeros(len(index), np.float32)

    rounds = run(tmp_path, Counter({"val/ric": RISING}), selector=nothing, max_epochs=1, max_versions=1)
    assert rounds.reports[0].selected == 6
    assert "v0: no frame passed the selection" in capsys.readouterr().out


def test_a_version_without_any_object_is_a_clear_error(tmp_path: Path) -> None:
    def empty(clip: Clip, scores: Scores | None) -> Annotation:
        return Annotation(np.zeros(clip.frames.shape[:3], np.uint8), np.ones(2, np.float32))

    with pytest.raises(DataError, match="Version 1 holds no object in any frame"):
        run(tmp_path, Counter({"val/ric": RISING}), annotator=empty, max_epochs=1)


def test_a_video_that_cannot_be_annotated_is_skipped_and_all_of_them_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(clip: Clip, scores: Scores | None) -> Annotation:
        if clip.name == "b":
            raise DataError("a hole in the film")
        return counting.annotator(clip, scores)

    rounds = run(tmp_path, Counter({"val/ric": RISING}), annotator=broken, max_epochs=1, max_versions=2)
    assert {row.video for row in rounds.store.index(1)} == {"a", "c"}
    assert "skipped in v1: b: a hole in the film" in capsys.readouterr().out

    def none(clip: Clip, scores: Scores | None) -> Annotation:
        raise DataError("no film at all")

    with pytest.raises(DataError, match="No video could be annotated for version 1; first: a: no film at all"):
        run(tmp_path / "all", Counter({"val/ric": RISING}), annotator=none, max_epochs=1)


def test_without_version_0_there_is_a_clear_error(tmp_path: Path) -> None:
    counting.start(tmp_path)
    (tmp_path / "pa/v0").rename(tmp_path / "pa/gone")
    store = PAStore(tmp_path / "pa")
    rounds = Rounds(
        store=store, clips=counting.clip, videos=[], annotator=counting.annotator, selector=counting.select_all,
        folder=tmp_path,
    )  # fmt: skip
    with pytest.raises(DataError, match="Version 0 of the pseudo-annotations is not in"):
        rounds.on_fit_start(None, None)  # type: ignore[arg-type]


def test_the_last_checkpoint_holds_plain_types(tmp_path: Path) -> None:
    rounds = run(tmp_path, Counter({"val/ric": THREE_VERSIONS}))
    state = torch.load(rounds.folder / "last.ckpt", weights_only=True)
    assert state["callbacks"]["Rounds"] == rounds.state_dict()
    other = Rounds(
        store=rounds.store, clips=counting.clip, videos=[], annotator=counting.annotator,
        selector=counting.select_all, folder=tmp_path,
    )  # fmt: skip
    other.load_state_dict(json.loads(json.dumps(rounds.state_dict())))
    assert other.reports == rounds.reports and other.version == 2 and other.done


# --- interruptions


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.rglob("*.png")}


def same_rounds(one: Rounds, other: Rounds) -> None:
    def plain(rounds: Rounds) -> list[dict[str, Any]]:
        return [{**vars(report), "seconds": 0} for report in rounds.reports]

    assert plain(one) == plain(other)
    assert one.store.versions() == other.store.versions()
    for version in one.store.versions():
        assert one.store.index(version) == other.store.index(version)
        assert areas(one.store, version) == areas(other.store, version)


@pytest.mark.parametrize("fail_at", [(0, 0), (2, 1), (4, 0), (5, 1), (9, 1)])
def test_it_goes_on_in_the_middle_of_a_version(tmp_path: Path, fail_at: tuple[int, int]) -> None:
    whole_module = Counter({"val/ric": THREE_VERSIONS})
    whole = run(tmp_path / "whole", whole_module)
    with pytest.raises(RuntimeError, match="the power went off"):
        run(tmp_path / "broken", Counter({"val/ric": THREE_VERSIONS}, fail_at=fail_at))
    before = files(tmp_path / "broken/pa")
    module = Counter({"val/ric": THREE_VERSIONS})
    resumed = run(tmp_path / "broken", module)
    same_rounds(resumed, whole)
    assert module.taught == [entry for entry in whole_module.taught if entry[0] >= fail_at[0]]
    assert module.rates == whole_module.rates[STEPS * fail_at[0] :]
    assert module.momenta == whole_module.momenta[STEPS * fail_at[0] :]
    after = files(tmp_path / "broken/pa")
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("at", ["annotate v1", "annotate v2", "select v1", "picture v1", "after"])
def test_it_goes_on_in_the_middle_of_a_turn(tmp_path: Path, at: str) -> None:
    criteria = {"val/ric": THREE_VERSIONS, "val/other": [0.9, *THREE_VERSIONS[1:]]}
    whole_module = Counter(criteria)
    whole = run(tmp_path / "whole", whole_module, compare=["val/other"])
    events: list[str] = []

    def crash(event: str) -> None:
        events.append(event)
        if event == at:
            raise RuntimeError("the power went off")

    def annotator(clip: Clip, scores: Scores | None) -> Annotation:
        annotation = counting.annotator(clip, scores)
        if clip.name == "b":
            crash({4: "annotate v1", 6: "annotate v2"}.get(int(annotation.labels[0].sum()), "another"))
        return annotation

    def selector(index: Index) -> FloatArray:
        crash(f"select v{len(PAStore(tmp_path / 'broken/pa').versions()) - 1}")
        return counting.select_all(index)

    class Rude(Counter):
        def on_train_end(self) -> None:
            crash("after")

    options: dict[str, Any] = {
        "compare": ["val/other"],
        "annotator": annotator,
        "selector": selector,
        "on_version": lambda version: crash(f"picture v{version}"),
    }
    with pytest.raises(RuntimeError, match="the power went off"):
        run(tmp_path / "broken", Rude(criteria), **options)
    before = files(tmp_path / "broken")
    module = Counter(criteria)
    resumed = run(tmp_path / "broken", module, compare=["val/other"])
    same_rounds(resumed, whole)
    assert areas(resumed.rival_store("val/other"), 1) == areas(whole.rival_store("val/other"), 1) == {2}
    after = files(tmp_path / "broken")
    for name, content in before.items():
        final = name.replace(".v1.partial", "v1").replace(".v2.partial", "v2")
        assert after[final] == content  # neither a finished version nor a finished video is written again
    first = module.taught[0][0] if module.taught else 10
    assert first == {"annotate v2": 7, "after": 10}.get(at, 4)  # no finished epoch is trained again
    assert module.taught == [entry for entry in whole_module.taught if entry[0] >= first]
    assert module.checked == [entry for entry in whole_module.checked if entry[0] >= first]
    assert module.rates == whole_module.rates[STEPS * first :]
    assert module.momenta == whole_module.momenta[STEPS * first :]


def test_a_finished_fit_does_nothing_more(tmp_path: Path) -> None:
    finished = run(tmp_path, Counter({"val/ric": THREE_VERSIONS}))
    before = files(tmp_path)

    def asked_again(index: Index) -> FloatArray:
        raise AssertionError("this version has been selected before")

    module = Counter({"val/ric": THREE_VERSIONS})
    again = run(tmp_path, module, selector=asked_again)
    same_rounds(again, finished)
    assert module.taught == [] and files(tmp_path) == before


# --- a real network


def pixels(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in files(folder / "pa").items()}


def test_a_real_network_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = learn(tmp_path / "whole")
    assert len(whole["versions"]) == 2 and whole["published"] == [0, 1]
    for point in ("epoch 2", "epoch 11", "turn 1"):
        folder = tmp_path / point.replace(" ", "")
        with pytest.raises(RuntimeError, match="the power went off"):
            learn(folder, fail_at=point)
        assert learn(folder)["versions"] == whole["versions"]
        assert pixels(folder) == pixels(tmp_path / "whole")


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    one = learn(tmp_path / "one")
    make_toy(tmp_path / "two", videos=8)
    environment = {k: v for k, v in os.environ.items() if k not in ("MASTER_PORT", "LOCAL_RANK", "RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "tests.callbacks.learning", str(tmp_path / "two"), "2"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command, cwd=root, env={**environment, "OMP_NUM_THREADS": "1"}, timeout=120, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two/reports.json").read_text())
    assert two["world_size"] == 2 and one["world_size"] == 1
    assert [report["epochs"] for report in two["versions"]] == [report["epochs"] for report in one["versions"]]
    for ours, theirs in zip(one["versions"], two["versions"], strict=True):
        assert theirs["best"] == pytest.approx(ours["best"], abs=1e-3)
        assert theirs["selected"] == ours["selected"]
    stores = [PAStore(tmp_path / name / "pa") for name in ("one", "two")]
    for version in one["published"]:
        rows = stores[0].index(version)
        assert [(r.video, r.frame, r.selected) for r in rows] == [
            (r.video, r.frame, r.selected) for r in stores[1].index(version)
        ]
        masks = [np.stack([store.read(version, row.video, row.frame) for row in rows]) for store in stores]
        assert np.mean(masks[0] == masks[1]) >= 0.995
        assert masks[0].any()
