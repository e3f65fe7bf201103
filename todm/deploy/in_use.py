"""In-use checks of a bundle: streams of many utterances, tight ends, other rates, quiet voices, no speech.

Each check runs in this project's runtime and in stock sherpa-onnx. A new check is one function and one line
in `CHECKS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from todm.data.features import resample_like_training
from todm.decode.wer import WerResult, compute_wer, make_utterances
from todm.deploy.in_use_runtimes import InUseRuntime, open_runtime
from todm.runtime.bundle import open_bundle
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import compute_fbank
from todm.runtime.layout import BundleFiles
from todm.runtime.resample import resample

MAX_UTTERANCES = 100
"""Utterances of the in-use checks at most, evenly spread over the part."""

PAUSE_SECONDS = 1.5
"""Digital silence between the utterances of one stream."""

ERROR_RATIO = 1.1
"""Allowed errors in use, as a multiple of the errors of fresh starts at full level."""

NOISE_LEVELS = (-50, -30, -10)
"""Root mean squares of the sounds without speech, dBFS."""

WORDS_PER_ERROR = 500
"""Words for each of which, or part of which, one error more is allowed."""


@dataclass(frozen=True, kw_only=True)
class InUseResult:
    """Result of one check in one runtime.

    Args:
        check: what was checked.
        runtime: ``onnxruntime`` (this project's runtime) or ``sherpa-onnx``.
        measured: what was counted.
        allowed: largest count that passes.
        unit: what is counted: ``errors``, ``missing words``, ``texts`` that differ, and so on.
        ok: whether `measured` is at most `allowed`.
    """

    check: str
    runtime: str
    measured: int
    allowed: float
    unit: str
    ok: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ok", self.measured <= self.allowed)

    def to_dict(self) -> dict[str, Any]:
        """Values for ``parity.json``."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A bundle in one runtime, with the utterances of the checks.

    Args:
        bundle: ONNX folder.
        runtime: the opened bundle.
        ids: utterance ids.
        references: their transcripts.
        samples: their audio, each (S,) float32 at 16 kHz.
    """

    bundle: Path
    runtime: InUseRuntime
    ids: Sequence[str]
    references: Sequence[str]
    samples: Sequence[np.ndarray]

    @cached_property
    def texts(self) -> list[str]:
        """Texts of fresh starts at full level."""
        return self.runtime.transcribe(self.samples)

    @cached_property
    def fresh(self) -> WerResult:
        """Errors of `texts`."""
        return self.score(self.texts)

    @property
    def allowed_errors(self) -> float:
        """Errors that a condition of use may cause."""
        return compute_allowed_errors(self.fresh.errors, self.fresh.words)

    def score(self, texts: Sequence[str]) -> WerResult:
        """Count the errors of one text per utterance."""
        return compute_wer(make_utterances(self.ids, self.references, texts), replications=1)

    def result(self, check: str, measured: int, allowed: float, unit: str) -> InUseResult:
        """Make a result of this runtime."""
        return InUseResult(
            check=check, runtime=self.runtime.name, measured=measured, allowed=allowed, unit=unit
        )


def compute_allowed_errors(errors: int, words: int) -> float:
    """Compute the errors that a condition of use may cause where fresh starts make `errors` in `words`."""
    return ERROR_RATIO * errors + math.ceil(words / WORDS_PER_ERROR)


Check = Callable[[Trial], Iterator[InUseResult]]


def check_outputs(trial: Trial) -> Iterator[InUseResult]:
    """Outputs are finite, and not all texts are empty."""
    empty = sum(not text for text in trial.texts)
    spoken = sum(not reference.strip() for reference in trial.references) < len(trial.references)
    allowed = len(trial.texts) - 1 if spoken else len(trial.texts)
    yield trial.result("not only empty texts", empty, allowed, "empty texts")
    if trial.runtime.name == "onnxruntime":  # sherpa-onnx does not show the outputs of the files
        for precision in BundleFiles(trial.bundle).precisions:
            bundle = open_bundle(trial.bundle, precision=precision)
            feats = compute_fbank(trial.samples[0])
            if bundle.streaming is None:
                feats = np.resize(feats, (max(len(feats), 2 * bundle.subsampling_factor), feats.shape[1]))
                outputs = [bundle.encode(feats[None], np.array([len(feats)], np.int64))[0]]
            else:
                chunk = np.resize(feats, (1, bundle.streaming.window, feats.shape[1]))
                out, states = bundle.encode_chunk(chunk, bundle.init_states(1))
                outputs = [out, *states]
            predicted = bundle.predict(np.full((1, bundle.context_size), 0, np.int64))
            outputs += [predicted, bundle.join(outputs[0][0, :1], predicted)]
            bad = sum(int(np.count_nonzero(~np.isfinite(values))) for values in outputs)
            yield trial.result(f"finite outputs, {precision}", bad, 0, "values")


def check_one_stream(trial: Trial) -> Iterator[InUseResult]:
    """All utterances in one stream: no reset, a reset at each endpoint, one of the encoder's state too."""
    segments = trial.runtime.transcribe_segments
    if segments is None:
        return
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    joined = np.concatenate([part for samples in trial.samples for part in (samples, pause)])
    for check, text in (
        ("one stream", trial.runtime.transcribe([joined])[0]),
        ("one stream, reset at endpoints", segments(joined, False)),
        ("one stream, reset_encoder", segments(joined, True)),
    ):
        whole = make_utterances(["stream"], [" ".join(trial.references)], [text])
        errors = compute_wer(whole, replications=1).errors
        yield trial.result(check, errors, trial.allowed_errors, "errors")


def check_tight_ends(trial: Trial) -> Iterator[InUseResult]:
    """Audio that ends with the speech, as a voice activity detector cuts it."""
    for share, more in ((0.02, 0), (0.05, math.ceil(len(trial.ids) / 120))):
        texts = trial.runtime.transcribe([cut_end(samples, share) for samples in trial.samples])
        missing, allowed = trial.score(texts).dels, trial.fresh.dels + more
        yield trial.result(f"ends at {share:.0%} of the peak", missing, allowed, "missing words")


def check_sample_rates(trial: Trial) -> Iterator[InUseResult]:
    """Audio of other rates against the same audio resampled as in training."""
    for rate in (8000, 44100):
        files = [resample(samples, SAMPLE_RATE, rate) for samples in trial.samples]
        wanted = trial.runtime.transcribe([resample_like_training(samples, rate) for samples in files])
        texts = trial.runtime.transcribe(files, rate)
        differing = sum(one != other for one, other in zip(texts, wanted, strict=True))
        yield trial.result(f"{rate / 1000:g} kHz", differing, 0, "texts differ")


def check_quiet_voices(trial: Trial) -> Iterator[InUseResult]:
    """Audio 30 dB below its level."""
    gain = np.float32(10 ** (-30 / 20))
    errors = trial.score(trial.runtime.transcribe([gain * samples for samples in trial.samples])).errors
    yield trial.result("-30 dB", errors, trial.allowed_errors, "errors")


def check_no_speech(trial: Trial) -> Iterator[InUseResult]:
    """Ten seconds each of silence, white and pink noise, mains hum and clicks, at each of `NOISE_LEVELS`."""
    for name, sounds in make_wordless_sounds(10 * SAMPLE_RATE).items():
        texts = trial.runtime.transcribe(sounds)
        yield trial.result(f"10 s of {name}", sum(len(text.split()) for text in texts), 0, "words")


def make_wordless_sounds(num_samples: int) -> dict[str, list[np.ndarray]]:
    """Make sounds without words, by their names; other ones than those of `todm.data.background`.

    Args:
        num_samples: S, at 16 kHz.

    Returns:
        For each name (S,) float32 in [-1, 1], one or two for each level.
    """
    rng = np.random.default_rng(0)
    times = np.arange(num_samples) / SAMPLE_RATE
    white = rng.standard_normal(num_samples)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum *= np.maximum(np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE), 20.0) ** -0.5
    clicks = 1e-4 * rng.standard_normal(num_samples)
    clicks[rng.integers(0, num_samples, max(1, 3 * num_samples // SAMPLE_RATE))] = 1.0
    sounds = {
        "white noise": [white],
        "pink noise": [np.fft.irfft(spectrum, num_samples)],
        "hum": [
            sum((np.sin(2 * np.pi * mains * k * times) / k for k in range(1, 8)), np.zeros(num_samples))
            for mains in (50, 60)
        ],
        "clicks": [clicks],
    }
    made: dict[str, list[np.ndarray]] = {"silence": [np.zeros(num_samples, np.float32)]}
    for name, variants in sounds.items():
        made[name] = [
            (10 ** (level / 20) * sound / np.sqrt(np.mean(sound**2))).clip(-1, 1).astype(np.float32)
            for sound in variants
            for level in NOISE_LEVELS
        ]
    return made


CHECKS: tuple[Check, ...] = (
    check_outputs,
    check_one_stream,
    check_tight_ends,
    check_sample_rates,
    check_quiet_voices,
    check_no_speech,
)


def run_in_use_checks(
    bundle: Path,
    runtimes: Sequence[str],
    ids: Sequence[str],
    references: Sequence[str],
    samples: Sequence[np.ndarray],
) -> tuple[InUseResult, ...]:
    """Run all checks of `CHECKS`.

    Args:
        bundle: ONNX folder.
        runtimes: ``onnxruntime`` (this project's runtime) and ``sherpa-onnx`` where installed.
        ids: utterance ids; at most `MAX_UTTERANCES`, evenly spread, are used.
        references: their transcripts.
        samples: their audio, each (S,) float32 at 16 kHz.

    Returns:
        Results in the order of the checks, for each runtime.
    """
    count = min(len(ids), MAX_UTTERANCES)
    rows = np.linspace(0, len(ids) - 1, count).round().astype(int).tolist()
    trials = [
        Trial(
            bundle=bundle,
            runtime=open_runtime(name, bundle),
            ids=[ids[i] for i in rows],
            references=[references[i] for i in rows],
            samples=[samples[i] for i in rows],
        )
        for name in runtimes
    ]
    return tuple(result for check in CHECKS for trial in trials for result in check(trial))


def cut_end(samples: np.ndarray, share: float) -> np.ndarray:
    """Cut samples (S,) after the last one above `share` of their peak."""
    loud = np.flatnonzero(np.abs(samples) > share * np.abs(samples).max(initial=0.0))
    return samples[: loud[-1] + 1] if loud.size else samples
