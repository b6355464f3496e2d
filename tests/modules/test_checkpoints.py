from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from modules.checkpoints import load_hyper_checkpoint, read_checkpoint, save_weights, to_plain
from modules.encoder2d import Encoder2D
from modules.segmenter import Segmenter
from pseudolabel.types import DataError
from tests.toys import tiny_segmenter


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("trap-was-sprung", "w")


def saved(folder: Path) -> Path:
    path = folder / "best.ckpt"
    save_weights(tiny_segmenter(), path)
    return path


def test_to_plain() -> None:
    nested = {"a": OmegaConf.create({"b": [1, "${c}"], "c": 2}), "t": (1, (2,))}
    plain = to_plain(nested)
    assert plain == {"a": {"b": [1, 2], "c": 2}, "t": [1, [2]]}
    assert type(plain["a"]) is dict and type(plain["a"]["b"]) is list


def test_a_checkpoint_holds_plain_types_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = saved(tmp_path / "new" / "folder")
    state = torch.load(path, weights_only=True)
    assert state["kind"] == "Segmenter" and state["format"] == 1
    assert state["hyper_parameters"]["backbone_args"] == {"channels": [4, 8, 8, 8]}
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]


def test_loading_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    torch.save({"hyper_parameters": Trap(), "state_dict": {}}, path)
    with pytest.raises(DataError, match="not a readable checkpoint"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="not a readable checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "trap-was-sprung").exists()


def test_unusable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Checkpoint not found: .*none\.ckpt"):
        read_checkpoint(tmp_path / "none.ckpt")
    path = saved(tmp_path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"best\.ckpt is not a readable checkpoint"):
            read_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(DataError, match="holds no hyper_parameters"):
        read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="holds no hyper_parameters and state_dict"):
        read_checkpoint(path)


def test_the_kind_must_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds a Segmenter, expected a Encoder2D"):
        Encoder2D.load(saved(tmp_path))


def test_missing_and_unexpected_parameters_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    state = torch.load(path, weights_only=True)
    name = next(iter(state["state_dict"]))
    value = state["state_dict"].pop(name)
    torch.save(state, path)
    with pytest.raises(DataError, match=r"does not fit Segmenter: .*Missing key"):
        Segmenter.load(path)
    state["state_dict"] |= {name: value, "extra": value}
    torch.save(state, path)
    with pytest.raises(DataError, match="Unexpected key"):
        Segmenter.load(path)
    state["state_dict"].pop("extra")
    state["hyper_parameters"]["new_option"] = 1
    torch.save(state, path)
    with pytest.raises(DataError, match="new_option"):
        Segmenter.load(path)


def test_changes_win_over_what_is_saved(tmp_path: Path) -> None:
    assert load_hyper_checkpoint(Segmenter, saved(tmp_path), ric_alpha=0.1).integrity.alpha == 0.1


def test_pretrained_files_are_not_asked_for_again(tmp_path: Path) -> None:
    path = saved(tmp_path)
    state = torch.load(path, weights_only=True)
    state["hyper_parameters"]["weights"] = "/gone/pretrained.pth"
    torch.save(state, path)
    assert Segmenter.load(path).hparams["weights"] is None
