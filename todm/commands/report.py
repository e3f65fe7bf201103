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
    from todm.report.card import write_cards
    from todm.report.gather import gather
    from todm.report.ladder import format_table, ladder_table, write_ladder
    from todm.report.manifest import write_manifest
    from todm.report.page import render_page

    found = gather(args.exp_dir, args.beside)
    folder = args.exp_dir / "report"
    write_ladder(found, folder / "ladder.json")
    # Decoded and measured since they were exported: the bundles say so now.
    write_cards(found)
    write_manifest(found)
    page = folder / "index.html"
    write_text(page, render_page(found, collect_env()))
    heads, rows = ladder_table(found)
    if rows:
        print(format_table(heads, rows))
    for text in found.missing:
        print(f"not in the report: {text}")
    print(f"report: {page}")
