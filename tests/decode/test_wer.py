from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from todm.decode.wer import (
    Utterance,
    compute_wer,
    format_alignment,
    format_errors,
    make_utterances,
    write_wer,
)

IDS = ["u1", "u2", "u3", "u4"]
REFS = ["turn the light on", "stop", "", "play some music"]
HYPS = ["turn light on now", "stop", "um", "lay some tunes"]


def reference_distance(ref: tuple[str, ...], hyp: tuple[str, ...]) -> int:
    """Levenshtein distance by its definition."""
    table = np.zeros((len(ref) + 1, len(hyp) + 1), int)
    table[:, 0], table[0, :] = np.arange(len(ref) + 1), np.arange(len(hyp) + 1)
    for i in range(len(ref)):
        for j in range(len(hyp)):
            table[i + 1, j + 1] = min(
                table[i, j] + (ref[i] != hyp[j]), table[i, j + 1] + 1, table[i + 1, j] + 1
            )
    return int(table[-1, -1])


def random_utterances(count: int, seed: int) -> list[Utterance]:
    rng = np.random.default_rng(seed)
    return [
        Utterance(
            id=f"u{i}",
            ref=tuple(rng.choice(list("abcd"), rng.integers(0, 9))),
            hyp=tuple(rng.choice(list("abcd"), rng.integers(0, 9))),
        )
        for i in range(count)
    ]


def test_counts_of_a_known_case() -> None:
    result = compute_wer(make_utterances(IDS, REFS, HYPS))
    assert (result.ins, result.dels, result.subs) == (2, 1, 2)
    assert (result.errors, result.words) == (5, 8)
    assert result.wer == pytest.approx(62.5)
    assert 0 <= result.ci95[0] <= result.wer <= result.ci95[1]


def test_errors_equal_the_edit_distance_and_the_alignments() -> None:
    utterances = random_utterances(50, seed=0)
    result = compute_wer(utterances)
    assert result.errors == sum(reference_distance(u.ref, u.hyp) for u in utterances)
    assert result.errors == result.ins + result.dels + result.subs
    for utterance in utterances:
        shown = format_alignment(utterance)
        errors = reference_distance(utterance.ref, utterance.hyp)
        assert shown.count("->") == errors
        # Both sides can be read back from the alignment.
        sides = [word.strip("()").split("->") for word in shown.split()]
        assert tuple(side[0] for side in sides if side[0] != "*") == utterance.ref
        assert tuple(side[-1] for side in sides if side[-1] != "*") == utterance.hyp


def test_the_interval_follows_the_seed_and_the_amount_of_data() -> None:
    few, many = random_utterances(20, seed=1), random_utterances(500, seed=1)
    assert compute_wer(few, seed=3) == compute_wer(few, seed=3)
    assert compute_wer(few, seed=3).ci95 != compute_wer(few, seed=4).ci95
    small, large = compute_wer(few).ci95, compute_wer(many).ci95
    assert large[1] - large[0] < small[1] - small[0]


def test_a_star_is_a_word_like_any_other() -> None:
    result = compute_wer(make_utterances(["a"], ["2 * 3"], ["2 3"]))
    assert (result.dels, result.errors) == (1, 1)
    assert format_alignment(make_utterances(["a"], ["2 * 3"], ["2 * 3"])[0]) == "2 * 3"


@pytest.mark.parametrize(
    ("refs", "hyps", "wer"),
    [
        ([], [], 0.0),
        (["", ""], ["", ""], 0.0),
        (["", ""], ["a b", ""], 200.0),
        (["", "a"], ["", "a"], 0.0),
        (["a"], [""], 100.0),
    ],
)
def test_empty_transcripts_give_numbers(refs: list[str], hyps: list[str], wer: float) -> None:
    result = compute_wer(make_utterances([str(i) for i in range(len(refs))], refs, hyps))
    assert result.wer == wer
    assert all(np.isfinite(bound) and bound >= 0 for bound in result.ci95)


def test_files(tmp_path: Path) -> None:
    utterances = make_utterances(IDS, REFS, HYPS)
    result = compute_wer(utterances)
    path = tmp_path / "max" / "dev.json"
    write_wer(path, utterances, result, part="dev-clean-2", model="max")
    data = json.loads(path.read_text())
    assert data == {
        "wer": 62.5, "errors": 5, "words": 8, "ins": 2, "del": 1, "sub": 2,
        "ci95": list(result.ci95), "part": "dev-clean-2", "model": "max",
    }  # fmt: skip
    text = (tmp_path / "max" / "dev.errors.txt").read_text()
    assert text == format_errors(utterances, result)
    lines = text.splitlines()
    assert "5 errors in 8 words (2 insertions, 1 deletions, 2 substitutions)" in lines[0]
    assert lines[1] == "3 of 4 utterances have errors"
    wrong = [line.split("\t")[0] for line in lines if "->" in line and line.startswith("u")]
    assert wrong == ["u4", "u1", "u3"]  # two errors in three words are worse than two in four
    assert "u4\t2 of 3\t(play->lay) some (music->tunes)" in lines
    assert "u3\t1 of 0\t(*->um)" in lines
    assert "u2\tstop" in lines
