"""Show versions and machine, for reports and bug reports."""

from __future__ import annotations

import argparse
import json

from todm.envinfo import collect_env, format_env


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm env``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Print the environment as a table or as JSON."""
    env = collect_env()
    print(json.dumps(env, indent=1) if args.json else format_env(env))
