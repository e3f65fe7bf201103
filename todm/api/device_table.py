"""Measure a few subnets on a device and fit the table from which the search predicts all others."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from todm.config import Mode, load_config
from todm.data.features import load_audio
from todm.data.loader import load_cuts
from todm.deploy.bundle import write_bundle
from todm.errors import UserError
from todm.extract import extract
from todm.files import write_json
from todm.layout import DeviceFolder, ModelFolder, RunFolder
from todm.model_dir import find_supernet, load_supernet
from todm.nn.supernet import Supernet
from todm.runtime.benchmark import BenchmarkOptions, run_benchmark
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.layout import BundleFiles
from todm.search.device_plan import plan_specs
from todm.search.latency import DeviceTable, fit_device, read_results
from todm.space.spec import SubnetSpec

SPEECH_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """How a device is measured.

    Args:
        num_fit: subnets per mode to fit on, at least 3.
        num_held_out: random subnets per mode to test the fit on, at least 0.
        mode: measure this mode only; None measures all modes.
        command: command that measures one bundle, with ``{bundle}``, ``{audio}`` and ``{out}`` replaced;
            None measures on this machine.
        repeats: how often all subnets are measured in turn, at least 1; the smallest figures count.
        num_threads: numbers of threads for a measurement on this machine, each at least 1.
        precisions: precisions for a measurement on this machine.
        num_rounds: warm passes for a measurement on this machine, at least 1; the median counts.
        audio: audio file; None takes speech of the first dev part.
    """

    num_fit: int = 6
    num_held_out: int = 5
    mode: Mode | None = None
    command: str | None = None
    repeats: int = 3
    num_threads: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = ("fp32", "int8")
    num_rounds: int = 5
    audio: Path | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceResult:
    """A fitted device table.

    Args:
        path: ``EXP/devices/NAME.json``.
        table: the table with its errors.
    """

    path: Path
    table: DeviceTable


def measure_device(
    exp_dir: Path,
    name: str,
    options: DeviceOptions | None = None,
    *,
    on_measured: Callable[[SubnetSpec, Path], None] = lambda _spec, _path: None,
) -> DeviceResult:
    """Measure subnets on a device and fit its table; existing measurements are not repeated.

    ``EXP/devices/NAME`` keeps the bundles and the measurements.

    Args:
        exp_dir: run folder with an averaged supernet.
        name: name of the device: letters, digits, dots, dashes and underscores.
        options: how many subnets, and how they are measured.
        on_measured: called with each measured spec and its file.

    Raises:
        UserError: an impossible option, or a measurement that failed.
    """
    options = options or DeviceOptions()
    _check_name(name)
    _check_options(options)
    run = RunFolder(exp_dir)
    supernet, _ = load_supernet(find_supernet(exp_dir))
    space = supernet.space
    if options.mode and options.mode not in space.modes:
        raise UserError(f"--mode: this supernet has no {options.mode} nets, only {', '.join(space.modes)}")
    plan = plan_specs(space, options.mode, options.num_fit, options.num_held_out)
    folder = DeviceFolder(run.device_measurements(name))
    audio = options.audio or _write_speech(run, folder.speech)
    files = {spec: _result_files(folder, spec, options.repeats) for spec in (*plan[0], *plan[1])}
    # In random order, so that a drift of the device's speed is not correlated with size.
    order = list(files)
    for repeat in range(options.repeats):
        random.Random(repeat).shuffle(order)
        for spec in order:
            out = files[spec][repeat]
            if not out.is_file():
                bundle = _export(run, folder.bundle(spec.name), supernet, spec)
                _measure(bundle, audio, out, options)
                on_measured(spec, out)
    fitted, held_out = ([path for spec in specs for path in files[spec]] for specs in plan)
    return fit_results(exp_dir, name, fitted, held_out)


def fit_results(exp_dir: Path, name: str, fitted: list[Path], held_out: list[Path]) -> DeviceResult:
    """Fit a device table to existing results of ``todm bench``.

    Args:
        exp_dir: run folder.
        name: name of the device.
        fitted: files to fit on.
        held_out: files used for the error only.
    """
    _check_name(name)
    table = fit_device(name, read_results(fitted), read_results(held_out))
    path = RunFolder(exp_dir).device(name)
    table.save(path)
    return DeviceResult(path=path, table=table)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"NAME: {name!r} must consist of letters, digits, dots, dashes and underscores")


def _check_options(options: DeviceOptions) -> None:
    for flag, value, least in (
        ("--fit", options.num_fit, 3),
        ("--hold-out", options.num_held_out, 0),
        ("--repeats", options.repeats, 1),
        ("--rounds", options.num_rounds, 1),
        ("--threads", min(options.num_threads), 1),
    ):
        if value < least:
            raise UserError(f"{flag}: must be at least {least}, got {value}")


def _write_speech(run: RunFolder, path: Path) -> Path:
    """Concatenate utterances of the first dev part, so that the search works as hard as in use.

    Raises:
        UserError: the part is not prepared, or its audio is missing.
    """
    if not path.is_file():
        part = load_config(ModelFolder(run.supernet).config, saved=True).data.dev_parts[0]
        pieces: list[np.ndarray] = []
        for cut in sorted(load_cuts(run.data, part), key=lambda cut: str(cut.id)):
            pieces.append(load_audio(cut.recording.sources[0].source))
            if sum(map(len, pieces)) >= SPEECH_SECONDS * SAMPLE_RATE:
                break
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.concatenate(pieces)[: round(SPEECH_SECONDS * SAMPLE_RATE)], SAMPLE_RATE)
    return path


def _result_files(folder: DeviceFolder, spec: SubnetSpec, repeats: int) -> list[Path]:
    return [folder.result(spec.name, repeat) for repeat in range(1, repeats + 1)]


def _measure(bundle: Path, audio: Path, out: Path, options: DeviceOptions) -> None:
    """Measure one bundle and write the results to `out`."""
    if options.command:
        _run_command(options.command, bundle, audio, out)
        return
    results = [
        run_benchmark(
            bundle,
            BenchmarkOptions(
                precision=precision,  # type: ignore[arg-type]
                num_threads=threads,
                num_rounds=options.num_rounds,
            ),
            (audio,),
        ).to_dict()
        for precision in options.precisions
        for threads in options.num_threads
    ]
    write_json(out, results)


def _run_command(command: str, bundle: Path, audio: Path, out: Path) -> None:
    paths = {"{bundle}": bundle, "{audio}": audio, "{out}": out}
    words = shlex.split(command)
    for name, path in paths.items():
        words = [word.replace(name, str(path)) for word in words]
    try:
        code = subprocess.run(words, check=False).returncode
    except OSError as error:
        raise UserError(f"--with: {words[0]} cannot be run ({error.strerror})") from error
    if code or not out.is_file():
        raise UserError(
            f"--with: no figures of {bundle.name} (exit code {code}); the command must write the file that "
            "{out} stands for; earlier measurements are kept"
        )


def _export(run: RunFolder, target: Path, supernet: Supernet, spec: SubnetSpec) -> Path:
    """Export the bundle of `spec` unless it exists; it appears as a whole or not at all."""
    files = BundleFiles(target)
    if not files.spec.is_file() or not files.bench_script.is_file():
        config = load_config(ModelFolder(run.supernet).config, saved=True)
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        settings = replace(config.export, quantization="dynamic")  # its speed does not depend on calibration
        write_bundle(extract(supernet, spec), replace(config, export=settings), run.supernet, partial)
        partial.rename(target)
    return target
