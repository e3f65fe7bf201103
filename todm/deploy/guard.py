"""Accuracy check of int8 files: their word error rate may exceed that of the float files by a tolerance.

Both are measured on the same utterances with the device's own runtime. If int8 is worse than that, matrix
products are ranked by their cost (`todm.deploy.sensitivity`) and left in float one after the other, costliest
first, until the word error rate is within the tolerance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from todm.decode.wer import compute_wer, make_utterances
from todm.deploy.quantize import Quantization, list_products, quantize_bundle
from todm.deploy.sensitivity import rank_products
from todm.errors import UserError
from todm.files import write_json
from todm.inference import load
from todm.runtime.layout import MODEL_NAMES, BundleFiles, Precision

NUM_RANKING_UTTERANCES = 16
"""Utterances on which the costs of products are measured."""


class GuardError(UserError):
    """No int8 files are within the tolerance."""


@dataclass(frozen=True, kw_only=True)
class LabelledAudio:
    """Utterances with reference transcripts.

    Args:
        part: corpus part, for the report.
        texts: reference transcripts.
        samples: (S,) float32 at 16 kHz for each utterance.
    """

    part: str
    texts: Sequence[str]
    samples: Sequence[np.ndarray]

    def pick(self, count: int) -> list[np.ndarray]:
        """Pick at most `count` non-empty utterances at even intervals."""
        audible = [samples for samples in self.samples if len(samples)]
        count = min(count, len(audible))
        return [audible[i * len(audible) // count] for i in range(count)]


@dataclass(frozen=True, kw_only=True)
class WerTolerance:
    """Allowed increase of the WER by int8: the larger of two bounds.

    Args:
        absolute: percentage points.
        relative: percent of the float files' WER.
    """

    absolute: float = 0.2
    relative: float = 3.0

    def points(self, float_wer: float) -> float:
        """Allowed increase over a float WER, percentage points."""
        return max(self.absolute, self.relative / 100 * float_wer)

    def holds(self, float_wer: float, int8_wer: float) -> bool:
        """Whether `int8_wer` is within the tolerance, up to rounding errors."""
        return int8_wer - float_wer <= self.points(float_wer) + 1e-9


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """Result of the accuracy check, content of ``int8.json``.

    Args:
        part: corpus part of the utterances.
        utterances: number of utterances.
        allowance: allowed increase of the WER, percentage points.
        wer: percent, for ``fp32``, for the final ``int8`` files and, without excluded products, ``int8_all``.
        holds: whether the final int8 files are within the tolerance.
        calibration: ``dynamic`` or ``static``.
        per_channel, reduce_range: see `Quantization`.
        excluded: products left in float.
        costs: nats per frame of each product in integers, largest first; empty if none had to be excluded.
        bytes: size of the files opened for ``fp32`` and for ``int8``.
        under_a_third: whether int8 takes less than a third of the bytes of fp32.
        integer_products: number of integer products in each ONNX file.
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
        """Values for JSON, rounded."""
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
    audio: LabelledAudio,
    *,
    quantization: Quantization | None = None,
    tolerance: WerTolerance | None = None,
    exclude: Sequence[str] = (),
) -> QuantizationReport:
    """Write int8 files within the tolerance, and ``int8.json``.

    Args:
        folder: a bundle with its float files.
        audio: utterances to measure on.
        quantization: how products are quantized; dynamic, per channel, 8 bits when None.
        tolerance: allowed increase of the WER; the default when None.
        exclude: names of products that stay in float.

    Raises:
        GuardError: a single integer product of the encoder already exceeds the tolerance; the int8 files are
            removed.
        UserError: no words to measure on, or missing files.
    """
    quantization, tolerance = quantization or Quantization(), tolerance or WerTolerance()
    if not any(text.split() for text in audio.texts):
        raise UserError(f"{audio.part}: no words to measure {folder} on; give another part")
    float_wer = measure_wer(folder, audio, "fp32")

    def is_within(wer: float) -> bool:
        return tolerance.holds(float_wer, wer)

    outcome = _exclude_until_within(folder, audio, quantization, exclude, is_within)
    report = _make_report(folder, audio, quantization, outcome, tolerance, float_wer)
    write_json(BundleFiles(folder).int8_report, report.to_dict())
    if not report.holds:
        raise _reject(folder, report)
    if not report.under_a_third:
        logging.getLogger(__name__).warning(
            "%s: int8 takes %.0f%% of fp32, more than a third, with %d products in float",
            folder,
            100 * report.bytes["int8"] / report.bytes["fp32"],
            len(report.excluded),
        )
    return report


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """The int8 files that were written last.

    Args:
        excluded: products left in float.
        costs: nats per frame of each product in integers, largest first; empty if none had to be excluded.
        integer_products: number of integer products in each ONNX file.
        wer: percent.
        full_wer: percent, with all products in integers that were not excluded from the beginning.
    """

    excluded: Sequence[str]
    costs: dict[str, float]
    integer_products: dict[str, int]
    wer: float
    full_wer: float


def _exclude_until_within(
    folder: Path,
    audio: LabelledAudio,
    quantization: Quantization,
    exclude: Sequence[str],
    is_within: Callable[[float], bool],
) -> _Outcome:
    """Write int8 files with ever more products in float, costliest first, until their WER is accepted.

    Args:
        folder: a bundle with its float files.
        audio: utterances to measure on.
        quantization: how products are quantized.
        exclude: names of products that stay in float from the beginning.
        is_within: whether a WER, percent, is within the tolerance.
    """
    excluded = list(exclude)
    counts = quantize_bundle(folder, quantization, exclude=excluded)
    wer = full_wer = measure_wer(folder, audio, "int8")
    costs: dict[str, float] = {}
    if not is_within(wer):
        costs = rank_products(folder, audio.pick(NUM_RANKING_UTTERANCES), quantization, exclude=exclude)
        in_encoder = list_products(BundleFiles(folder).stored("encoder", "fp32"))
        last = next(name for name in reversed(costs) if name in in_encoder)
        for name in costs:
            if name == last:
                continue  # an int8 encoder needs at least one
            excluded.append(name)
            counts = quantize_bundle(folder, quantization, exclude=excluded)
            wer = measure_wer(folder, audio, "int8")
            if is_within(wer):
                break
    return _Outcome(excluded=excluded, costs=costs, integer_products=counts, wer=wer, full_wer=full_wer)


def _make_report(
    folder: Path,
    audio: LabelledAudio,
    quantization: Quantization,
    outcome: _Outcome,
    tolerance: WerTolerance,
    float_wer: float,
) -> QuantizationReport:
    """Put the figures of a bundle's int8 files together."""
    files = BundleFiles(folder)
    sizes = {"fp32": files.num_bytes("fp32"), "int8": files.num_bytes("int8")}
    return QuantizationReport(
        part=audio.part,
        utterances=len(audio.texts),
        allowance=tolerance.points(float_wer),
        wer={"fp32": float_wer, "int8": outcome.wer, "int8_all": outcome.full_wer},
        holds=tolerance.holds(float_wer, outcome.wer),
        calibration="static" if len(quantization.calibration) else "dynamic",
        per_channel=quantization.per_channel,
        reduce_range=quantization.reduce_range,
        excluded=tuple(outcome.excluded),
        costs=outcome.costs,
        bytes=sizes,
        under_a_third=3 * sizes["int8"] < sizes["fp32"],
        integer_products=outcome.integer_products,
    )


def _reject(folder: Path, report: QuantizationReport) -> GuardError:
    """Remove the int8 files of a bundle; returns the error to raise."""
    for name in MODEL_NAMES:
        BundleFiles(folder).stored(name, "int8").unlink(missing_ok=True)
    wer = report.wer
    return GuardError(
        f"{folder}: int8 has {wer['int8_all']:.2f}% WER, and {wer['int8']:.2f}% with {len(report.excluded)} "
        f"products in float, where float has {wer['fp32']:.2f}% and {report.allowance:.2f} points more are "
        f"allowed ({report.part}, {report.utterances} utterances), so its int8 files were removed; "
        "measure on more utterances, or allow more (export.guard_absolute, export.guard_relative)"
    )


def measure_wer(folder: Path, audio: LabelledAudio, precision: Precision) -> float:
    """WER of greedy search in the device's runtime on one thread, percent."""
    texts = [result.text for result in load(folder, precision=precision).transcribe_batch(audio.samples)]
    ids = [str(index) for index in range(len(texts))]
    return compute_wer(make_utterances(ids, audio.texts, texts), replications=1).wer
