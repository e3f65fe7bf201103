"""Contents of a run folder, as a report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from todm.config import Config
from todm.runtime.benchmark_result import BenchmarkResult
from todm.search.front import Point, SearchResult
from todm.search.latency import DeviceTable
from todm.space.spec import SubnetSpec

LADDER = ("min", "mid", "max", "min-streaming", "mid-streaming", "max-streaming")


@dataclass(frozen=True, kw_only=True)
class PartScore:
    """Word error rate of one model on one corpus part.

    Args:
        model: folder name under ``EXP/decode``.
        part: corpus part.
        wer: word error rate, percent.
        interval: its 95% bootstrap interval, percent; None if unknown.
        counts: known ones of ``words``, ``ins``, ``del`` and ``sub``.
    """

    model: str
    part: str
    wer: float
    interval: tuple[float, float] | None
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One subnet of the run.

    Args:
        name: folder name under ``EXP/subnets``.
        spec: its spec.
        vocab_size: V; None without the supernet's tokens.
        params: number of parameters; None without the supernet's config.
        wer: word error rates in percent by part.
        bundle: ONNX bundle relative to the run folder; None without one.
        megabytes: size of the ONNX files (10^6 bytes) by precision, ``fp32``, ``int8`` and ``fp16``.
        rtf: real-time factor by precision, with the fewest threads measured.
        parity: results of ``todm verify``, nested keys joined by spaces.
        in_use: results of its in-use checks, see `todm.deploy.in_use.InUseResult`.
    """

    name: str
    spec: SubnetSpec
    vocab_size: int | None
    params: int | None
    wer: Mapping[str, float]
    bundle: str | None
    megabytes: Mapping[str, float]
    rtf: Mapping[str, float]
    parity: Mapping[str, Any]
    in_use: tuple[Mapping[str, Any], ...] = ()

    @property
    def millions(self) -> float | None:
        """Number of parameters in millions; None if unknown."""
        return None if self.params is None else self.params / 1e6

    @property
    def verified_wer(self) -> dict[str, float]:
        """Word error rates of the files in percent by precision, on the utterances of ``todm verify``."""
        found = {name: self.parity.get(f"wer onnx {name}") for name in ("fp32", "int8")}
        return {name: float(wer) for name, wer in found.items() if isinstance(wer, int | float)}

    @property
    def int8_loss(self) -> float | None:
        """WER of int8 less that of fp32 on the same utterances, in points; None if unknown."""
        wer = self.verified_wer
        return wer["int8"] - wer["fp32"] if len(wer) == 2 else None


@dataclass(frozen=True, kw_only=True)
class SearchContents:
    """Evaluated specs.

    Args:
        points: all specs that the search decoded.
        result: result of the search; None without one.
    """

    points: tuple[Point, ...] = ()
    result: SearchResult | None = None

    @property
    def front(self) -> tuple[Point, ...]:
        """Points with a word error rate on the fronts of all modes and budgets."""
        return tuple(p for p in self.result.points if "wer" in p.figures) if self.result else ()


@dataclass(frozen=True, kw_only=True)
class WorstUtterances:
    """Utterances with the most errors of one decoded part.

    Args:
        model: folder name under ``EXP/decode``.
        part: corpus part.
        total: number of utterances with errors.
        utterances: id, errors (``2 of 7``) and alignment, worst first.
    """

    model: str
    part: str
    total: int
    utterances: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class RunContents:
    """Everything that a report shows.

    Args:
        exp: run folder.
        config: settings of the training; None if unreadable.
        sizes: subnets, in the order of the ladder.
        decodes: word error rates.
        search: evaluated specs.
        metrics: lines of ``metrics.jsonl``.
        benchmarks: results of ``todm bench``.
        devices: latency tables.
        commands: commands that created the run.
        stages: seconds by finished stage.
        comparison: result of ``todm search --compare-seeds``; empty without one.
        worst: utterances with the most errors.
        compared: other runs, whose nets are shown as trained alone.
        missing: sentences about everything that was not found.
    """

    exp: Path
    config: Config | None
    sizes: tuple[Size, ...]
    decodes: tuple[PartScore, ...]
    search: SearchContents
    metrics: tuple[Mapping[str, Any], ...]
    benchmarks: tuple[BenchmarkResult, ...]
    devices: tuple[DeviceTable, ...]
    commands: str
    stages: Mapping[str, int]
    comparison: Mapping[str, Any] = field(default_factory=dict)
    worst: tuple[WorstUtterances, ...] = ()
    compared: tuple[RunContents, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.exp.resolve().name

    @property
    def parts(self) -> tuple[str, ...]:
        """Corpus parts with a result, first those of the config in its order."""
        found = {part for size in self.sizes for part in size.wer}
        known = (*self.config.data.dev_parts, *self.config.data.test_parts) if self.config else ()
        return tuple(part for part in known if part in found) + tuple(sorted(found - set(known)))
