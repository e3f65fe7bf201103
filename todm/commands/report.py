"""Write the report of a run: report/index.html, report/ladder.json and bundles/manifest.json."""

from __future__ import annotations

import argparse
from pathlib import Path

import todm
from todm.commands import add_exp_dir, get_exp_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm report``."""
    add_exp_dir(parser, "run folder", positional=True)
    parser.add_argument(
        "--compare-with",
        type=Path,
        nargs="+",
        default=[],
        metavar="EXP",
        help="run folders of nets that were trained alone, shown for comparison",
    )


def run(args: argparse.Namespace) -> None:
    """Write ``EXP/report`` and print the table of sizes."""
    result = todm.Run(get_exp_dir(args)).report(args.compare_with)
    if result.sizes:
        print(result.table)
    for text in result.missing:
        print(f"not in the report: {text}")
    print(f"report: {result.page}")
