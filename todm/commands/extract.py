"""Cut plain nets out of a run's averaged supernet, one folder for each in EXP/subnets."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "cut subnets out of the supernet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--exp-dir EXP`` and which specs."""
    parser.add_argument(
        "--exp-dir", type=Path, required=True, metavar="EXP", help="run folder with supernet/"
    )
    parser.add_argument("--ladder", action="store_true", help="min, mid and max of every mode")
    parser.add_argument("--pareto", action="store_true", help="the sizes that 'todm search' chose")
    parser.add_argument("--spec", type=Path, metavar="FILE", help="the spec in a spec.json")
    parser.add_argument("--name", help="folder name for --spec (default: the spec's own short name)")


def run(args: argparse.Namespace) -> None:
    """Write the folders and print their sizes."""
    from todm.errors import UserError
    from todm.extract import extract
    from todm.model_dir import load_supernet, save_subnet
    from todm.search.front import SearchResult
    from todm.space.spec import SubnetSpec

    if not (args.ladder or args.pareto or args.spec):
        raise UserError("nothing to extract: give --ladder, --pareto or --spec FILE")
    exp: Path = args.exp_dir
    supernet, config = load_supernet(exp / "supernet")
    chosen: dict[str, SubnetSpec] = {}
    if args.ladder:
        chosen.update(supernet.space.ladder())
    if args.pareto:
        path = exp / "search" / "pareto.json"
        if not path.is_file():
            raise UserError(f"{path}: missing; run 'todm search --exp-dir {exp}' first")
        known = set(chosen.values())
        chosen.update({p.spec.name: p.spec for p in SearchResult.load(path).chosen if p.spec not in known})
    if args.spec:
        spec = SubnetSpec.load(args.spec)
        chosen[args.name or spec.name] = spec
    for name, spec in chosen.items():
        net = extract(supernet, spec)
        save_subnet(exp / "subnets" / name, net, config, exp / "supernet")
        params = sum(parameter.numel() for parameter in net.parameters())
        print(f"{name:<24} {spec.mode:<10} {params:>12,}  {exp / 'subnets' / name}")
