from __future__ import annotations

from pathlib import Path

import pytest

from todm.errors import UserError
from todm.search.cache import EvalCache
from todm.space.spec import SubnetSpec

SMALL = SubnetSpec(layers=(0,), widths={"ffn_dim": (8,)}, mode="offline")
LARGE = SubnetSpec(layers=(0, 1), widths={"ffn_dim": (8, 16)}, mode="streaming")


def test_keeps_results_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "search" / "cache.jsonl"
    EvalCache(path).put(SMALL, {"wer": 1.5})
    EvalCache(path).put(LARGE, {"wer": 0.5, "note": "x"})
    again = EvalCache(path)
    assert again.get(SMALL) == {"wer": 1.5}
    assert again.get(LARGE) == {"wer": 0.5, "note": "x"}
    assert len(again) == 2


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_dropped_and_the_file_stays_usable(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cache.jsonl"
    cache = EvalCache(path)
    cache.put(SMALL, {"wer": 1.0})
    cache.put(LARGE, {"wer": 2.0})
    path.write_bytes(path.read_bytes()[:-cut])

    survivor = EvalCache(path)
    assert SMALL in survivor and LARGE not in survivor
    survivor.put(LARGE, {"wer": 3.0})
    assert EvalCache(path).get(LARGE) == {"wer": 3.0}
    assert EvalCache(path).get(SMALL) == {"wer": 1.0}


def test_other_weights_share_the_file_but_not_the_results(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    EvalCache(path, context="old").put(SMALL, {"wer": 9.0})
    new = EvalCache(path, context="new")
    assert new.get(SMALL) is None
    new.put(SMALL, {"wer": 1.0})
    assert EvalCache(path, context="old").get(SMALL) == {"wer": 9.0}
    assert EvalCache(path, context="new").get(SMALL) == {"wer": 1.0}


def test_a_foreign_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    EvalCache(path).put(SMALL, {"wer": 1.0})
    path.write_text(path.read_text() + '{"spec": 3}\n')
    with pytest.raises(UserError, match=r"cache\.jsonl: line 2"):
        EvalCache(path)


def test_another_process_sees_what_came_in_the_meantime(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    first, second = EvalCache(path), EvalCache(path)
    first.put(SMALL, {"wer": 1.0})
    assert second.get(SMALL) == {"wer": 1.0}
    second.put(LARGE, {"wer": 2.0})
    assert first.get(LARGE) == {"wer": 2.0}
    assert len(path.read_text().splitlines()) == 2


def test_a_torn_line_of_another_process_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    reader, writer = EvalCache(path), EvalCache(path)
    writer.put(SMALL, {"wer": 1.0})
    with path.open("a") as file:
        file.write('{"spec": {"lay')
    assert reader.get(LARGE) is None and reader.get(SMALL) == {"wer": 1.0}
    writer.put(LARGE, {"wer": 2.0})
    assert reader.get(LARGE) == {"wer": 2.0}
