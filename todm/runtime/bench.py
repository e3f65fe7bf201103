"""Speed, latency, memory and size of a model folder on this machine; also runs without the project."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .audio import read_audio
from .bench_machine import describe_machine, peak_rss_mb
from .bench_measure import milliseconds, summarize, time_utterance
from .errors import BundleError
from .fbank import DEFAULT_FBANK
from .hosts import HOSTS, check_host, load_packages, open_host
from .layout import PRECISIONS, BundleFiles, Precision
from .searches import Method


def bench_bundle(
    folder: str | Path,
    *,
    runtime: str = "onnxruntime",
    precision: Precision = "fp32",
    method: Method = "greedy",
    num_threads: int = 1,
    utterances: Sequence[npt.ArrayLike] = (),
    num_rounds: int = 3,
    profile: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model folder in this process: loading, the first pass, and warm passes over some audio.

    Features and search are part of every figure; reading files is not.

    Args:
        folder: the model folder.
        runtime: a key of `todm.runtime.hosts.HOSTS`.
        precision: which files.
        method: ``greedy`` or ``beam``.
        num_threads: of the runtime.
        utterances: each (num_samples,) mono at 16 kHz; noise of 10 seconds when there is none.
        num_rounds: warm passes over all utterances, at least 1.
        profile: also list the operators by their share of the time (onnxruntime only).
        seed: of the noise.

    Returns:
        Values ready for JSON: ``load_seconds`` (opening the model) and ``import_seconds`` (the runtime's
        packages, if nothing has loaded them before); ``cold_seconds`` of work for the first utterance
        after loading, ``cold_first_token_ms`` and ``cold_end_of_speech_ms``; what
        `todm.runtime.bench_measure.summarize` gives for the warm passes; ``chunk_ms`` (streaming: audio
        per chunk); ``model_bytes`` and, per file, ``file_bytes``; ``peak_rss_mb`` of the whole process,
        and ``start_rss_mb`` of it before the model was opened, None where the system does not tell;
        ``texts`` that came out; ``operators`` with `profile`; the folder's ``spec``, None where it
        holds none; and what was measured where.

    Raises:
        BundleError: the runtime or the folder cannot be used, or the audio is empty.
    """
    rate = DEFAULT_FBANK.sample_rate
    audio = [np.asarray(samples, np.float32) for samples in utterances]
    if not audio:
        noise = np.random.default_rng(seed).standard_normal(10 * rate)
        audio = [(0.05 * noise).astype(np.float32)]
    audio_seconds = sum(len(samples) for samples in audio) / rate
    if not audio_seconds:
        raise BundleError("the audio to measure with is empty; give longer files")
    if profile and runtime != "onnxruntime":
        raise BundleError(f"runtime {runtime}: has no profile of operators; take onnxruntime or leave it out")
    start = time.perf_counter()
    load_packages(runtime)
    import_seconds = time.perf_counter() - start
    start_rss_mb = peak_rss_mb()
    start = time.perf_counter()
    host = open_host(runtime, folder, precision=precision, method=method, num_threads=num_threads)
    load_seconds = time.perf_counter() - start
    cold = time_utterance(host, audio[0])
    rounds = [[time_utterance(host, samples) for samples in audio] for _ in range(num_rounds)]
    result = {
        "name": Path(folder).resolve().name,
        "spec": _spec(Path(folder)),
        "mode": host.mode,
        "runtime": runtime,
        "precision": precision,
        "method": method,
        "num_threads": num_threads,
        "import_seconds": import_seconds,
        "load_seconds": load_seconds,
        "cold_seconds": cold.total,
        "cold_first_token_ms": milliseconds(cold.first_token),
        "cold_end_of_speech_ms": milliseconds(cold.end_of_speech),
        **summarize(rounds, audio_seconds),
        "chunk_ms": host.chunk_frames * DEFAULT_FBANK.frame_shift_ms if host.chunk_frames else None,
        "audio_seconds": audio_seconds,
        "num_utterances": len(audio),
        "num_rounds": num_rounds,
        "model_bytes": sum(file.stat().st_size for file in host.files),
        "file_bytes": {file.name: file.stat().st_size for file in host.files},
        "start_rss_mb": start_rss_mb,
        # The kernel counts pages thread by thread and adds up late: the later peak may be the smaller.
        "peak_rss_mb": None if start_rss_mb is None else max(start_rss_mb, peak_rss_mb() or 0.0),
        "texts": [timing.text for timing in rounds[-1]],
        "machine": describe_machine(HOSTS[runtime].packages[0]),
    }
    if profile:
        from .bench_profile import profile_operators

        result["operators"] = profile_operators(
            Path(folder), precision=precision, method=method, num_threads=num_threads, utterances=audio
        )
    return result


def bench_apart(
    folder: str | Path,
    *,
    runtime: str = "onnxruntime",
    precision: Precision = "fp32",
    method: Method = "greedy",
    num_threads: int = 1,
    files: Sequence[str | Path] = (),
    num_rounds: int = 3,
    profile: bool = False,
) -> dict[str, Any]:
    """The same in a fresh process: its peak memory is the model's own, and a host that dies kills no other.

    Args:
        folder: the model folder.
        runtime: a key of `todm.runtime.hosts.HOSTS`.
        precision: which files.
        method: ``greedy`` or ``beam``.
        num_threads: of the runtime.
        files: audio; noise of 10 seconds when there is none.
        num_rounds: warm passes over all audio, at least 1.
        profile: also list the operators.

    Raises:
        BundleError: as `bench_bundle`, or the process died.
    """
    if not Path(folder).is_dir():
        raise BundleError(f"{folder}: no such folder; give the folder that holds encoder.onnx")
    check_host(runtime)
    package = __package__ or ""
    # Where the outermost package lies: the project, or a model folder that this was copied into.
    root = Path(__file__).resolve().parents[len(package.split("."))]
    search = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "result.json"
        command = [sys.executable, "-m", f"{package}.bench", "--here", "--out", str(out)]
        command += ["--bundle", str(folder), "--runtime", runtime, "--precision", precision]
        command += ["--method", method, "--threads", str(num_threads), "--rounds", str(num_rounds)]
        command += ["--profile"] if profile else []
        done = subprocess.run(
            [*command, "--", *map(str, files)],
            env={**os.environ, "PYTHONPATH": search},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        if done.returncode == 2:
            raise BundleError(last)
        if done.returncode:
            raise BundleError(f"{folder}: {runtime} died with code {done.returncode} ({last[:200]})")
        (result,) = json.loads(out.read_text(encoding="utf-8"))
    assert isinstance(result, dict)
    return result


def available_precisions(folder: str | Path) -> tuple[Precision, ...]:
    """The precisions that a model folder has an encoder of; fp32 when it has none at all."""
    return BundleFiles(Path(folder)).precisions or ("fp32",)


def _spec(folder: Path) -> Any:
    """Content of ``spec.json``, which tells whoever predicts speeds what was measured."""
    try:
        return json.loads(BundleFiles(folder).spec.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def main(argv: Sequence[str] | None = None, *, folder: str | Path = ".") -> int:
    """Print the figures of a model folder as a JSON list, one entry per combination of options.

    Returns:
        Exit code: 0, or 2 for unusable input after one sentence on stderr.
    """
    args = _parser(folder).parse_args(argv)
    try:
        utterances = [read_audio(name).samples for name in args.files] if args.here else []
        results = []
        precisions = args.precision or available_precisions(args.bundle)
        for runtime, precision, num_threads in product(args.runtime, precisions, args.threads):
            settings: dict[str, Any] = {
                "runtime": runtime,
                "precision": precision,
                "method": args.method,
                "num_threads": num_threads,
                "num_rounds": args.rounds,
                "profile": args.profile and runtime == "onnxruntime",
            }
            if args.here:
                results.append(bench_bundle(args.bundle, utterances=utterances, **settings))
            else:
                results.append(bench_apart(args.bundle, files=args.files, **settings))
    except BundleError as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(results, indent=1) + "\n"
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


def _parser(folder: str | Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py", description="Speed of an ONNX folder, as JSON.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="audio; noise of 10 seconds without")
    parser.add_argument("--bundle", default=folder, metavar="DIR", help="the model folder (%(default)s)")
    parser.add_argument("--runtime", nargs="+", choices=HOSTS, default=["onnxruntime"])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="all that the folder has without")
    parser.add_argument("--method", choices=("greedy", "beam"), default="greedy")
    parser.add_argument("--threads", type=_positive, nargs="+", default=[1], help="numbers of threads (1)")
    parser.add_argument("--rounds", type=_positive, default=3, help="warm passes over the audio (3)")
    parser.add_argument("--profile", action="store_true", help="list the operators by time (onnxruntime)")
    parser.add_argument("--out", metavar="FILE", help="write there instead of to standard output")
    parser.add_argument(
        "--here", action="store_true", help="measure in this process instead of a fresh one for each"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
