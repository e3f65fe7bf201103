from __future__ import annotations

import errno
from pathlib import Path

import pytest

from todm.data.files import atomic_path
from todm.errors import UserError


def test_error_keeps_the_old_file_and_leaves_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["list.json"]


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    with pytest.raises(UserError, match=r"list\.json: the disk is full"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not path.exists()
