"""Explain settings, or show the resolved config of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from todm.commands import take_settings
from todm.config import config_to_yaml, load_config
from todm.config.explain import explain, reference_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``explain [KEY]`` and ``show --conf FILE`` with overrides."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    explaining = actions.add_parser("explain", help="type, range, default and meaning of settings")
    explaining.add_argument(
        "key", nargs="?", default="", metavar="KEY", help="a setting or section; default: all"
    )
    explaining.add_argument("--markdown", action="store_true", help="the whole reference as a Markdown page")
    showing = actions.add_parser("show", help="the resolved config as YAML")
    showing.add_argument("--conf", type=Path, metavar="FILE", help="YAML config; default: all defaults")
    take_settings(showing, "Any setting can be overridden by its dotted name, for example --train.seed 3.")


def run(args: argparse.Namespace) -> None:
    """Print the reference or the config."""
    if args.action == "explain":
        print(reference_page() if args.markdown else explain(args.key), end="" if args.markdown else "\n")
        return
    print(config_to_yaml(load_config(args.conf, args.overrides)), end="")
