"""Train, decode and compare the variants of a grid (`todm.ablation.grid`); finished runs are kept."""

from __future__ import annotations

import argparse
from pathlib import Path

import todm.ablation as ablation
from todm.commands import start_log
from todm.errors import UserError
from todm.layout import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm ablate``."""
    parser.add_argument("--grid", type=Path, metavar="FILE", help="variants, seeds and tables: a YAML file")
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="folder for data, runs and report")
    parser.add_argument("--corpus-dir", type=Path, metavar="DIR", help="needed until EXP/data is prepared")
    parser.add_argument(
        "--num-jobs", type=int, default=1, metavar="N", help="runs at the same time (default: 1)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this variant; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="list the planned runs and stop")
    parser.add_argument("--report", action="store_true", help="only write the report of the finished runs")
    parser.add_argument(
        "--run", dest="single", type=Path, metavar="RUN", help="do one run in its folder (used internally)"
    )
    parser.add_argument(
        "--until", type=int, default=0, metavar="STEP", help="with --run: only train, for this many batches"
    )


def run(args: argparse.Namespace) -> None:
    """Plan the runs, do them, and write the report."""
    if args.single is not None:
        start_log(RunFolder(args.single))
        ablation.do_single_run(args.single, until=args.until)
        return
    if args.until:
        raise UserError("--until: belongs to --run; leave it out")
    if args.grid is None or args.exp_dir is None:
        raise UserError("ablate: name the grid (--grid FILE) and its folder (--exp-dir EXP)")
    if args.num_jobs < 1:
        raise UserError(f"--num-jobs: must be at least 1, got {args.num_jobs}")
    grid = ablation.load_grid(args.grid)
    runs = grid.plan(args.only)
    if args.list:
        for planned in runs:
            state = "done" if ablation.is_done(args.exp_dir, planned) else "open"
            print(f"{planned.digest}  {state}  seed {planned.seed}  {planned.variant}")
        return
    failed = []
    if not args.report:
        ablation.prepare_data(grid, args.exp_dir, args.corpus_dir)
        failed = ablation.run_grid(runs, args.exp_dir, num_jobs=args.num_jobs, on_message=print)
    print(f"report: {ablation.write_grid_report(grid, args.exp_dir)}")
    if failed:
        names = ", ".join(f"{planned.variant} (seed {planned.seed})" for planned in failed)
        raise UserError(
            f"{args.exp_dir / 'runs'}: {names} failed; see log.txt there, then run this command again"
        )
