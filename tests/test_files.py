from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from todm import files
from todm.errors import UserError
from todm.files import (
    append_line,
    atomic_file,
    atomic_path,
    digest_file,
    find_leftovers,
    read_json,
    write_json,
    write_text,
)


class FullDisk:
    """A file that accepts `room` bytes and then fails as on a full disk."""

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


def test_error_keeps_the_old_file_and_leaves_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".list.json")
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["list.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_error_of_the_writer_passes(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    with pytest.raises(UserError, match=r"list\.json: no space left on the disk"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not path.exists()


@pytest.mark.parametrize("room", [0, 500])
def test_full_disk_keeps_the_old_file(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(files, "open", lambda name, mode: FullDisk(Path(name), room), raising=False)
    with pytest.raises(UserError, match=r"x\.json: no space left on the disk"):
        write_text(path, "new " * 1000)
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_full_disk_is_reported_if_the_writer_replaces_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "open", lambda name, mode: FullDisk(Path(name), 0), raising=False)
    with pytest.raises(UserError, match="no space left"), atomic_file(tmp_path / "x") as file:
        try:
            file.write(b"content")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"x\.json: cannot be written \("):
        write_json(tmp_path / "file" / "x.json", 1)


def test_error_about_another_file_passes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="input"), atomic_path(tmp_path / "x"):
        (tmp_path / "input").read_text()


def test_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "step-7.pt"
    path.write_bytes(b"old")
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from todm.files import atomic_file

        with atomic_file(Path(sys.argv[1])) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (leftover,) = find_leftovers(tmp_path, "step-*.pt")
    assert set(tmp_path.iterdir()) == {path, leftover}


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    write_json(path, {"text": "Zürich", "list": [1, 2.5, None]})
    assert read_json(path) == {"text": "Zürich", "list": [1, 2.5, None]} == json.loads(path.read_bytes())
    assert path.read_bytes().endswith(b"\n") and "Zürich".encode() in path.read_bytes()


def test_unreadable_json_names_file_and_fix(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(UserError, match=r"x\.json: missing; run 'todm search' first"):
        read_json(path, hint="run 'todm search' first")
    path.write_text("{")
    with pytest.raises(UserError, match=r"x\.json: not a readable JSON file \(.*\); create it again"):
        read_json(path)


def test_lines_are_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "log.txt"
    append_line(path, "Zürich")
    append_line(path, "two", sync=False)
    assert path.read_bytes() == "Zürich\ntwo\n".encode()
    monkeypatch.setattr(files, "open", lambda name, mode: FullDisk(Path(name), 0), raising=False)
    with pytest.raises(UserError, match=r"log\.txt: no space left on the disk"):
        append_line(path, "three")
    with pytest.raises(UserError, match=r"x: cannot be written \("):
        append_line(path / "x", "four")


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"content", mtime=5))
    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b.gz") == "ed7002b439e9ac84"
