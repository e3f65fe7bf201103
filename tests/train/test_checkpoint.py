"""Checkpoints: atomic, safely read, the newest readable one found, other architectures refused."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from todm import files
from todm.config import Config, DataConfig, ModelConfig, SpaceConfig
from todm.errors import UserError
from todm.layout import checkpoint_path, find_checkpoints
from todm.train.checkpoint import (
    FORMAT,
    check_same_architecture,
    load_checkpoint,
    load_latest,
    prune_checkpoints,
    save_checkpoint,
)


def make_state(step: int = 7, size: int = 1000) -> dict[str, Any]:
    return {
        "model": OrderedDict(w=torch.randn(size), n=torch.tensor(3)),
        "optimizer": {"state": {0: {"m": torch.ones(2), "h": 0.1}}, "param_groups": [{"betas": (0.9, 0.98)}]},
        "step": step,
        "epoch": 1,
        "batch": 2,
        "config": Config().to_dict(),
        "vocab_size": 30,
        "env": {"python": "3"},
        "metrics": {"wer": None},
    }


def test_round_trip(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path / "checkpoints", 7)
    state = make_state()
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert loaded["format"] == FORMAT
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    assert {key: loaded[key] for key in ("step", "config", "env", "metrics")} == {
        key: state[key] for key in ("step", "config", "env", "metrics")
    }
    assert os.listdir(path.parent) == [path.name]


def test_names_of_earlier_versions_are_upgraded(tmp_path: Path) -> None:
    state = make_state()
    state["model"]["simple_am.weight"] = torch.ones(2)
    widths = state["config"]["space"].pop("widths")
    state["config"]["space"]["ffn_dims"] = list(widths["ffn_dim"])
    save_checkpoint(tmp_path / "step-1.pt", state)
    loaded = load_checkpoint(tmp_path / "step-1.pt")
    assert set(loaded["model"]) == {"w", "n", "simple_am_proj.weight"}
    check_same_architecture(loaded["config"], Config())


def test_what_cannot_be_loaded_safely_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"metrics\.path: PosixPath"):
        save_checkpoint(tmp_path / "step-1.pt", {**make_state(), "metrics": {"path": tmp_path}})
    assert not list(tmp_path.iterdir())


class FullDisk:
    """A file that takes some bytes and then has no room, as a full disk does."""

    def __init__(self, path: Path, room: int) -> None:
        self._file = open(path, "wb")  # noqa: SIM115
        self._room = room

    def write(self, data: Any) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.mark.parametrize("room", [0, 500, 3000])
def test_full_disk_keeps_the_old_checkpoint(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint_path(tmp_path, 7)
    save_checkpoint(path, make_state())
    old = path.read_bytes()
    monkeypatch.setattr(files, "open", lambda name, mode: FullDisk(Path(name), room), raising=False)
    with pytest.raises(UserError, match=r"step-00000007\.pt: no space left on the disk"):
        save_checkpoint(path, make_state(size=5000))
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == [path.name]
    assert load_checkpoint(path)["step"] == 7


@pytest.mark.parametrize("moment", ["fsync", "flush"])
def test_full_disk_that_shows_late(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delayed allocation: the write succeeds and the flush or the sync fails."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if moment == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(FullDisk, "flush", fail)
        monkeypatch.setattr(files, "open", lambda name, mode: FullDisk(Path(name), 10**9), raising=False)
    with pytest.raises(UserError, match="no space left"):
        save_checkpoint(checkpoint_path(tmp_path, 1), make_state())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_real_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_full(name: Path, mode: str) -> Any:
        return Path("/dev/full").open(mode)

    monkeypatch.setattr(files, "open", open_full, raising=False)
    with pytest.raises(UserError, match="no space left"):
        save_checkpoint(checkpoint_path(tmp_path, 1), make_state(size=100_000))


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "step-1.pt", make_state())


def test_kill_in_the_middle_of_saving_leaves_the_old_file(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 7)
    save_checkpoint(path, make_state())
    old = path.read_bytes()
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from todm.files import atomic_file

        with atomic_file(Path(sys.argv[1])) as file:
            file.write(b"half a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == old
    found = load_latest(tmp_path)
    assert found is not None and found[0] == path
    assert len(list(tmp_path.iterdir())) == 2  # the left-over, which the next pruning takes away
    prune_checkpoints(tmp_path, 3)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["empty", "half", "one byte less", "garbage", "flipped"])
def test_broken_file_is_one_clear_sentence(damage: str, tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 1)
    save_checkpoint(path, make_state())
    whole = path.read_bytes()
    middle = whole.index(make_bytes(load_checkpoint(path)["model"]["w"]))
    content = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "one byte less": whole[:-1],
        "garbage": b"not a checkpoint" * 100,
        "flipped": whole[: middle + 40] + bytes([whole[middle + 40] ^ 64]) + whole[middle + 41 :],
    }[damage]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"step-00000001\.pt: not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def make_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()


def test_missing_foreign_and_newer_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "step-1.pt")
    torch.save({"model": {}}, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match="not a checkpoint of todm"):
        load_checkpoint(tmp_path / "foreign.pt")
    torch.save({**make_state(), "format": FORMAT + 1}, tmp_path / "newer.pt")
    with pytest.raises(UserError, match="newer"):
        load_checkpoint(tmp_path / "newer.pt")


def test_loading_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({**make_state(), "format": FORMAT, "x": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_latest_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_latest(tmp_path / "absent") is None
    assert load_latest(tmp_path) is None
    for step in (20, 3, 100):  # in number, not in name or time order
        save_checkpoint(checkpoint_path(tmp_path, step), make_state(step))
    (tmp_path / "notes.txt").write_text("")
    found = load_latest(tmp_path)
    assert found is not None and found[0] == checkpoint_path(tmp_path, 100)
    os.truncate(checkpoint_path(tmp_path, 100), 1500)
    with caplog.at_level(logging.WARNING):
        found = load_latest(tmp_path)
    assert found is not None and found[0] == checkpoint_path(tmp_path, 20) and found[1]["step"] == 20
    assert "step-00000100.pt" in caplog.text
    for step in (3, 20):
        os.truncate(checkpoint_path(tmp_path, step), 10)
    with pytest.raises(UserError, match="none of its 3 checkpoints"):
        load_latest(tmp_path)


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for step in (9, 10, 200, 1000):
        save_checkpoint(checkpoint_path(tmp_path, step), make_state(step, size=1))
    (tmp_path / "averaged.pt").write_text("mine")
    assert prune_checkpoints(tmp_path, 0) == []
    assert len(find_checkpoints(tmp_path)) == 4
    prune_checkpoints(tmp_path, 2)
    assert find_checkpoints(tmp_path) == [checkpoint_path(tmp_path, 1000), checkpoint_path(tmp_path, 200)]
    assert (tmp_path / "averaged.pt").exists()


def test_same_architecture_passes_whatever_the_training_settings() -> None:
    config = Config(data=DataConfig(max_duration=1.0))
    check_same_architecture(Config().to_dict(), config)
    check_same_architecture(Config().to_dict(), config, saved_vocab_size=30, vocab_size=30)


def test_other_architecture_names_every_key() -> None:
    config = Config(
        model=dataclasses.replace(ModelConfig(), d_model=96, state_dim=4),
        space=dataclasses.replace(SpaceConfig(), modes=("offline",)),
    )
    with pytest.raises(UserError) as caught:
        check_same_architecture(Config().to_dict(), config, source=Path("exp/step-1.pt"))
    text = str(caught.value)
    assert text.startswith("exp/step-1.pt: ")
    for part in ("model.d_model 144 there, 96 here", "model.state_dim 8 there, 4 here", "space.modes"):
        assert part in text
    assert "num_layers" not in text


def test_other_vocabulary_and_unknown_keys_are_told() -> None:
    saved = Config().to_dict()
    with pytest.raises(UserError, match="vocabulary size 30 there, 31 here"):
        check_same_architecture(saved, Config(), saved_vocab_size=30, vocab_size=31)
    with pytest.raises(UserError, match=r"data\.vocab_size 500 there, 100 here"):
        check_same_architecture(saved, Config(data=DataConfig(vocab_size=100)))
    saved["model"]["num_experts"] = 4
    del saved["model"]["context_size"]
    with pytest.raises(
        UserError, match=r"context_size absent there, 2 here.*num_experts 4 there, absent here"
    ):
        check_same_architecture(saved, Config())


def test_checkpoints_of_earlier_versions_get_the_current_names(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 7)
    one = torch.ones(2)
    state = {
        **make_state(7),
        "model": {"simple_am.weight": one, "w": one},
        "config": {"space": {"depths": [1, 2], "ffn_dims": [8, 16]}, "train": {"distill": {"beta": 5.0}}},
        "average": {
            "num_samples": 1,
            "sums": {"simple_lm.bias": one},
            "dtypes": {"simple_lm.bias": "float32"},
        },
    }
    save_checkpoint(path, state)
    found = load_checkpoint(path)
    assert found["model"].keys() == {"simple_am_proj.weight", "w"}
    assert found["config"]["space"] == {"depths": [1, 2], "widths": {"ffn_dim": [8, 16]}}
    assert found["config"]["train"] == {"distill": {"ratio_clip": 5.0}}
    assert found["average"]["dtypes"] == {"simple_lm_proj.bias": "float32"}
    assert found["average"]["sums"].keys() == {"simple_lm_proj.bias"}
