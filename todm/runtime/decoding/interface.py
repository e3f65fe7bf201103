"""Interface shared by greedy and beam search, for whole utterances and for chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..constants import BLANK_ID
from ..fbank import FloatArray


@dataclass(frozen=True, kw_only=True)
class DecodingResult:
    """Best hypothesis of one utterance or segment.

    Args:
        ids: token ids without the initial context.
        frames: encoder frame of each token, counted from the start of the segment.
        num_trailing_blanks: encoder frames since the last token.
    """

    ids: tuple[int, ...]
    frames: tuple[int, ...]
    num_trailing_blanks: int


class TokenSearch(Protocol):
    """Search over encoder frames that emits at most one symbol per frame.

    States are opaque, one per utterance; `advance` changes them in place.
    """

    def start(self) -> Any:
        """State before the first frame."""

    def advance(
        self,
        states: Sequence[Any],
        encoder_out: FloatArray,
        encoder_lens: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Decode encoder_out (N, T', J), of which the first encoder_lens (N,) frames are valid."""

    def best(self, state: Any) -> DecodingResult:
        """Best hypothesis so far."""

    def num_trailing_blanks(self, state: Any) -> int:
        """Encoder frames since the last token of the best hypothesis."""

    def restart(self, state: Any) -> Any:
        """State for a new segment, with the last labels as its context."""

    def has_tokens(self, state: Any) -> bool:
        """Whether the best hypothesis contains any token."""


def initial_context(context_size: int) -> tuple[int, ...]:
    """Labels before the first one: -1 (no label) and one blank, as in sherpa-onnx."""
    return (-1,) * (context_size - 1) + (BLANK_ID,)
