from __future__ import annotations

from pathlib import Path

import pytest

from todm.runtime.errors import BundleError
from todm.runtime.tokens import read_tokens


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_text_has_single_spaces_between_words(tmp_path: Path) -> None:
    lines = "<blk> 0\n<sos/eos> 1\n<unk> 2\n\u2581TURN 3\n\u2581 4\nED 5\n\u2581ON 6\n"
    table = read_tokens(write(tmp_path / "tokens.txt", lines))
    assert len(table) == 7
    assert table.unk_id == 2
    assert table.text([3, 5, 4, 5, 6]) == "TURNED ED ON"
    assert table.token(3) == " TURN"
    assert table.text([]) == ""


def test_windows_line_ends_and_the_bare_space(tmp_path: Path) -> None:
    table = read_tokens(write(tmp_path / "tokens.txt", "<blk> 0\r\nA 1\r\n  2\r\nB\t3\r\n"))
    assert table.text([1, 2, 3]) == "A B"
    assert table.unk_id == -1


def test_a_symbol_may_look_like_white_space_elsewhere(tmp_path: Path) -> None:
    table = read_tokens(write(tmp_path / "tokens.txt", "<blk> 0\n\u3000 1\n\x85 2\n"))
    assert table.symbols[1] == "\u3000"
    assert table.symbols[2] == "\x85"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "without a gap"),
        ("<blk> 0\nA 2\n", "without a gap"),
        ("<blk> 0\nA 1\nB 1\n", "line 3 repeats id 1"),
        ("<blk> 0\nA 1\nA 2\n", "two ids"),
        ("<blk> 0\nA B 1\n", "line 2"),
        ("<blk> 0\nA x\n", "line 2"),
        ("A 0\n<blk> 1\n", "id 0 must be <blk>"),
    ],
)
def test_bad_files_are_refused_with_the_place(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=rf"tokens\.txt.*{reason}"):
        read_tokens(write(tmp_path / "tokens.txt", text))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tokens\.txt: no such file"):
        read_tokens(tmp_path / "tokens.txt")
    (tmp_path / "tokens.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="not UTF-8"):
        read_tokens(tmp_path / "tokens.txt")


def test_a_folder_of_bundles_is_named(tmp_path: Path) -> None:
    (tmp_path / "min").mkdir()
    write(tmp_path / "min" / "tokens.txt", "<blk> 0\n")
    with pytest.raises(BundleError, match="holds bundles; name one of its folders"):
        read_tokens(tmp_path / "tokens.txt")
