"""Intervals against the spread that they must estimate."""

from __future__ import annotations

import numpy as np
import pytest

from todm.ablation.statistics import Draws, difference, estimate


def draw_errors(rng: np.random.Generator, rate: float, seeds: int, utterances: int) -> np.ndarray:
    return rng.binomial(5, rate, size=(seeds, utterances))


def test_the_mean_is_the_mean_of_the_seeds_rates() -> None:
    errors = np.array([[1, 0, 2], [3, 1, 0]])
    words = np.array([4, 5, 6])
    found = estimate(errors, words, Draws.make(2, 3))
    assert found.mean == pytest.approx(100 * (3 / 15 + 4 / 15) / 2)
    assert found.low <= found.mean <= found.high


def test_draws_are_the_same_for_the_same_numbers_and_all_is_drawn() -> None:
    one, other = Draws.make(3, 20), Draws.make(3, 20)
    assert (one.seeds == other.seeds).all() and (one.utterances == other.utterances).all()
    assert (one.seeds.sum(1) == 3).all() and (one.utterances.sum(1) == 20).all()


def test_a_draw_is_what_counting_by_hand_gives() -> None:
    rng = np.random.default_rng(0)
    errors, words = draw_errors(rng, 0.2, 3, 10), rng.integers(1, 6, 10)
    draws = Draws.make(3, 10, count=5)
    for index, rate in enumerate(draws.rates(errors, words)):
        rows = np.repeat(np.arange(3), draws.seeds[index])
        columns = np.repeat(np.arange(10), draws.utterances[index])
        wanted = np.mean([100 * errors[row, columns].sum() / words[columns].sum() for row in rows])
        assert rate == pytest.approx(wanted)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """With many seeds; errors of 100 utterances of 5 words at 10%, 300 experiments."""
    rng = np.random.default_rng(1)
    words = np.full(100, 5)
    draws = Draws.make(8, 100, count=500)
    covered = 0
    for _ in range(300):
        found = estimate(draw_errors(rng, 0.1, 8, 100), words, draws)
        covered += found.low <= 10.0 <= found.high
    assert 0.90 <= covered / 300 <= 1.0


def test_pairing_sees_a_difference_that_the_intervals_hide() -> None:
    """Utterances differ greatly in how hard they are; the variant makes one error more in every tenth."""
    rng = np.random.default_rng(2)
    hard = rng.integers(0, 6, 100)
    reference = np.stack([hard, hard, hard])
    variant = reference + (np.arange(100) % 10 == 0)
    words, draws = np.full(100, 6), Draws.make(3, 100)
    apart = difference(variant, reference, words, draws)
    assert apart.mean == pytest.approx(100 * 10 / 600)
    assert apart.low > 0.0
    one, other = estimate(variant, words, draws), estimate(reference, words, draws)
    assert one.low < other.high  # on their own the two overlap


def test_no_difference_is_no_difference() -> None:
    errors = draw_errors(np.random.default_rng(3), 0.1, 3, 50)
    none = difference(errors, errors, np.full(50, 5), Draws.make(3, 50))
    assert (none.mean, none.low, none.high) == (0.0, 0.0, 0.0)
