"""Measure speed, latency, memory and size of a model folder; runs without the rest of todm."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .audio import read_audio
from .benchmark_result import BenchmarkResult, OperatorTime
from .decoding import Method
from .errors import BundleError, UserError
from .fbank import DEFAULT_FBANK, FloatArray
from .hosts import HOSTS, Host, check_host, load_packages, open_host
from .layout import PRECISIONS, BundleFiles, Precision
from .machine import describe_machine, peak_rss_mb
from .profiling import profile_operators
from .timing import Timing, summarize, time_utterance

NOISE_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Configuration of one benchmark.

    Args:
        runtime: a key of `todm.runtime.hosts.HOSTS`.
        precision: precision of the opened files.
        method: ``greedy`` or ``beam``.
        num_threads: threads of the runtime, at least 1.
        num_rounds: warm passes over all audio, at least 1.
        profile: measure the time per operator as well (onnxruntime only).
    """

    runtime: str = "onnxruntime"
    precision: Precision = "fp32"
    method: Method = "greedy"
    num_threads: int = 1
    num_rounds: int = 3
    profile: bool = False


def measure_bundle(
    folder: str | Path,
    options: BenchmarkOptions | None = None,
    utterances: Sequence[npt.ArrayLike] = (),
    *,
    seed: int = 0,
) -> BenchmarkResult:
    """Measure a model folder in this process: loading, a cold pass, and warm passes over some audio.

    Features and decoding are part of every figure; reading audio files is not.

    Args:
        folder: the model folder.
        options: configuration; the defaults when None.
        utterances: each (num_samples,) mono at 16 kHz; `NOISE_SECONDS` seconds of noise if empty.
        seed: seed of the noise.

    Raises:
        BundleError: the runtime or the folder cannot be used, or the audio is empty.
    """
    options = options or BenchmarkOptions()
    audio = _prepare_audio(utterances, seed)
    audio_seconds = sum(len(samples) for samples in audio) / DEFAULT_FBANK.sample_rate
    if not audio_seconds:
        raise BundleError("the audio to measure with is empty; give longer files")
    if options.profile and options.runtime != "onnxruntime":
        raise BundleError(f"runtime {options.runtime}: cannot be profiled; use onnxruntime or drop --profile")
    measured, host = _time_host(folder, options, audio)
    operators: tuple[OperatorTime, ...] = ()
    if options.profile:
        operators = profile_operators(
            Path(folder),
            precision=options.precision,
            method=options.method,
            num_threads=options.num_threads,
            utterances=audio,
        )
    cold, rounds = measured.cold, measured.rounds
    return BenchmarkResult(
        name=Path(folder).resolve().name,
        spec=_read_spec(Path(folder)),
        mode=host.mode,
        runtime=options.runtime,
        precision=options.precision,
        method=options.method,
        num_threads=options.num_threads,
        import_seconds=measured.import_seconds,
        load_seconds=measured.load_seconds,
        cold_seconds=cold.total,
        cold_first_token_ms=None if cold.first_token is None else 1000 * cold.first_token,
        cold_end_of_speech_ms=1000 * cold.end_of_speech,
        **vars(summarize(rounds, audio_seconds)),
        chunk_ms=host.chunk_frames * DEFAULT_FBANK.frame_shift_ms if host.chunk_frames else None,
        audio_seconds=audio_seconds,
        num_utterances=len(audio),
        num_rounds=options.num_rounds,
        model_bytes=sum(file.stat().st_size for file in host.files),
        file_bytes={file.name: file.stat().st_size for file in host.files},
        start_rss_mb=measured.start_rss_mb,
        peak_rss_mb=measured.peak_rss_mb,
        texts=tuple(timing.text for timing in rounds[-1]),
        machine=describe_machine(HOSTS[options.runtime].packages[0]),
        operators=operators,
    )


@dataclass(frozen=True, kw_only=True)
class _Measurement:
    """Times and memory of one host.

    Args:
        import_seconds: time to import the runtime.
        load_seconds: time to open the folder.
        cold: the first pass over the first utterance.
        rounds: warm passes over all utterances.
        start_rss_mb: peak memory before loading; None where the system does not report it.
        peak_rss_mb: peak memory after the warm passes; None likewise.
    """

    import_seconds: float
    load_seconds: float
    cold: Timing
    rounds: Sequence[Sequence[Timing]]
    start_rss_mb: float | None
    peak_rss_mb: float | None


def _time_host(
    folder: str | Path, options: BenchmarkOptions, audio: Sequence[FloatArray]
) -> tuple[_Measurement, Host]:
    """Load a folder in a runtime and run the cold pass and the warm passes; returns the open host too."""
    start = time.perf_counter()
    load_packages(options.runtime)
    import_seconds = time.perf_counter() - start
    start_rss_mb = peak_rss_mb()
    start = time.perf_counter()
    host = open_host(
        options.runtime,
        folder,
        precision=options.precision,
        method=options.method,
        num_threads=options.num_threads,
    )
    load_seconds = time.perf_counter() - start
    cold = time_utterance(host, audio[0])
    rounds = [[time_utterance(host, samples) for samples in audio] for _ in range(options.num_rounds)]
    # The kernel updates its page counts per thread and late, so the later peak can be the smaller one.
    peak = None if start_rss_mb is None else max(start_rss_mb, peak_rss_mb() or 0.0)
    measurement = _Measurement(
        import_seconds=import_seconds,
        load_seconds=load_seconds,
        cold=cold,
        rounds=rounds,
        start_rss_mb=start_rss_mb,
        peak_rss_mb=peak,
    )
    return measurement, host


def run_benchmark(
    folder: str | Path, options: BenchmarkOptions | None = None, files: Sequence[str | Path] = ()
) -> BenchmarkResult:
    """Run `measure_bundle` in a subprocess, which isolates its peak memory and crashes of the runtime.

    Args:
        folder: the model folder.
        options: configuration; the defaults when None.
        files: audio files; `NOISE_SECONDS` seconds of noise if empty.

    Raises:
        BundleError: as `measure_bundle`, or the process died.
    """
    options = options or BenchmarkOptions()
    if not Path(folder).is_dir():
        raise BundleError(f"{folder}: no such folder; give the folder that holds encoder.onnx")
    check_host(options.runtime)
    package = __package__ or ""
    # Parent folder of the outermost package: the project, or a model folder with a copy of this package.
    root = Path(__file__).resolve().parents[len(package.split("."))]
    search = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        command = [sys.executable, "-m", f"{package}.benchmark", "--here", "--out", str(out)]
        command += ["--bundle", str(folder), "--runtime", options.runtime, "--precision", options.precision]
        command += ["--method", options.method, "--threads", str(options.num_threads)]
        command += ["--rounds", str(options.num_rounds), *(["--profile"] if options.profile else [])]
        done = subprocess.run(
            [*command, "--", *map(str, files)],
            env={**os.environ, "PYTHONPATH": search},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if done.returncode == 2:
            raise BundleError(last)
        if done.returncode:
            raise BundleError(f"{folder}: {options.runtime} died with code {done.returncode} ({last[:200]})")
        (result,) = json.loads(out.read_text(encoding="utf-8"))
    return BenchmarkResult.from_dict(result, str(folder))


def available_precisions(folder: str | Path) -> tuple[Precision, ...]:
    """Precisions of which a model folder holds an encoder; fp32 if it holds none."""
    return BundleFiles(Path(folder)).precisions or ("fp32",)


def _prepare_audio(utterances: Sequence[npt.ArrayLike], seed: int) -> list[FloatArray]:
    """Utterances as float32, or noise if there are none."""
    if utterances:
        return [np.asarray(samples, np.float32) for samples in utterances]
    noise = np.random.default_rng(seed).standard_normal(NOISE_SECONDS * DEFAULT_FBANK.sample_rate)
    return [(0.05 * noise).astype(np.float32)]


def _read_spec(folder: Path) -> Any:
    """Content of ``spec.json``, which the latency model needs; None without a readable one."""
    try:
        return json.loads(BundleFiles(folder).spec.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def main(argv: Sequence[str] | None = None, *, folder: str | Path = ".") -> int:
    """Print the results of a model folder as a JSON list, one entry per combination of options.

    Args:
        argv: arguments; ``sys.argv[1:]`` when None.
        folder: the model folder when ``--bundle`` is not given.

    Returns:
        Exit code: 0, or 2 for unusable input after one sentence on stderr.
    """
    args = _parser(folder).parse_args(argv)
    try:
        utterances = [read_audio(name).samples for name in args.files] if args.here else []
        results = []
        precisions = args.precision or available_precisions(args.bundle)
        for runtime, precision, num_threads in product(args.runtime, precisions, args.threads):
            options = BenchmarkOptions(
                runtime=runtime,
                precision=precision,
                method=args.method,
                num_threads=num_threads,
                num_rounds=args.rounds,
                profile=args.profile and runtime == "onnxruntime",
            )
            if args.here:
                results.append(measure_bundle(args.bundle, options, utterances))
            else:
                results.append(run_benchmark(args.bundle, options, args.files))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps([result.to_dict() for result in results], indent=1) + "\n"
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


def _parser(folder: str | Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py", description="Measure an ONNX folder; prints JSON.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="audio files (default: 10 seconds of noise)")
    parser.add_argument("--bundle", default=folder, metavar="DIR", help="model folder (%(default)s)")
    parser.add_argument("--runtime", nargs="+", choices=HOSTS, default=["onnxruntime"])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="default: all in the folder")
    parser.add_argument("--method", choices=("greedy", "beam"), default="greedy")
    parser.add_argument("--threads", type=_positive, nargs="+", default=[1], help="numbers of threads (1)")
    parser.add_argument("--rounds", type=_positive, default=3, help="warm passes over the audio (3)")
    parser.add_argument("--profile", action="store_true", help="measure the time per operator (onnxruntime)")
    parser.add_argument("--out", metavar="FILE", help="write to this file instead of standard output")
    parser.add_argument(
        "--here", action="store_true", help="measure in this process instead of one subprocess per result"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
