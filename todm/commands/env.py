"""``todm env``: versions and machine, for reports and bug reports."""

from __future__ import annotations

import argparse

HELP = "show versions and machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Print what `todm.envinfo` finds."""
    import json

    from todm.envinfo import collect_env, format_env

    env = collect_env()
    print(json.dumps(env, indent=1) if args.json else format_env(env))
