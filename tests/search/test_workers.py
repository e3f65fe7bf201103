from __future__ import annotations

from pathlib import Path

import pytest

from tests.search.toy import SPACE, Evaluator, load_nothing, load_toy, make_objective_set, toy_wer
from todm.search.cache import EvalCache
from todm.search.nsga2 import search_at_random
from todm.search.objective_set import Evaluations
from todm.search.workers import Workers

SPECS = [SPACE.uniform(depth, {"ffn_dim": dim}, "offline") for depth in (6, 8) for dim in (64, 128, 256)]


def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    with Workers(load_toy, EvalCache(tmp_path / "two.jsonl"), 2) as two:
        assert dict(two(SPECS)) == {spec: {"wer": toy_wer(spec)} for spec in SPECS}
        assert len((tmp_path / "two.jsonl").read_text().splitlines()) == len(SPECS)
        fronts = []
        for workers in (two, Workers(load_toy, EvalCache(tmp_path / "one.jsonl"))):
            budget = Evaluations(objectives=make_objective_set(), evaluate=workers, evaluations=20)
            search_at_random(SPACE, "offline", budget, population=7, seed=1)
            fronts.append(list(budget.points.items()))
    assert fronts[0] == fronts[1]
    # And on the cache that the others filled, nothing is loaded or run.
    cached = Workers(load_nothing, EvalCache(tmp_path / "two.jsonl"), 2)
    assert len(dict(cached(SPECS))) == len(SPECS)


def test_an_error_in_a_worker_comes_back(tmp_path: Path) -> None:
    with (
        Workers(load_nothing, EvalCache(tmp_path / "cache.jsonl"), 2) as workers,
        pytest.raises(FileNotFoundError, match="no such net"),
    ):
        list(workers(SPECS))


def test_what_another_process_evaluated_is_not_evaluated_again(tmp_path: Path) -> None:
    evaluator = Evaluator()
    workers = evaluator.into(tmp_path)
    list(workers(SPECS[:2]))
    EvalCache(tmp_path / "cache.jsonl").put(SPECS[2], {"wer": 7.0})
    assert dict(workers(SPECS[:4]))[SPECS[2]] == {"wer": 7.0}
    assert evaluator.calls == 3
