"""Train, measure and compare the variants of a grid (`todm.ablation.grid`); goes on with what is there."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

HELP = "train and compare the variants of a grid"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--grid FILE --exp-dir EXP --corpus-dir DIR``, or what is left of it."""
    parser.add_argument("--grid", type=Path, metavar="FILE", help="variants, seeds, tables: a YAML file")
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="folder for data, runs and report")
    parser.add_argument("--corpus-dir", type=Path, metavar="DIR", help="needed until EXP/data is prepared")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default 1)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this variant; may be given several times"
    )
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    parser.add_argument("--report", action="store_true", help="only write the report of what is finished")
    parser.add_argument(
        "--run", dest="single", type=Path, metavar="RUN", help="do this one run and stop: what a grid starts"
    )
    parser.add_argument(
        "--until", type=int, default=0, metavar="STEP", help="with --run: only train it, for so many batches"
    )


def run(args: argparse.Namespace) -> None:
    """Plan, run, report."""
    from todm.errors import UserError

    if args.single is not None:
        _run_alone(args.single, args.until)
        return
    if args.until:
        raise UserError("--until: belongs to --run; leave it out")
    if args.grid is None or args.exp_dir is None:
        raise UserError("todm ablate: name the grid (--grid FILE) and its folder (--exp-dir EXP)")
    if args.jobs < 1:
        raise UserError(f"--jobs: need at least 1, got {args.jobs}")
    from todm.ablation.grid import load_grid
    from todm.ablation.report import write_report
    from todm.ablation.results import Results
    from todm.ablation.runs import is_done, prepare_data, run_grid

    grid, exp = load_grid(args.grid), args.exp_dir
    runs = grid.plan(args.only)
    if args.list:
        for planned in runs:
            state = "done" if is_done(exp, planned) else "open"
            print(f"{planned.digest}  {state}  seed {planned.seed}  {planned.variant}")
        return
    failed = []
    if not args.report:
        prepare_data(grid, exp, args.corpus_dir)
        failed = run_grid(runs, exp, jobs=args.jobs)
    print(f"report: {write_report(Results(grid, exp), exp / 'report')}")
    if failed:
        names = ", ".join(f"{planned.variant} (seed {planned.seed})" for planned in failed)
        raise UserError(f"{exp / 'runs'}: {names} failed; look at log.txt there, then run this command again")


def _run_alone(folder: Path, until: int) -> None:
    """Train with the folder's ``conf.yaml``, average, measure; with `until` only train, to that batch."""
    from todm.ablation.measure import measure
    from todm.commands import average, train

    conf = folder / "conf.yaml"
    words = ["train", "--conf", str(conf), "--exp-dir", str(folder), "--until", str(until)]
    given = {"conf": conf, "exp_dir": folder, "init": None, "until": until, "overrides": [], "words": words}
    train.run(argparse.Namespace(**given))
    if until:
        return
    average.run(argparse.Namespace(exp_dir=folder, last=None))
    measure(folder)
    shutil.rmtree(folder / "checkpoints")  # a hundred megabytes that nobody needs any more
