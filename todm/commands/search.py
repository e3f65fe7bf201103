"""Search the supernet for specs with the best word error rate within limits.

All objectives are minimised. A limit has the form 'rtf <= 0.1 on pi4', 'size <= 2 MB', 'params <= 0.8 M' or
'wer <= 5'. A budget is a name with limits, 'watch: size <= 1 MB, latency <= 20 ms on watch'; each budget gets
a search and a best spec of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

import todm.api as api
from todm.commands import add_exp_dir, take_settings
from todm.errors import UserError
from todm.files import write_json
from todm.layout import RunFolder
from todm.search.front import Point, pareto_front
from todm.search.objectives.base import Objective
from todm.tables import Column, Table

BASELINES = ("random", "grid")
METHODS = ("nsga2", *BASELINES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm search``."""
    add_exp_dir(parser, "run folder with an averaged supernet")
    parser.add_argument(
        "--objective",
        nargs="+",
        metavar="NAME",
        help="objectives of the front, the most important first: wer, params, macs, size, state, "
        "'rtf on DEVICE', 'latency on DEVICE' (default: search.objectives)",
    )
    parser.add_argument(
        "--limit",
        action="append",
        metavar="LIMIT",
        help="upper bound, as above; may be repeated (default: search.limits)",
    )
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="BUDGET",
        help="a name with limits, as above; may be repeated",
    )
    parser.add_argument("--mode", choices=("offline", "streaming"), help="search this mode only")
    parser.add_argument(
        "--device-table",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="device table from 'todm latency' (EXP/devices is searched automatically)",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads on the devices (default: the fewest measured)"
    )
    parser.add_argument(
        "--extrapolate", action="store_true", help="accept predictions outside the measured range"
    )
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        help="evaluate as many random specs or a grid instead, into search/NAME.json",
    )
    parser.add_argument(
        "--compare-seeds",
        type=int,
        metavar="N",
        help="compare the hypervolume of NSGA-II, random and grid over N seeds, into search/compare.json",
    )
    take_settings(parser, "Settings of the search can be overridden, for example --search.evaluations 100.")


def run(args: argparse.Namespace) -> None:
    """Write ``EXP/search/pareto.json`` and print the front."""
    run_folder = RunFolder(args.exp_dir)
    if args.compare_seeds is not None and args.compare_seeds < 1:
        raise UserError(f"--compare-seeds: must be at least 1, got {args.compare_seeds}")
    session = api.SearchSession(args.exp_dir, _make_options(args), _make_settings(args, run_folder))
    total = session.settings.evaluations * len(METHODS) * (args.compare_seeds or 0)
    with tqdm(total=total or session.settings.evaluations, unit="spec", desc="search") as bar:
        progress = _Progress(bar, session)
        if args.compare_seeds is not None:
            seeds = range(session.settings.seed, session.settings.seed + args.compare_seeds)
            comparison = session.compare(seeds, progress.show, bar.write)
        else:
            report = session.run(progress.show, bar.write)
    if args.compare_seeds is not None:
        write_json(run_folder.search_comparison, comparison)
        _print_comparison(comparison)
        print(run_folder.search_comparison)
        return
    if report.path is not None:
        _print_points(report.result.points, session)
        print(f"{len(report.result.points)} specs on the fronts: {report.path}")
    if report.failures:
        raise UserError("; ".join(report.failures))


def _make_options(args: argparse.Namespace) -> api.SearchOptions:
    return api.SearchOptions(
        budgets=tuple(args.budget),
        mode=args.mode,
        method=args.baseline or "nsga2",
        device_tables=tuple(args.device_table),
        num_threads=args.threads,
        extrapolate=args.extrapolate,
    )


def _make_settings(args: argparse.Namespace, run_folder: RunFolder) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if run_folder.config.is_file():  # a missing training is reported by `SearchSession`
        settings = api.read_overrides(run_folder.config, "search", args.overrides)
    if args.objective:
        settings["objectives"] = tuple(args.objective)
    if args.limit:
        settings["limits"] = tuple(args.limit)
    return settings


class _Progress:
    """Shows the size of the current front and its ends in the progress bar."""

    def __init__(self, bar: tqdm[Any], session: api.SearchSession) -> None:
        self._bar = bar
        self._objectives = session.objectives
        self._fronts: dict[str, list[Point]] = {}

    def show(self, point: Point) -> None:
        """Add a point and update the bar."""
        names, mode = self._objectives.names, point.spec.mode
        if self._objectives.keeps(point):
            self._fronts[mode] = pareto_front([*self._fronts.get(mode, []), point], names)
        front = self._fronts.get(mode, [])
        text = f"{mode}: no spec keeps the limits yet"
        if front:
            ends = (front[0], front[-1]) if len(front) > 1 else (front[0],)
            shown = " to ".join(
                ", ".join(self._objectives.by_name[name].show(end.figures[name]) for name in names)
                for end in ends
            )
            text = f"{mode} front of {len(front)}: {shown}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()


def _print_points(points: tuple[Point, ...], session: api.SearchSession) -> None:
    ladder = {spec: name for name, spec in session.space.ladder().items()}

    def figure_column(objective: Objective) -> Column[Point]:
        return Column(objective.name, lambda point: objective.show(point.figures[objective.name]), width=9)

    def notes(point: Point) -> str:
        named = [f"= {ladder[point.spec]}"] if point.spec in ladder else []
        return ", ".join([*named, *point.chosen])

    table = Table[Point](
        Column("spec", lambda point: point.spec.name, left=True),
        Column("mode", lambda point: point.spec.mode, left=True),
        *map(figure_column, session.objectives.by_name.values()),
        Column("", notes, left=True),
    )
    print(table.to_text(points))


def _print_comparison(comparison: Mapping[str, Any]) -> None:
    print("hypervolume as a share of the box of all evaluated specs: mean and standard deviation over seeds")
    for mode, methods in comparison["modes"].items():
        for method, result in methods.items():
            each = " ".join(f"{value:.4f}" for value in result["hypervolumes"])
            print(f"{mode:<10} {method:<7} {result['mean']:.4f} ± {result['std']:.4f}   {each}")
