from __future__ import annotations

import pytest

from todm.errors import UserError
from todm.search.limits import parse_budget, parse_limit, parse_objective


@pytest.mark.parametrize(
    ("text", "objective", "bound"),
    [
        ("rtf <= 0.1 on pi4", "rtf on pi4", 0.1),
        ("rtf<=1e-1 on my.phone-2", "rtf on my.phone-2", 0.1),
        ("size<=2MB", "size", 2e6),
        ("size <= 900 kB", "size", 9e5),
        ("latency <= 0.5 s on pi4", "latency on pi4", 500.0),
        ("wer <= 5%", "wer", 5.0),
        ("params <= 0.8 M", "params", 8e5),
        ("macs <= 2G", "macs", 2e9),
        ("state <= 1e5", "state", 1e5),
    ],
)
def test_forms_that_are_understood(text: str, objective: str, bound: float) -> None:
    limit = parse_limit(text)
    assert str(limit.objective) == objective
    assert limit.bound == pytest.approx(bound)
    assert parse_objective(objective) == limit.objective


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rtf <= 0.1", "name the device"),
        ("wer <= 5 on pi4", "the same on every device"),
        ("speed <= 3", "not an objective; use wer, params"),
        ("wer >= 5", ">= is not possible"),
        ("wer <= five", "'five' is not a number"),
        ("wer <= nan", "not a number"),
        ("size <= 2 ms", "'ms' is not a unit of size; use B or kB"),
        ("params <= 2 MB", "not a unit of params"),
        ("", "write it as"),
        ("<= 3", "write it as"),
        ("size 3 MB", "write it as"),
    ],
)
def test_what_is_wrong_is_said(text: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        parse_limit(text)


def test_excess_is_a_share_of_the_bound() -> None:
    limit = parse_limit("size <= 2 MB")
    assert [limit.excess(value) for value in (1e6, 2e6, 3e6)] == [0.0, 0.0, 0.5]
    assert parse_limit("state <= 0").excess(1.0) > 0


def test_a_budget_has_a_name() -> None:
    budget = parse_budget("watch: size <= 1 MB, latency <= 20 ms on watch")
    assert budget.name == "watch"
    assert [str(limit.objective) for limit in budget.limits] == ["size", "latency on watch"]
    for text in ("size <= 1 MB", ": size <= 1 MB", "my watch: size <= 1 MB", "watch:"):
        with pytest.raises(UserError):
            parse_budget(text)
