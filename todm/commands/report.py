"""``todm report``: one page about a run."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "gather a run's figures into report/index.html, report/ladder.json and bundles/manifest.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``todm report``."""
    parser.add_argument("exp_dir", metavar="EXP", type=Path, help="run folder")
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="EXP",
        help="run folders of nets that were trained alone, to be shown beside",
    )


def run(args: argparse.Namespace) -> None:
    """Write ``EXP/report`` and print the ladder."""
    from todm.envinfo import collect_env
    from todm.files import write_text
    from todm.layout import RunFolder
    from todm.report.card import write_cards
    from todm.report.gather import gather
    from todm.report.ladder import ladder_table, write_ladder
    from todm.report.manifest import write_manifest
    from todm.report.page import render_page

    folder = RunFolder(args.exp_dir)
    found = gather(args.exp_dir, args.beside)
    write_ladder(found, folder.ladder)
    # Decoded and measured since they were exported: the bundles say so now.
    write_cards(found)
    write_manifest(found)
    write_text(folder.report_page, render_page(found, collect_env()))
    if found.sizes:
        print(ladder_table(found).to_text(found.sizes))
    for text in found.missing:
        print(f"not in the report: {text}")
    print(f"report: {folder.report_page}")
