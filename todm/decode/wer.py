"""Word error rate with error types, a bootstrap confidence interval and alignments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaldialign import align, bootstrap_wer_ci, edit_distance

from todm.files import write_json, write_text
from todm.layout import alignments_path

_GAP = "*"  # marks a missing word in an alignment


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """Reference and hypothesis of one utterance.

    Args:
        id: utterance id.
        ref: words of the reference transcript.
        hyp: recognized words.
    """

    id: str
    ref: tuple[str, ...]
    hyp: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WerResult:
    """Word errors of a set of utterances.

    Args:
        errors: insertions, deletions and substitutions together.
        words: words of the references.
        ins, dels, subs: number of each error type.
        wer: percent, 100 * errors / words; without any reference words, 100 per inserted word.
        ci95: bounds of the 95% bootstrap interval of ``wer``, percent, at least 0.
    """

    errors: int
    words: int
    ins: int
    dels: int
    subs: int
    wer: float
    ci95: tuple[float, float]

    def to_dict(self, *, part: str, model: str) -> dict[str, Any]:
        """Values of ``<part>.json``, ready for JSON."""
        return {
            "wer": self.wer,
            "errors": self.errors,
            "words": self.words,
            "ins": self.ins,
            "del": self.dels,
            "sub": self.subs,
            "ci95": list(self.ci95),
            "part": part,
            "model": model,
        }


def make_utterances(ids: Sequence[str], refs: Sequence[str], hyps: Sequence[str]) -> list[Utterance]:
    """Pair references with hypotheses, split into words at white space."""
    return [
        Utterance(id=name, ref=tuple(ref.split()), hyp=tuple(hyp.split()))
        for name, ref, hyp in zip(ids, refs, hyps, strict=True)
    ]


def compute_wer(utterances: Sequence[Utterance], *, replications: int = 1000, seed: int = 0) -> WerResult:
    """Count the errors of minimal alignments (insertion, deletion and substitution cost 1 each).

    Args:
        utterances: references may be empty; every recognized word is then an insertion.
        replications: bootstrap resamplings of the utterances (Bisani and Ney, ICASSP 2004).
        seed: seed of the resampling.

    Returns:
        sums over all utterances; for fewer than two utterances the interval has width 0.
    """
    ins = dels = subs = words = 0
    for utterance in utterances:
        counts = edit_distance(utterance.ref, utterance.hyp)
        ins += int(counts["ins"])
        dels += int(counts["del"])
        subs += int(counts["sub"])
        words += len(utterance.ref)
    errors = ins + dels + subs
    wer = 100 * errors / max(words, 1)
    ci95 = (wer, wer)
    if words and len(utterances) > 1:
        interval = bootstrap_wer_ci(
            [utterance.ref for utterance in utterances],
            [utterance.hyp for utterance in utterances],
            replications=replications,
            seed=seed,
        )
        low, high = 100 * float(interval["ci95min"]), 100 * float(interval["ci95max"])
        # A resampling with only empty references has no rate, and the bounds are not finite.
        if math.isfinite(low) and math.isfinite(high):
            ci95 = (max(0.0, low), high)
    return WerResult(errors=errors, words=words, ins=ins, dels=dels, subs=subs, wer=wer, ci95=ci95)


def format_alignment(utterance: Utterance) -> str:
    """Format an alignment with errors in parentheses: ``(ref->hyp)``, ``(ref->*)``, ``(*->hyp)``.

    Example:
        >>> format_alignment(Utterance(id="a", ref=("turn", "it", "on"), hyp=("turn", "on", "now")))
        'turn (it->*) on (*->now)'
    """
    return " ".join(
        ref if ref == hyp else f"({ref or _GAP}->{hyp or _GAP})" for ref, hyp in _align(utterance)
    )


def format_errors(utterances: Sequence[Utterance], result: WerResult) -> str:
    """Format a report: totals, utterances with errors (worst first), frequent errors, correct utterances.

    Args:
        utterances: as given to `compute_wer`.
        result: return value of `compute_wer`.
    """
    counts: dict[tuple[str, str], int] = {}
    rows: list[tuple[int, Utterance]] = []
    for utterance in utterances:
        pairs = [pair for pair in _align(utterance) if pair[0] != pair[1]]
        for pair in pairs:
            counts[pair] = counts.get(pair, 0) + 1
        rows.append((len(pairs), utterance))
    wrong = [row for row in rows if row[0]]
    # Worst first; ties are sorted by id, so that two reports can be compared line by line.
    wrong.sort(key=lambda row: (-row[0], -row[0] / max(1, len(row[1].ref)), row[1].id))
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lines = [
        f"WER {result.wer:.2f}% [{result.ci95[0]:.2f}, {result.ci95[1]:.2f}]: {result.errors} errors in "
        f"{result.words} words ({result.ins} insertions, {result.dels} deletions, "
        f"{result.subs} substitutions)",
        f"{len(wrong)} of {len(rows)} utterances have errors",
        "",
        "UTTERANCES WITH ERRORS, worst first: (reference->hypothesis), * is no word",
        *(f"{u.id}\t{n} of {len(u.ref)}\t{format_alignment(u)}" for n, u in wrong),
        "",
        "ERRORS BY FREQUENCY: count, reference->hypothesis",
        *(f"{count}\t{ref or _GAP}->{hyp or _GAP}" for (ref, hyp), count in frequent),
        "",
        "UTTERANCES WITHOUT ERRORS",
        *(f"{u.id}\t{' '.join(u.ref)}" for n, u in rows if not n),
    ]
    return "\n".join(lines) + "\n"


def write_wer(
    path: Path, utterances: Sequence[Utterance], result: WerResult, *, part: str, model: str
) -> None:
    """Write the result as JSON to `path`, and the alignments to ``<part>.errors.txt`` in the same folder."""
    write_text(alignments_path(path), format_errors(utterances, result))
    write_json(path, result.to_dict(part=part, model=model))


def _align(utterance: Utterance) -> list[tuple[str, str]]:
    """Aligned pairs of words; the empty string marks a missing word."""
    pairs: list[tuple[str, str]] = align(utterance.ref, utterance.hyp, "")
    return pairs
