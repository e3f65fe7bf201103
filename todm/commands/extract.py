"""Extract plain nets from the averaged supernet of a run, each into a folder of EXP/subnets."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import todm.api as api
from todm.commands import add_exp_dir
from todm.config.data import FOLDER_NAME
from todm.errors import UserError
from todm.space.spec import SubnetSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm extract``."""
    add_exp_dir(parser, "run folder with an averaged supernet")
    parser.add_argument("--ladder", action="store_true", help="min, mid and max of every mode")
    parser.add_argument("--pareto", action="store_true", help="the specs that 'todm search' chose")
    parser.add_argument("--spec", type=Path, metavar="FILE", help="the spec in a spec.json")
    parser.add_argument("--name", help="folder name for --spec (default: the spec's short name)")


def run(args: argparse.Namespace) -> None:
    """Write the folders and print their sizes."""
    specs = {}
    if args.name is not None:
        if args.spec is None:
            raise UserError("--name: belongs to --spec FILE; leave it out")
        if not re.fullmatch(FOLDER_NAME[0], args.name):
            raise UserError(f"--name: must be {FOLDER_NAME[1]}, got {args.name!r}")
    if args.spec is not None:
        spec = SubnetSpec.load(args.spec)
        specs[args.name or spec.name] = spec
    result = api.extract_subnets(args.exp_dir, ladder=args.ladder, pareto=args.pareto, specs=specs)
    for subnet in result.subnets:
        print(f"{subnet.name:<24} {subnet.spec.mode:<10} {subnet.num_params:>12,}  {subnet.folder}")
