"""Measure a few subnets on a device and fit the table from which 'todm search' predicts all others.

For every mode the smallest, the largest and some subnets in between are measured, and random ones that are
held out to estimate the error; EXP/devices/NAME keeps their bundles and results. Without --with they are
measured on this machine. With it, the command runs once per bundle with {bundle}, {audio} and {out} replaced,
for example "export/tools/push_and_bench.sh --device FILE --audio {audio} --out {out} {bundle} user@board".
All subnets are measured --repeats times in turn, and the smallest figures count, because other load only adds
time. Existing measurements are not repeated. --results and --held-out fit existing files.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import todm.api as api
from todm.commands import add_exp_dir
from todm.errors import UserError

if TYPE_CHECKING:
    from todm.search.latency import DeviceTable
    from todm.space.spec import SubnetSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm latency``."""
    parser.add_argument("name", metavar="NAME", help="name of the device, as in 'rtf <= 0.1 on NAME'")
    add_exp_dir(parser, "run folder with an averaged supernet")
    parser.add_argument(
        "--fit", type=int, default=6, metavar="N", help="subnets per mode to fit on (default: 6)"
    )
    parser.add_argument(
        "--hold-out", type=int, default=5, metavar="N", help="subnets per mode to test on (default: 5)"
    )
    parser.add_argument("--mode", choices=("offline", "streaming"), help="measure this mode only")
    parser.add_argument("--with", dest="command_line", metavar="COMMAND", help="measuring command; see above")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="thread counts for local measurement (default: 1)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["fp32", "int8"],
        metavar="NAME",
        help="precisions for local measurement (default: fp32 int8)",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        metavar="N",
        help="how often all subnets are measured in turn (default: 3)",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="warm passes of a local measurement (default: 5)"
    )
    parser.add_argument(
        "--audio", type=Path, metavar="FILE", help="audio to measure on (default: speech of the dev part)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="fit these files of 'todm bench' instead of measuring",
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="with --results: files for the error only",
    )


def run(args: argparse.Namespace) -> None:
    """Write ``EXP/devices/NAME.json`` and print its errors."""
    if args.held_out and not args.results:
        raise UserError("--held-out: belongs to --results; give --hold-out N to measure held-out subnets")
    if args.results:
        result = api.fit_results(args.exp_dir, args.name, args.results, args.held_out)
    else:
        options = api.DeviceOptions(
            num_fit=args.fit,
            num_held_out=args.hold_out,
            mode=args.mode,
            command=args.command_line,
            repeats=args.repeats,
            num_threads=tuple(args.threads),
            precisions=tuple(args.precision),
            num_rounds=args.rounds,
            audio=args.audio,
        )
        result = api.measure_device(args.exp_dir, args.name, options, on_measured=_print_measured)
    _print_errors(result.table)
    print(result.path)


def _print_measured(spec: SubnetSpec, path: Path) -> None:
    print(f"{spec.name}: measured, {path}", flush=True)


def _print_errors(table: DeviceTable) -> None:
    """Print one line per run mode and figure."""
    for fit in table.fits:
        source = f"{len(fit.held_out)} held out" if fit.held_out else "leaving one out"
        for figure in fit.models:
            errors = fit.errors(figure)
            text = (
                f"median error {statistics.median(errors):.1%}, largest {max(errors):.1%} ({source})"
                if errors
                else "too few measurements to estimate the error"
            )
            print(f"{fit.run_mode}: {figure} fitted on {len(fit.fitted)}, {text}")
