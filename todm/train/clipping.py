"""Gradient clipping by the median of recent norms (Zipformer, Yao et al., arXiv 2310.11230)."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any


class MedianClipper:
    """Chooses how far a step's gradients are scaled down, from the norms of the previous steps.

    A norm above `scale` times the median of the last `window` norms is brought down to that threshold.
    Nothing is clipped before `min_history` norms are known. The median is taken over the norms before
    clipping, so that one spike does not move the threshold and a lasting rise does.

    Args:
        scale: threshold as a multiple of the median, positive; ``math.inf`` never clips.
        window: norms that the median is taken over.
        min_history: norms needed before the first clipping.
    """

    def __init__(self, scale: float = 2.0, *, window: int = 100, min_history: int = 10) -> None:
        assert scale > 0 and window >= min_history >= 1
        self.scale = scale
        self.min_history = min_history
        self.last_norm = 0.0
        self.num_steps = 0
        self.num_clipped = 0
        self.num_skipped = 0
        self._norms: deque[float] = deque(maxlen=window)

    @property
    def threshold(self) -> float:
        """Largest norm that passes unchanged now; infinite at the beginning."""
        if len(self._norms) < self.min_history:
            return math.inf
        return self.scale * statistics.median(self._norms)

    def factor(self, norm: float) -> float:
        """Return the factor, 0 to 1, on this step's gradients and store `norm`.

        0.0 means that `norm` is not finite and the step must be skipped. Such a norm is counted in
        `num_skipped` and not stored, because it would distort the median.
        """
        self.num_steps += 1
        self.last_norm = norm
        if not math.isfinite(norm):
            self.num_skipped += 1
            return 0.0
        threshold = self.threshold
        self._norms.append(norm)
        # If all norms so far are 0 (nothing trained yet), there is no scale to clip to.
        if norm <= threshold or threshold == 0:
            return 1.0
        self.num_clipped += 1
        return threshold / norm

    def state_dict(self) -> dict[str, Any]:
        """Return the stored norms and the counters as plain values."""
        return {
            "norms": list(self._norms),
            "last_norm": self.last_norm,
            "num_steps": self.num_steps,
            "num_clipped": self.num_clipped,
            "num_skipped": self.num_skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`; scale and window stay as configured."""
        self._norms.clear()
        self._norms.extend(state["norms"])
        self.last_norm = state["last_norm"]
        self.num_steps = state["num_steps"]
        self.num_clipped = state["num_clipped"]
        self.num_skipped = state["num_skipped"]
