"""Predict the speed of specs on one device from a few measurements. No torch here.

A table holds one fit for each run mode (mode, precision, threads): `todm.search.linear_cost` fitted to
results of ``todm bench`` for a few bundles. The table keeps the results and the error on held-out bundles.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from todm.errors import UserError
from todm.files import write_json
from todm.runtime import benchmark_result
from todm.runtime.benchmark_result import BenchmarkResult
from todm.search.linear_cost import LinearCostModel, fit_additive
from todm.space.spec import SubnetSpec

Figure = Literal["rtf", "latency_p95_ms"]
FIGURES: tuple[Figure, ...] = get_args(Figure)

_READ: Mapping[Figure, Callable[[BenchmarkResult], float]] = {
    # Other processes only add time, so the fastest pass is the best estimate.
    "rtf": lambda result: result.rtf if result.rtf_least is None else result.rtf_least,
    "latency_p95_ms": lambda result: result.latency_ms.p95 if result.latency_ms else math.nan,
}


@dataclass(frozen=True, kw_only=True)
class RunMode:
    """How a bundle is run: mode, precision, threads, runtime, search, chunk length."""

    mode: str
    precision: str
    num_threads: int
    runtime: str
    method: str
    chunk_ms: float | None

    def __str__(self) -> str:
        threads = f"{self.num_threads} thread" + "s" * (self.num_threads > 1)
        chunk = f", chunks of {self.chunk_ms:g} ms" if self.chunk_ms else ""
        return f"{self.mode}, {self.precision}, {threads}{chunk}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of one bundle in one run mode, as measured by ``todm bench``."""

    run_mode: RunMode
    spec: SubnetSpec
    figures: Mapping[Figure, float]

    @classmethod
    def from_result(cls, result: BenchmarkResult, source: str) -> Measured:
        """Convert one entry of a file of ``todm bench``, or of a table.

        Raises:
            UserError: the spec or a figure is missing.
        """
        try:
            run_mode = RunMode(
                mode=str(result.mode),
                precision=result.precision,
                num_threads=result.num_threads,
                runtime=result.runtime,
                method=result.method,
                chunk_ms=result.chunk_ms,
            )
            figures = {figure: _READ[figure](result) for figure in FIGURES}
            spec = SubnetSpec.from_dict(result.spec or {})
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{source}: not a result of todm bench with a spec ({error}); measure the bundle again"
            ) from error
        if spec.mode != run_mode.mode or not all(value > 0 for value in figures.values()):
            raise UserError(f"{source}: its spec or its figures are impossible; measure the bundle again")
        return cls(run_mode=run_mode, spec=spec, figures=figures)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> Measured:
        """Read an entry of a device table."""
        return cls.from_result(BenchmarkResult.from_dict({"name": "", **values}, source), source)

    def least(self, other: Measured) -> Measured:
        """Take the smaller value of each figure, because other load only adds time."""
        return replace(self, figures={f: min(self.figures[f], other.figures[f]) for f in FIGURES})

    def to_dict(self) -> dict[str, Any]:
        """Return the part of a benchmark result that a fit needs, readable by `from_result`."""
        return {
            **vars(self.run_mode),
            "spec": self.spec.to_dict(),
            "rtf": self.figures["rtf"],
            "latency_ms": {"p95": self.figures["latency_p95_ms"]},
        }


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Cost models of one run mode.

    Args:
        run_mode: the run mode.
        fitted: measurements that the models are fitted on.
        held_out: measurements used for the error only.
        models: one for each figure.
    """

    run_mode: RunMode
    fitted: tuple[Measured, ...]
    held_out: tuple[Measured, ...]
    models: Mapping[Figure, LinearCostModel]

    @classmethod
    def of(cls, fitted: Sequence[Measured], held_out: Sequence[Measured] = ()) -> Fit:
        """Fit all figures; raises `UserError` when too few specs were measured."""
        run_mode = fitted[0].run_mode
        specs = [item.spec for item in fitted]
        try:
            models = {f: fit_additive(specs, [item.figures[f] for item in fitted]) for f in FIGURES}
        except UserError as error:
            raise UserError(f"{run_mode}: {error}") from error
        return cls(run_mode=run_mode, fitted=tuple(fitted), held_out=tuple(held_out), models=models)

    def errors(self, figure: Figure) -> list[float]:
        """Relative errors on the held-out measurements; without any, by leave-one-out."""
        if self.held_out:
            model = self.models[figure]
            return [abs(model(m.spec) / m.figures[figure] - 1) for m in self.held_out]
        errors = []
        for index, item in enumerate(self.fitted):
            rest = [other for i, other in enumerate(self.fitted) if i != index]
            try:
                model = fit_additive([m.spec for m in rest], [m.figures[figure] for m in rest])
            except UserError:  # the others do not determine a model
                continue
            errors.append(abs(model(item.spec) / item.figures[figure] - 1))
        return errors

    def beyond(self, spec: SubnetSpec) -> str | None:
        """Describe how `spec` lies outside the range of the fitted specs; None inside it."""
        inside = [item.spec for item in self.fitted]
        ranges = [("depth", [s.depth for s in inside], [spec.depth])]
        for name in spec.widths:
            own = list(spec.width(name))
            ranges.append((name, [width for s in inside for width in s.width(name)], own))
            ranges.append((f"total {name}", [sum(s.width(name)) for s in inside], [sum(own)]))
        for what, values, own in ranges:
            low, high = min(values), max(values)
            if min(own) < low or max(own) > high:
                value = min(own) if min(own) < low else max(own)
                return f"{what} {value} is outside the {low} to {high} measured"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the errors included."""
        return {
            "way": str(self.run_mode),
            "models": {figure: model.to_dict() for figure, model in self.models.items()},
            "errors": {f: _summary(self.errors(f)) for f in FIGURES},
            "errors_from": "held out" if self.held_out else "leave one out",
            "fitted": [item.to_dict() for item in self.fitted],
            "held_out": [item.to_dict() for item in self.held_out],
        }


@dataclass(frozen=True, kw_only=True)
class DeviceTable:
    """One device.

    Args:
        device: its name.
        fits: one for each measured run mode.
        machine: description of the device.
    """

    device: str
    fits: tuple[Fit, ...]
    machine: Mapping[str, Any]

    def predict(
        self,
        figure: Figure,
        spec: SubnetSpec,
        *,
        precision: str,
        num_threads: int | None = None,
        extrapolate: bool = False,
    ) -> float:
        """Predict a figure of `spec` on this device.

        Args:
            figure: figure to predict.
            spec: spec of a measured mode.
            precision: precision of the bundle.
            num_threads: threads of the runtime; None takes the fewest measured.
            extrapolate: also predict for specs outside the measured range.

        Raises:
            UserError: no such run mode was measured, or `spec` is outside the measured range.
        """
        wanted_mode = (spec.mode, precision)
        fits = [f for f in self.fits if (f.run_mode.mode, f.run_mode.precision) == wanted_mode]
        fits = [f for f in fits if num_threads in (None, f.run_mode.num_threads)]
        if not fits:
            wanted = f"{spec.mode}, {precision}" + (f", {num_threads} threads" if num_threads else "")
            known = "; ".join(str(fit.run_mode) for fit in self.fits)
            raise UserError(f"device {self.device}: {wanted} was not measured there (only {known})")
        fit = min(fits, key=lambda fit: fit.run_mode.num_threads)
        if not extrapolate and (beyond := fit.beyond(spec)):
            raise UserError(
                f"device {self.device}, {fit.run_mode}: {spec.name} cannot be predicted: {beyond}; measure "
                "larger or smaller specs there, or give --extrapolate"
            )
        return fit.models[figure](spec)

    def save(self, path: Path) -> None:
        """Write the table as JSON, in one step."""
        data = {
            "device": self.device,
            "machine": dict(self.machine),
            "fits": [fit.to_dict() for fit in self.fits],
        }
        write_json(path, data)

    @classmethod
    def load(cls, path: Path) -> DeviceTable:
        """Read a table and fit the models again from its measurements.

        Raises:
            UserError: a missing file, or not a device table.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            fits = tuple(
                Fit.of(*([Measured.from_dict(m, str(path)) for m in item[key]] for key in _INPUTS))
                for item in data["fits"]
            )
            return cls(device=str(data["device"]), fits=fits, machine=dict(data.get("machine") or {}))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path}: not a device table ({error}); todm latency writes one") from error


_INPUTS = ("fitted", "held_out")


def fit_device(
    device: str,
    fitted: Iterable[tuple[str, BenchmarkResult]],
    held_out: Iterable[tuple[str, BenchmarkResult]] = (),
    *,
    runtime: str = "onnxruntime",
) -> DeviceTable:
    """Fit a table to results of ``todm bench``; for repeated measurements the smallest figures count.

    Args:
        device: name of the device.
        fitted: pairs of source (for error messages) and result.
        held_out: the same, used for the error only.
        runtime: results of other runtimes are ignored.

    Raises:
        UserError: results without a spec, or too few of them to determine a model.
    """
    machine: Mapping[str, Any] = {}
    groups: dict[RunMode, tuple[dict[SubnetSpec, Measured], dict[SubnetSpec, Measured]]] = {}
    for place, results in enumerate((fitted, held_out)):
        for source, result in results:
            if result.runtime != runtime:
                continue
            item = Measured.from_result(result, source)
            machine = machine or result.machine
            known = groups.setdefault(item.run_mode, ({}, {}))[place]
            known[item.spec] = known[item.spec].least(item) if item.spec in known else item
    run_modes = sorted(groups, key=lambda mode: (mode.mode, mode.precision, mode.num_threads))
    for _, same in groupby(run_modes, key=lambda m: (m.mode, m.precision, m.num_threads, m.method)):
        if len(several := list(same)) > 1:
            raise UserError(
                f"device {device}: chunks of two lengths were measured ({several[0]}; {several[1]})"
            )
    if not run_modes:
        raise UserError(f"device {device}: no results of {runtime} to fit; run todm bench first")
    if missing := [mode for mode in run_modes if not groups[mode][0]]:
        raise UserError(f"device {device}: {missing[0]} was measured on held-out bundles only")
    fits = tuple(Fit.of(*(list(items.values()) for items in groups[mode])) for mode in run_modes)
    return DeviceTable(device=device, fits=fits, machine=machine)


def read_results(paths: Iterable[Path]) -> list[tuple[str, BenchmarkResult]]:
    """Read the results in files of ``todm bench`` or ``push_and_bench.sh``, each with its file name."""
    return [(str(path), result) for path in paths for result in benchmark_result.read_results(path)]


def load_tables(paths: Iterable[Path]) -> dict[str, DeviceTable]:
    """Load tables by device; raises `UserError` when two name the same device."""
    tables: dict[str, DeviceTable] = {}
    for path in paths:
        table = DeviceTable.load(path)
        if table.device in tables:
            raise UserError(f"{path}: a second table of the device {table.device}; give one of them")
        tables[table.device] = table
    return tables


def _summary(errors: Sequence[float]) -> dict[str, float | int | None]:
    """Median and largest relative error."""
    if not errors:
        return {"median": None, "max": None, "count": 0}
    return {"median": statistics.median(errors), "max": max(errors), "count": len(errors)}
