"""Means over seeds with bootstrap intervals, and paired differences.

Seeds and utterances are resampled with replacement (Bisani & Ney, ICASSP 2004, for the latter). Variants are
compared on the same draws, so that a hard utterance or an unlucky seed counts for both. With few seeds the
percentile interval tends to be too narrow, so the values of the seeds are shown as well.

Shapes: R seeds, M utterances, B draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS = 4000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure in percent with its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws: how often every seed and every utterance was drawn.

    Args:
        seeds: (B, R), rows sum to R.
        utterances: (B, M), rows sum to M.
    """

    seeds: npt.NDArray[np.int64]
    utterances: npt.NDArray[np.int64]

    @classmethod
    def make(cls, num_seeds: int, num_utterances: int, *, count: int = DRAWS, seed: int = 0) -> Draws:
        """Make `count` draws; equal arguments give equal draws."""
        rng = np.random.default_rng(seed)
        return cls(
            rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=count),
            rng.multinomial(num_utterances, np.full(num_utterances, 1 / num_utterances), size=count),
        )

    def rates(self, errors: npt.NDArray[np.int64], words: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Compute the mean WER of every draw, percent: errors (R, M) and words (M,) to (B,)."""
        per_seed = errors @ self.utterances.T / np.maximum(1, words @ self.utterances.T)  # (R, B)
        return 100.0 * np.einsum("br,rb->b", self.seeds / self.seeds.shape[1], per_seed)


def estimate(errors: npt.NDArray[np.int64], words: npt.NDArray[np.int64], draws: Draws) -> Estimate:
    """Estimate the mean WER over seeds: errors (R, M), words (M,)."""
    return _estimate(float(_rates(errors, words).mean()), draws.rates(errors, words))


def difference(
    errors: npt.NDArray[np.int64],
    reference: npt.NDArray[np.int64],
    words: npt.NDArray[np.int64],
    draws: Draws,
) -> Estimate:
    """Estimate the difference from the reference in points, both (R, M) with equal seeds and utterances."""
    mean = float((_rates(errors, words) - _rates(reference, words)).mean())
    return _estimate(mean, draws.rates(errors, words) - draws.rates(reference, words))


def _rates(errors: npt.NDArray[np.int64], words: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(100.0 * errors.sum(1) / max(1, words.sum()))


def _estimate(mean: float, drawn: npt.NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(mean=mean, low=float(low), high=float(high))
