"""Measure a few subnets on a device and fit the table from which todm search predicts all others.

EXP/devices/NAME/bundles gets the subnets: the smallest, the largest and some in between of every mode, and
random ones that are kept out of the fit and tell its error. Without --with they are measured on this machine.
With it, the command given is run for each, {bundle}, {audio} and {out} replaced, for example
"export/tools/push_and_bench.sh --device FILE --audio {audio} --out {out} {bundle} user@board".
All are measured in turn, on speech of the first dev part, and all again; the least of each counts, since
whatever else runs there only adds time. What was measured is not measured again. --results and --held-out fit
files that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from todm.search.latency import DeviceTable
    from todm.space.space import SearchSpace
    from todm.space.spec import SubnetSpec

SECONDS = 20.0
HELP = "measure a few subnets on a device, so that todm search can predict all others"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--exp-dir EXP NAME`` and how to measure."""
    parser.add_argument("name", metavar="NAME", help="of the device, as in 'rtf <= 0.1 on NAME'")
    parser.add_argument(
        "--exp-dir", type=Path, required=True, metavar="EXP", help="run folder with supernet/"
    )
    parser.add_argument("--fit", type=int, default=6, metavar="N", help="subnets per mode to fit on (6)")
    parser.add_argument(
        "--hold-out", type=int, default=5, metavar="N", help="subnets per mode to tell the error on (5)"
    )
    parser.add_argument("--mode", choices=("offline", "streaming"), help="this mode only")
    parser.add_argument("--with", dest="template", metavar="COMMAND", help="how to measure one; see above")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads, here (1)")
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"], help="here (fp32 int8)")
    parser.add_argument("--repeats", type=int, default=3, help="how often to measure all in turn (3)")
    parser.add_argument("--rounds", type=int, default=5, help="warm passes, here; the median counts (5)")
    parser.add_argument("--audio", type=Path, metavar="FILE", help="measure on this (speech of the dev part)")
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="fit these files of todm bench; measure nothing",
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="tell the error on these (--results)",
    )


def run(args: argparse.Namespace) -> None:
    """Write ``EXP/devices/NAME.json`` and print how far off it is."""
    import random
    import re

    from todm.errors import UserError
    from todm.model_dir import load_supernet
    from todm.search.latency import fit_device, read_results

    if not re.fullmatch(r"[\w.-]+", args.name):
        raise UserError(f"NAME: {args.name!r} must be letters, digits, dots, dashes and underscores")
    path = args.exp_dir / "devices" / f"{args.name}.json"
    if args.results:
        fitted, held_out = list(args.results), list(args.held_out)
    else:
        if args.held_out:
            raise UserError("--held-out: belongs to --results; give --hold-out N to measure as many more")
        if (
            min(
                args.fit - 3, args.hold_out, args.repeats - 1, args.rounds - 1, *(t - 1 for t in args.threads)
            )
            < 0
        ):
            raise UserError("--fit needs at least 3, --hold-out 0, --repeats, --rounds and --threads 1")
        supernet, _ = load_supernet(args.exp_dir / "supernet")
        space = supernet.space
        if args.mode and args.mode not in space.modes:
            raise UserError(f"--mode: this supernet has no {args.mode} nets, only {', '.join(space.modes)}")
        plan = plan_specs(space, args.mode, args.fit, args.hold_out)
        folder = args.exp_dir / "devices" / args.name
        audio = args.audio or _write_speech(args.exp_dir, folder / "speech.wav")
        files = {spec: _files(folder, spec, args.repeats) for spec in (*plan[0], *plan[1])}
        # In a random order: a device that grows slower or faster meanwhile must not do so along the sizes,
        # or between those that are fitted and those that are held out.
        order = list(files)
        for repeat in range(args.repeats):
            random.Random(repeat).shuffle(order)
            for spec in order:
                _measure(args, folder, supernet, spec, audio, files[spec][repeat])
        fitted, held_out = ([path for spec in specs for path in files[spec]] for specs in plan)
    table = fit_device(args.name, read_results(fitted), read_results(held_out))
    table.save(path)
    print_errors(table)
    print(path)


def plan_specs(
    space: SearchSpace, mode: str | None, num_fit: int, num_held_out: int
) -> tuple[list[SubnetSpec], list[SubnetSpec]]:
    """Specs to fit on and others to tell the error on, of every mode or of `mode`.

    The first are the ends and, spread between them, one shallow and wide, one deep and narrow, and specs of
    one width; the others are drawn at random.
    """
    import itertools
    import random

    fit: list[SubnetSpec] = []
    held_out: list[SubnetSpec] = []
    for one in space.modes if mode is None else [m for m in space.modes if m == mode]:
        depths = space.depths
        ends = [space.min(one), space.max(one)]
        cross = [
            space.uniform(depths[0], space.width_at(1.0), one),
            space.uniform(depths[-1], space.width_at(0.0), one),
        ]
        line = [space.uniform(depth, width, one) for depth in depths for width in space.uniform_widths()]
        line = sorted(set(line) - {*ends, *cross}, key=lambda s: (s.size, s))
        count = max(0, min(num_fit - 4, len(line)))
        even = [line[round((i + 0.5) * len(line) / count - 0.5)] for i in range(count)]
        chosen = list(dict.fromkeys([*ends, *cross, *even]))[:num_fit]
        rng = random.Random(f"held-out-{one}")
        drawn = (space.sample(rng, one) for _ in range(1000))
        others = dict.fromkeys(spec for spec in drawn if spec not in chosen)
        fit += chosen
        held_out += itertools.islice(others, num_held_out)
    return fit, held_out


def _write_speech(exp: Path, path: Path, seconds: float = SECONDS) -> Path:
    """Utterances of the first dev part behind each other: nets have to search as hard as in use.

    Raises:
        UserError: the part is not prepared, or its audio is gone.
    """
    import numpy as np
    import soundfile

    from todm.config import load_config
    from todm.data.features import load_audio
    from todm.data.loader import load_cuts
    from todm.runtime.fbank import DEFAULT_FBANK

    if not path.is_file():
        rate = DEFAULT_FBANK.sample_rate
        part = load_config(exp / "supernet" / "config.yaml").data.dev_parts[0]
        pieces: list[np.ndarray] = []
        for cut in sorted(load_cuts(exp / "data", part), key=lambda cut: str(cut.id)):
            pieces.append(load_audio(cut.recording.sources[0].source))
            if sum(map(len, pieces)) >= seconds * rate:
                break
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.concatenate(pieces)[: round(seconds * rate)], rate)
    return path


def _files(folder: Path, spec: SubnetSpec, repeats: int) -> list[Path]:
    return [folder / f"{spec.name}.{repeat}.json" for repeat in range(1, repeats + 1)]


def _measure(
    args: argparse.Namespace, folder: Path, supernet: object, spec: SubnetSpec, audio: Path, out: Path
) -> None:
    """Write what is measured of `spec` to `out`, unless that is there."""
    import shlex
    import subprocess

    from todm.errors import UserError
    from todm.files import write_json
    from todm.runtime.benchmark import BenchmarkOptions, run_benchmark

    if out.is_file():
        return
    bundle = _export(args.exp_dir, folder / "bundles" / spec.name, supernet, spec)
    if args.template:
        words = [
            word.replace("{bundle}", str(bundle)).replace("{audio}", str(audio)).replace("{out}", str(out))
            for word in shlex.split(args.template)
        ]
        try:
            code = subprocess.run(words, check=False).returncode
        except OSError as error:
            raise UserError(f"--with: {words[0]} cannot be run ({error.strerror})") from error
        if code or not out.is_file():
            raise UserError(
                f"--with: no figures of {spec.name} (exit code {code}); it must write the file that {{out}} "
                "stands for; what was measured so far is kept"
            )
    else:
        results = [
            run_benchmark(
                bundle,
                BenchmarkOptions(precision=precision, num_threads=threads, num_rounds=args.rounds),
                (audio,),
            ).to_dict()
            for precision in args.precision
            for threads in args.threads
        ]
        write_json(out, results)
    print(f"{spec.name}: measured, {out}", flush=True)


def _export(exp: Path, target: Path, supernet: object, spec: SubnetSpec) -> Path:
    """The bundle of `spec`, written unless it is there; as a whole or not at all."""
    import shutil
    from dataclasses import replace

    from todm.config import load_config
    from todm.deploy.bundle import write_bundle
    from todm.extract import extract
    from todm.nn.supernet import Supernet

    assert isinstance(supernet, Supernet)
    if not (target / "spec.json").is_file() or not (target / "bench.py").is_file():
        config = load_config(exp / "supernet" / "config.yaml")
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        settings = replace(config.export, quantization="dynamic")  # its speed is what counts here
        write_bundle(extract(supernet, spec), replace(config, export=settings), exp / "supernet", partial)
        partial.rename(target)
    return target


def print_errors(table: DeviceTable) -> None:
    """One line for each way of running and figure."""
    import statistics

    from todm.search.latency import FIGURES

    for fit in table.fits:
        source = f"{len(fit.held_out)} held out" if fit.held_out else "leaving one out"
        for figure in FIGURES:
            errors = fit.errors(figure)
            text = (
                f"median error {statistics.median(errors):.1%}, largest {max(errors):.1%} ({source})"
                if errors
                else "too few to tell its error"
            )
            print(f"{fit.way}: {figure} fitted on {len(fit.fitted)}, {text}")
