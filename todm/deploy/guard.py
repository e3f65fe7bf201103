"""The guard of int8 files: they may be worse than the float ones by so much and no more.

Both are measured on the same utterances with the device's own runtime. Where int8 is too bad, the products
are ranked by what they cost and the costliest are left in float, one after the other, until the guard holds.

What a product costs is told without a search: along the float net's own path through some utterances,

    cost = mean over frames of KL(p || q),  p, q = softmax of the joiner's logits in float,
                                                   with only this product in integers,

nats per frame: one scale for the products of encoder, decoder and joiner. An encoder's states run through its
own integers, so that errors that add up are seen to add up. The ranking takes the costs as if they were
independent of each other; the word error rate has the last word.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from todm.decode.wer import compute_wer, make_utterances
from todm.deploy.quantize import (
    Quantization,
    calibration_feeds,
    list_products,
    quantize_bundle,
    quantize_file,
)
from todm.deploy.trace import Trace, trace_bundle
from todm.errors import UserError
from todm.files import write_json
from todm.runtime.bundle import Bundle, open_bundle, open_session
from todm.runtime.fbank import FloatArray
from todm.runtime.layout import MODEL_NAMES, BundleFiles, Precision
from todm.runtime.recognizer import open_recognizer

NUM_PROBES = 16  # utterances that a product's cost is told from
NUM_PROBE_CALIBRATION = 4  # and that it is calibrated on then, over again for each product


class GuardError(UserError):
    """No int8 files within the allowance."""


@dataclass(frozen=True, kw_only=True)
class LabelledAudio:
    """Utterances with what is said in them.

    Args:
        part: where they come from, for the record.
        texts: transcripts.
        samples: (S,) float32 at 16 kHz each.
    """

    part: str
    texts: Sequence[str]
    samples: Sequence[np.ndarray]

    def pick(self, count: int) -> list[np.ndarray]:
        """At most `count` utterances with sound, spread evenly."""
        audible = [samples for samples in self.samples if len(samples)]
        count = min(count, len(audible))
        return [audible[i * len(audible) // count] for i in range(count)]


@dataclass(frozen=True, kw_only=True)
class WerTolerance:
    """By how much int8 may be worse: the larger of the two counts.

    Args:
        absolute: points of WER.
        relative: percent of the float files' WER.
    """

    absolute: float = 0.2
    relative: float = 3.0

    def points(self, float_wer: float) -> float:
        """Points of WER allowed beside a float WER, percent."""
        return max(self.absolute, self.relative / 100 * float_wer)

    def holds(self, float_wer: float, int8_wer: float) -> bool:
        """Whether `int8_wer` is within it; a difference that only rounding makes does not count."""
        return int8_wer - float_wer <= self.points(float_wer) + 1e-9


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """What came of it; content of ``int8.json``.

    Args:
        part: the utterances it was measured on.
        utterances: how many.
        allowance: in points of WER.
        wer: percent, of ``fp32``, of ``int8`` as it is now and of ``int8_all`` with nothing excluded.
        holds: whether int8 is within the allowance.
        calibration: ``dynamic`` or ``static``.
        per_channel, reduce_range: see `Quantization`.
        excluded: products left in float.
        costs: nats per frame of each product in integers, costliest first; empty where it held at once.
        bytes: of the three ``fp32`` files, and of what is opened as ``int8``.
        under_a_third: whether int8 takes less than a third of fp32.
        integer_products: number of them in each part.
    """

    part: str
    utterances: int
    allowance: float
    wer: dict[str, float]
    holds: bool
    calibration: str
    per_channel: bool
    reduce_range: bool
    excluded: tuple[str, ...]
    costs: dict[str, float]
    bytes: dict[str, int]
    under_a_third: bool
    integer_products: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, rounded."""
        values = asdict(self)
        for key, digits in (("allowance", 3), ("wer", 3), ("costs", 9)):
            value = values[key]
            values[key] = (
                {name: round(number, digits) for name, number in value.items()}
                if isinstance(value, dict)
                else round(value, digits)
            )
        return {**values, "excluded": list(self.excluded)}


def guard_bundle(
    folder: Path,
    speech: LabelledAudio,
    *,
    quantization: Quantization | None = None,
    allowance: WerTolerance | None = None,
    exclude: Sequence[str] = (),
) -> QuantizationReport:
    """Write int8 files that hold the allowance, and ``int8.json``.

    Args:
        folder: a bundle with its float files.
        speech: what to measure on.
        quantization: dynamic, per channel, 8 bits when None.
        allowance: the default one when None.
        exclude: products to leave in float from the start.

    Raises:
        GuardError: not even with a single product of the encoder in integers does it hold; the int8 files are
            then removed.
        UserError: nothing to measure on, or files missing.
    """
    quantization, allowance = quantization or Quantization(), allowance or WerTolerance()
    if not any(text.split() for text in speech.texts):
        raise UserError(f"{speech.part}: no words to measure {folder} on; take another part")
    files = BundleFiles(folder)
    float_wer = measure_wer(folder, speech, "fp32")
    left_out = list(exclude)
    counts = quantize_bundle(folder, quantization, exclude=left_out)
    wer = first = measure_wer(folder, speech, "int8")
    costs: dict[str, float] = {}
    if not allowance.holds(float_wer, wer):
        costs = rank_products(folder, speech.pick(NUM_PROBES), quantization, exclude=exclude)
        in_encoder = list_products(files.stored("encoder", "fp32"))
        last = next(name for name in reversed(costs) if name in in_encoder)
        for name in costs:
            if name == last:
                continue  # no int8 files without one
            left_out.append(name)
            counts = quantize_bundle(folder, quantization, exclude=left_out)
            wer = measure_wer(folder, speech, "int8")
            if allowance.holds(float_wer, wer):
                break
    sizes = {"fp32": files.num_bytes("fp32"), "int8": files.num_bytes("int8")}
    guarded = QuantizationReport(
        part=speech.part,
        utterances=len(speech.texts),
        allowance=allowance.points(float_wer),
        wer={"fp32": float_wer, "int8": wer, "int8_all": first},
        holds=allowance.holds(float_wer, wer),
        calibration="static" if len(quantization.calibration) else "dynamic",
        per_channel=quantization.per_channel,
        reduce_range=quantization.reduce_range,
        excluded=tuple(left_out),
        costs=costs,
        bytes=sizes,
        under_a_third=3 * sizes["int8"] < sizes["fp32"],
        integer_products=counts,
    )
    write_json(files.int8_report, guarded.to_dict())
    if not guarded.holds:
        for name in MODEL_NAMES:
            files.stored(name, "int8").unlink(missing_ok=True)
        raise GuardError(
            f"{folder}: int8 has {first:.2f}% WER, and {wer:.2f}% with {len(left_out)} products in float, "
            f"where float has {float_wer:.2f}% and {guarded.allowance:.2f} points more are allowed "
            f"({speech.part}, {len(speech.texts)} utterances), so its int8 files were removed; measure on "
            "more utterances, or allow more (export.guard_absolute, export.guard_relative)"
        )
    if not guarded.under_a_third:
        logging.getLogger(__name__).warning(
            "%s: int8 takes %.0f%% of fp32, more than a third, with %d products in float",
            folder,
            100 * sizes["int8"] / sizes["fp32"],
            len(left_out),
        )
    return guarded


def measure_wer(folder: Path, speech: LabelledAudio, precision: Precision) -> float:
    """WER, percent, of greedy search in the device's runtime, one thread."""
    recognizer = open_recognizer(folder, precision=precision)
    heard = [result.text for result in recognizer.transcribe(list(speech.samples))]
    ids = [str(index) for index in range(len(heard))]
    return compute_wer(make_utterances(ids, speech.texts, heard), replications=1).wer


def rank_products(
    folder: Path,
    utterances: Sequence[np.ndarray],
    quantization: Quantization,
    *,
    exclude: Sequence[str] = (),
) -> dict[str, float]:
    """What each product of a bundle costs in integers, nats per frame, costliest first.

    Args:
        folder: the bundle.
        utterances: to find out with.
        quantization: how it becomes an integer one.
        exclude: products to pass over.
    """
    bundle = open_bundle(folder)
    trace = trace_bundle(bundle, utterances)
    logits = bundle.join(trace.encoder_out, trace.predictor_out)
    quantization = replace(quantization, calibration=quantization.calibration[:NUM_PROBE_CALIBRATION])
    feeds = calibration_feeds(folder, quantization)
    costs = {}
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "one.onnx"
        for part in MODEL_NAMES:
            source = BundleFiles(folder).stored(part, "fp32")
            for name in list_products(source):
                if name in exclude:
                    continue
                quantize_file(source, target, [name], quantization, feeds.get(part))
                rough = replace(bundle, **{part: open_session(target, 1)})
                costs[name] = divergence(logits, _logits_along(rough, part, trace, utterances))
    return dict(sorted(costs.items(), key=lambda item: (-item[1], item[0])))


def _logits_along(bundle: Bundle, part: str, trace: Trace, utterances: Sequence[np.ndarray]) -> FloatArray:
    """(M, V) logits of a bundle whose `part` is changed, along the path of `trace`."""
    if part == "encoder":
        return bundle.join(trace_bundle(bundle, utterances).encoder_out, trace.predictor_out)
    if part == "decoder":
        return bundle.join(trace.encoder_out, bundle.predict(trace.contexts))
    return bundle.join(trace.encoder_out, trace.predictor_out)


def divergence(exact: FloatArray, rough: FloatArray) -> float:
    """Mean KL(softmax exact || softmax rough) over rows (M, V), nats; infinite where that is no number."""
    log_p, log_q = _log_softmax(exact), _log_softmax(rough)
    value = float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
    return value if np.isfinite(value) else float("inf")


def _log_softmax(logits: FloatArray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
