"""Modified beam search, identical to ``modified_beam_search`` of sherpa-onnx.

Every hypothesis takes exactly one step per encoder frame (blank or one symbol); hypotheses with the
same labels are merged by adding their probabilities (Kang et al., arXiv 2211.00484).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..constants import BLANK_ID
from ..fbank import FloatArray
from .interface import DecodingResult, initial_context


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """Labels (preceded by the context), their encoder frames and their log-probability."""

    tokens: tuple[int, ...]
    log_prob: float
    frames: tuple[int, ...] = ()
    num_trailing_blanks: int = 0


@dataclass(kw_only=True)
class BeamState:
    """State of one utterance: hypotheses by labels, and the number of decoded encoder frames.

    Labels with which all hypotheses begin are kept once, so that the time per frame does not grow with the
    transcript.

    Args:
        hypotheses: each without the shared labels, by its labels.
        num_frames: decoded encoder frames.
        shared_tokens: labels with which all hypotheses begin, without the initial context.
        shared_frames: encoder frames of the shared labels.
    """

    hypotheses: dict[tuple[int, ...], Hypothesis]
    num_frames: int = 0
    shared_tokens: list[int] = field(default_factory=list)
    shared_frames: list[int] = field(default_factory=list)


class BeamSearch:
    """Keep the ``max_active_paths`` best continuations per encoder frame.

    Args:
        bundle: an opened model folder.
        max_active_paths: number of hypotheses, at least 1.
        blank_penalty: subtracted from the logit of blank, at least 0.
    """

    def __init__(self, bundle: Bundle, *, max_active_paths: int = 4, blank_penalty: float = 0.0) -> None:
        assert max_active_paths >= 1
        self._bundle = bundle
        self._silent = (BLANK_ID, bundle.tokens.unk_id)
        self._max_active_paths = max_active_paths
        self._blank_penalty = np.float32(blank_penalty)

    def start(self) -> BeamState:
        """State before the first frame."""
        tokens = initial_context(self._bundle.context_size)
        return BeamState(hypotheses={tokens: Hypothesis(tokens=tokens, log_prob=0.0)})

    def advance(
        self,
        states: Sequence[BeamState],
        encoder_out: FloatArray,
        encoder_lens: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Decode encoder_out (N, T', J), of which the first encoder_lens (N,) frames are valid."""
        if encoder_lens is None:
            encoder_lens = np.full(len(states), encoder_out.shape[1], np.int64)
        for t in range(int(encoder_lens.max(initial=0))):
            running = np.flatnonzero(encoder_lens > t).tolist()
            active = [list(states[i].hypotheses.values()) for i in running]
            counts = [len(hypotheses) for hypotheses in active]
            scores = self._score(active, np.repeat(encoder_out[running, t], counts, axis=0))
            for i, hypotheses, own in zip(
                running, active, np.split(scores, np.cumsum(counts)[:-1]), strict=True
            ):
                state = states[i]
                state.hypotheses = self._extend(hypotheses, own, state.num_frames + t)
        for state, num_frames in zip(states, encoder_lens.tolist(), strict=True):
            state.num_frames += num_frames
            self._share(state)

    def best(self, state: BeamState) -> DecodingResult:
        """Best hypothesis so far: the highest log-probability per label."""
        hypothesis = self._best(state)
        return DecodingResult(
            ids=(*state.shared_tokens, *hypothesis.tokens[self._bundle.context_size :]),
            frames=(*state.shared_frames, *hypothesis.frames),
            num_trailing_blanks=hypothesis.num_trailing_blanks,
        )

    def num_trailing_blanks(self, state: BeamState) -> int:
        """Encoder frames since the last token of the best hypothesis."""
        return self._best(state).num_trailing_blanks

    def restart(self, state: BeamState) -> BeamState:
        """State for a new segment, with the last labels as its context."""
        fresh = self.start()
        if self.has_tokens(state):
            # As in sherpa-onnx: the hypothesis without context stays in the beam, with probability 1.
            for hypothesis in state.hypotheses.values():
                tokens = hypothesis.tokens[-self._bundle.context_size :]
                _merge(fresh.hypotheses, Hypothesis(tokens=tokens, log_prob=hypothesis.log_prob))
        return fresh

    def has_tokens(self, state: BeamState) -> bool:
        """Whether the best hypothesis contains any token."""
        return bool(state.shared_tokens) or len(self._best(state).tokens) > self._bundle.context_size

    def _best(self, state: BeamState) -> Hypothesis:
        # As in sherpa-onnx, normalized by the length with the initial context.
        shared = len(state.shared_tokens)
        return max(state.hypotheses.values(), key=lambda h: h.log_prob / (shared + len(h.tokens)))

    def _share(self, state: BeamState) -> None:
        """Move the labels with which all hypotheses begin, at the same frames, to the shared ones."""
        size = self._bundle.context_size
        hypotheses = list(state.hypotheses.values())
        first = hypotheses[0]
        if any(h.tokens[:size] != first.tokens[:size] for h in hypotheses):
            return  # of another context after `restart`: equal labels would not be the same hypothesis
        count = 0
        for labels in zip(*(zip(h.tokens[size:], h.frames, strict=True) for h in hypotheses), strict=False):
            if any(label != labels[0] for label in labels):
                break
            count += 1
        if not count:
            return
        state.shared_tokens += first.tokens[size : size + count]
        state.shared_frames += first.frames[:count]
        state.hypotheses = {
            h.tokens[count:]: replace(h, tokens=h.tokens[count:], frames=h.frames[count:]) for h in hypotheses
        }

    def _score(self, active: Sequence[Sequence[Hypothesis]], encoder_out: FloatArray) -> FloatArray:
        """Log-probabilities (num_hypotheses, V) of every hypothesis extended by every symbol."""
        flat = [hypothesis for hypotheses in active for hypothesis in hypotheses]
        size = self._bundle.context_size
        contexts = np.array([hypothesis.tokens[-size:] for hypothesis in flat], np.int64)
        logits = self._bundle.join(encoder_out, self._bundle.predict(contexts))
        logits[:, BLANK_ID] -= self._blank_penalty
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        # float32 as in sherpa-onnx: float64 would resolve near ties differently.
        logits += np.array([hypothesis.log_prob for hypothesis in flat], np.float32)[:, None]
        return logits

    def _extend(
        self, hypotheses: Sequence[Hypothesis], scores: FloatArray, frame: int
    ) -> dict[tuple[int, ...], Hypothesis]:
        flat = scores.ravel()
        keep = min(self._max_active_paths, flat.size)
        top = np.argpartition(-flat, keep - 1)[:keep]
        top = top[np.argsort(-flat[top], kind="stable")]
        merged: dict[tuple[int, ...], Hypothesis] = {}
        for index in top.tolist():
            row, token = divmod(index, scores.shape[1])
            old, log_prob = hypotheses[row], float(flat[index])
            if token in self._silent:
                new = replace(old, log_prob=log_prob, num_trailing_blanks=old.num_trailing_blanks + 1)
            else:
                new = Hypothesis(tokens=(*old.tokens, token), log_prob=log_prob, frames=(*old.frames, frame))
            _merge(merged, new)
        return merged


def _merge(hypotheses: dict[tuple[int, ...], Hypothesis], new: Hypothesis) -> None:
    """Add a hypothesis; one with the same labels gains its probability and keeps its own frames."""
    old = hypotheses.get(new.tokens)
    if old is None:
        hypotheses[new.tokens] = new
    else:
        high, low = max(old.log_prob, new.log_prob), min(old.log_prob, new.log_prob)
        hypotheses[new.tokens] = replace(old, log_prob=high + math.log1p(math.exp(low - high)))
