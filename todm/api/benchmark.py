"""Measure bundles on this machine: speed, latency, load time, memory and size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from todm.api.bench_chart import draw_chart
from todm.deploy.device_profile import DeviceProfile, load_device_profile
from todm.errors import UserError
from todm.files import write_json
from todm.layout import BenchFolder
from todm.runtime.benchmark import BenchmarkOptions, available_precisions, run_benchmark
from todm.runtime.benchmark_result import BenchmarkResult
from todm.runtime.hosts import check_host
from todm.runtime.layout import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How bundles are measured.

    Args:
        runtimes: ``onnxruntime``, ``sherpa-onnx``, ``openvino``.
        precisions: precisions to measure; None takes the profile's, or all that a bundle has.
        num_threads: numbers of threads to measure; None takes the profile's, or 1.
        audio: audio files to measure on; 10 s of noise without any.
        num_rounds: warm passes; the median counts, at least 1.
        profile: also list the operators by time (onnxruntime).
        device: device profile of ``export/devices``.
    """

    runtimes: tuple[str, ...] = ("onnxruntime",)
    precisions: tuple[str, ...] | None = None
    num_threads: tuple[int, ...] | None = None
    audio: tuple[Path, ...] = ()
    num_rounds: int = 5
    profile: bool = False
    device: Path | None = None


@dataclass(frozen=True, kw_only=True)
class BenchFailure:
    """One run that did not work.

    Args:
        name: name of the bundle.
        runtime: the runtime.
        precision: the precision.
        num_threads: threads of the runtime.
        reason: one sentence.
    """

    name: str
    runtime: str
    precision: str
    num_threads: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Benchmarks of several bundles.

    Args:
        benchmarks: one entry for each bundle, runtime, precision and number of threads.
        failures: runs that did not work.
        remarks: sentences on bundles that do not suit the device profile.
    """

    benchmarks: tuple[BenchmarkResult, ...]
    failures: tuple[BenchFailure, ...]
    remarks: tuple[str, ...]


def bench_bundles(
    bundles: Sequence[Path],
    options: BenchOptions | None = None,
    *,
    out: Path | None = None,
    on_result: Callable[[BenchmarkResult | BenchFailure], None] = lambda _: None,
) -> BenchResult:
    """Measure bundles one after the other, each run in a process of its own.

    Args:
        bundles: ONNX folders with different names.
        options: runtimes, precisions, threads and audio.
        out: receives ``<name>.json`` for each bundle and ``bench.png``; None writes nothing.
        on_result: called after each run.

    Raises:
        UserError: no such bundle, two with the same name, or an impossible option.
    """
    options = options or BenchOptions()
    device = load_device_profile(options.device) if options.device else None
    folders = _check(bundles, options)
    benchmarks: list[BenchmarkResult] = []
    failures: list[BenchFailure] = []
    for name, bundle in folders.items():
        results: list[BenchmarkResult] = []
        for result in _bench_bundle(bundle, options, device):
            on_result(result)
            if isinstance(result, BenchFailure):
                failures.append(result)
            else:
                results.append(result)
        if out is not None and results:
            write_json(BenchFolder(out).result(name), [result.to_dict() for result in results])
        benchmarks += results
    if out is not None and benchmarks:
        draw_chart(benchmarks, BenchFolder(out).chart)
    remarks = dict.fromkeys(text for result in benchmarks if device for text in device.remarks(result))
    return BenchResult(benchmarks=tuple(benchmarks), failures=tuple(failures), remarks=tuple(remarks))


def _check(bundles: Sequence[Path], options: BenchOptions) -> dict[str, Path]:
    """Check everything before the first measurement; bundles by name."""
    if options.num_rounds < 1:
        raise UserError(f"--rounds: must be at least 1, got {options.num_rounds}")
    for number in options.num_threads or ():
        if number < 1:
            raise UserError(f"--threads: must be at least 1, got {number}")
    if unknown := set(options.precisions or ()) - set(PRECISIONS):
        names = ", ".join(sorted(unknown))
        raise UserError(f"--precision: {names} is not a precision; use {', '.join(PRECISIONS)}")
    for runtime in options.runtimes:
        check_host(runtime)
    folders = {bundle.resolve().name: bundle for bundle in bundles}
    if len(folders) < len(bundles):
        raise UserError("BUNDLE: two of them have the same name; measure them one by one")
    for bundle in bundles:
        if not bundle.is_dir():
            raise UserError(f"{bundle}: no such folder; todm export writes bundles")
    return folders


def _bench_bundle(
    bundle: Path, options: BenchOptions, device: DeviceProfile | None
) -> Iterator[BenchmarkResult | BenchFailure]:
    precisions = options.precisions or (device.precision if device else available_precisions(bundle))
    threads = options.num_threads or (device.threads if device else (1,))
    for runtime, precision, num_threads in product(options.runtimes, precisions, threads):
        try:
            configuration = BenchmarkOptions(
                runtime=runtime,
                precision=precision,  # type: ignore[arg-type]
                num_threads=num_threads,
                num_rounds=options.num_rounds,
                profile=options.profile and runtime == "onnxruntime",
            )
            yield run_benchmark(bundle, configuration, options.audio)
        except UserError as error:
            yield BenchFailure(
                name=bundle.resolve().name,
                runtime=runtime,
                precision=precision,
                num_threads=num_threads,
                reason=str(error),
            )
