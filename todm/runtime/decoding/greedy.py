"""Greedy search, identical to ``greedy_search`` of sherpa-onnx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..constants import BLANK_ID
from ..fbank import FloatArray
from .interface import DecodingResult, initial_context


@dataclass(kw_only=True)
class GreedyState:
    """State of one utterance: tokens, preceded by the initial context, and the predictor's output."""

    tokens: list[int]
    frames: list[int] = field(default_factory=list)
    num_trailing_blanks: int = 0
    num_frames: int = 0
    predictor_out: FloatArray | None = None


class GreedySearch:
    """Take the best symbol of every encoder frame; blank and ``<unk>`` emit nothing.

    Args:
        bundle: an opened model folder.
        blank_penalty: subtracted from the logit of blank, at least 0.
    """

    def __init__(self, bundle: Bundle, *, blank_penalty: float = 0.0) -> None:
        self._bundle = bundle
        self._silent = (BLANK_ID, bundle.tokens.unk_id)
        self._blank_penalty = np.float32(blank_penalty)

    def start(self) -> GreedyState:
        """State before the first frame."""
        return GreedyState(tokens=list(initial_context(self._bundle.context_size)))

    def advance(
        self,
        states: Sequence[GreedyState],
        encoder_out: FloatArray,
        encoder_lens: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Decode encoder_out (N, T', J), of which the first encoder_lens (N,) frames are valid."""
        if encoder_lens is None:
            encoder_lens = np.full(len(states), encoder_out.shape[1], np.int64)
        for state in states:
            if state.predictor_out is None:
                state.predictor_out = self._predict([state])[0]
        # Longest first, so that the utterances still running are a prefix of the batch.
        order = np.argsort(-encoder_lens, kind="stable")
        states = [states[i] for i in order]
        encoder_out, encoder_lens = encoder_out[order], encoder_lens[order]
        predictor_out = np.stack([s.predictor_out for s in states if s.predictor_out is not None])
        for t in range(int(encoder_lens.max(initial=0))):
            running = int((encoder_lens > t).sum())
            logits = self._bundle.join(encoder_out[:running, t], predictor_out[:running])
            logits[:, BLANK_ID] -= self._blank_penalty
            emitted = []
            for i, token in enumerate(logits.argmax(axis=1).tolist()):
                state = states[i]
                if token in self._silent:
                    state.num_trailing_blanks += 1
                else:
                    state.tokens.append(token)
                    state.frames.append(state.num_frames + t)
                    state.num_trailing_blanks = 0
                    emitted.append(i)
            if emitted:
                predictor_out[emitted] = self._predict([states[i] for i in emitted])
        for i, state in enumerate(states):
            state.predictor_out = predictor_out[i]
            state.num_frames += int(encoder_lens[i])

    def best(self, state: GreedyState) -> DecodingResult:
        """Best hypothesis so far."""
        return DecodingResult(
            ids=tuple(state.tokens[self._bundle.context_size :]),
            frames=tuple(state.frames),
            num_trailing_blanks=state.num_trailing_blanks,
        )

    def num_trailing_blanks(self, state: GreedyState) -> int:
        """Encoder frames since the last token."""
        return state.num_trailing_blanks

    def restart(self, state: GreedyState) -> GreedyState:
        """State for a new segment, with the last labels as its context."""
        # As in sherpa-onnx: after a segment without tokens the labels are reset, but the predictor's output
        # for the old ones stays in use until the next token.
        fresh = self.start()
        if self.has_tokens(state):
            fresh.tokens = state.tokens[-self._bundle.context_size :]
        fresh.predictor_out = state.predictor_out
        return fresh

    def has_tokens(self, state: GreedyState) -> bool:
        """Whether the best hypothesis contains any token."""
        return len(state.tokens) > self._bundle.context_size

    def _predict(self, states: Sequence[GreedyState]) -> FloatArray:
        size = self._bundle.context_size
        return self._bundle.predict(np.array([state.tokens[-size:] for state in states], np.int64))
