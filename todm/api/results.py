"""Results of the steps of a run; see `todm.api.run.Run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from todm.decode.wer import WerResult
from todm.report.contents import Size
from todm.search.front import SearchResult
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """Result of `Run.prepare`.

    Args:
        folder: ``EXP/data``.
        figures: counts and hours of each step that ran, by step and name.
        skipped: list of skipped utterances, None when none was skipped.
    """

    folder: Path
    figures: Mapping[str, Mapping[str, float]]
    skipped: Path | None


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Result of `Run.train`.

    Args:
        exp_dir: run folder.
        step: batches trained so far.
        checkpoint: newest checkpoint.
    """

    exp_dir: Path
    step: int
    checkpoint: Path


@dataclass(frozen=True, kw_only=True)
class FineTuneResult:
    """Result of `Run.fine_tune`.

    Args:
        folder: the new subnet.
        wer: WER in percent on each dev part, keys ``before`` and ``after``.
    """

    folder: Path
    wer: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class AverageResult:
    """Result of `Run.average`.

    Args:
        folder: ``EXP/supernet``.
        num_weights: numbers in the weights.
        calibration: what blank calibration changed, None when it is off.
    """

    folder: Path
    num_weights: int
    calibration: str | None


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """Result of `Run.search`.

    Args:
        path: file with the points, None when no spec keeps to the limits.
        result: the fronts of all modes and budgets.
        failures: one sentence for each budget without a spec.
    """

    path: Path | None
    result: SearchResult
    failures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """One extracted subnet.

    Args:
        name: folder name.
        spec: its spec.
        num_params: parameters.
        folder: model folder.
    """

    name: str
    spec: SubnetSpec
    num_params: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class ExtractResult:
    """Result of `Run.extract`: the subnets in the order of selection."""

    subnets: tuple[Subnet, ...]


@dataclass(frozen=True, kw_only=True)
class DecodeResult:
    """Result of `Run.decode`.

    Args:
        model: name of the model, with its spec for a supernet.
        part: part of the corpus.
        score: word error rate (``score.wer``) with its interval and kinds of errors.
        path: JSON file; alignments are in the file of the same name ending in ``.errors.txt``.
    """

    model: str
    part: str
    score: WerResult
    path: Path


@dataclass(frozen=True, kw_only=True)
class GuardCheck:
    """Accuracy of a bundle's int8 files.

    Args:
        part: part of the corpus it was measured on.
        num_utterances: utterances measured.
        wer: WER in percent by precision.
        tolerance: points of WER that int8 may lose.
        excluded: products left in float.
    """

    part: str
    num_utterances: int
    wer: Mapping[str, float]
    tolerance: float
    excluded: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExportedBundle:
    """One exported bundle.

    Args:
        folder: ONNX folder.
        num_bytes: bytes of the three ONNX files together, by precision.
        guard: accuracy of the int8 files, None when it was not measured.
    """

    folder: Path
    num_bytes: Mapping[str, int]
    guard: GuardCheck | None


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """Result of `Run.export`.

    Args:
        bundles: bundles that were written completely.
        failures: one sentence for each bundle whose int8 files lost too much accuracy and were removed.
        manifest: ``bundles/manifest.json``, None when there is nothing to list.
        hints: remarks on this machine's int8 arithmetic.
    """

    bundles: tuple[ExportedBundle, ...]
    failures: tuple[str, ...] = ()
    manifest: Path | None = None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """Result of `Run.report`.

    Args:
        page: ``EXP/report/index.html``.
        sizes: everything known about each size.
        table: the same as a table in plain text.
        missing: sentences on what the report lacks.
    """

    page: Path
    sizes: tuple[Size, ...]
    table: str
    missing: tuple[str, ...] = ()
