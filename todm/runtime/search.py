"""What greedy and beam search have in common: one interface, used for whole files and for chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .constants import BLANK_ID
from .fbank import FloatArray


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a search has found so far in one utterance.

    Args:
        ids: token ids without the initial context.
        frames: encoder frame of each token, counted from the start of the segment.
        num_trailing_blanks: encoder frames since the last token.
    """

    ids: tuple[int, ...]
    frames: tuple[int, ...]
    num_trailing_blanks: int


class Search(Protocol):
    """A search over encoder frames that emits at most one symbol per frame.

    States are opaque, one per utterance; ``advance`` changes them in place.
    """

    def start(self) -> Any:
        """State before the first frame."""

    def advance(
        self,
        states: Sequence[Any],
        encoder_out: FloatArray,
        encoder_lens: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Go through encoder_out (N, T', J), of which the first encoder_lens (N,) frames count."""

    def best(self, state: Any) -> Decoded:
        """Best result so far."""

    def restart(self, state: Any) -> Any:
        """State for a new segment, which still sees the last labels as its context."""

    def has_tokens(self, state: Any) -> bool:
        """Whether the best result holds any token."""


def initial_context(context_size: int) -> tuple[int, ...]:
    """Labels before the first one: -1 (no label at all) and one blank, as in sherpa-onnx."""
    return (-1,) * (context_size - 1) + (BLANK_ID,)
