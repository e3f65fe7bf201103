"""``todm search``: find the specs worth extracting."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "search the supernet's specs for a Pareto front of dev WER and parameters"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``todm search``."""
    parser.add_argument(
        "--exp-dir", type=Path, required=True, metavar="EXP", help="run folder with an averaged supernet"
    )
    parser.add_argument(
        "--evaluations", type=int, metavar="N", help="specs to evaluate, all modes together (default: config)"
    )
    parser.add_argument(
        "--random",
        action="store_true",
        help="spend the same budget on random specs instead, into search/random.json, to compare with",
    )


def run(args: argparse.Namespace) -> None:
    """Write ``EXP/search/pareto.json``; evaluations are kept in ``EXP/search/cache.jsonl``."""
    from dataclasses import replace

    from tqdm import tqdm

    from todm.config_io import load_config
    from todm.errors import UserError
    from todm.extract import live_spec
    from todm.model_dir import WEIGHTS, vocab_size_of
    from todm.search.cache import EvalCache, digest_file
    from todm.search.evaluate import SupernetEvaluator
    from todm.search.front import Point, save_points
    from todm.search.nsga2 import Budget, search_modes
    from todm.space.cost import count_params
    from todm.space.space import SearchSpace
    from todm.space.spec import SubnetSpec

    exp: Path = args.exp_dir
    supernet = exp / "supernet"
    if not (supernet / WEIGHTS).is_file():
        raise UserError(f"{supernet}: no averaged supernet there; run 'todm average {exp}' first")
    config = load_config(exp / "config.yaml")
    settings = config.search
    if args.evaluations is not None:
        settings = replace(settings, evaluations=args.evaluations)
    for key, value, least in (
        ("evaluations", settings.evaluations, 1),
        ("population", settings.population, 2),
        ("num_utterances", settings.num_utterances, 0),
    ):
        if value < least:
            raise UserError(f"search.{key}: need at least {least}, got {value}")
    space = SearchSpace.from_config(config)
    vocab_size = vocab_size_of(supernet)
    context = f"{digest_file(supernet / WEIGHTS)}-{settings.num_utterances}-{settings.seed}"
    cache = EvalCache(exp / "search" / "cache.jsonl", context=context)
    evaluator = SupernetEvaluator.load(exp, settings.num_utterances, settings.seed)

    def cost(spec: SubnetSpec) -> int:
        return count_params(config.model, live_spec(evaluator.supernet, spec), vocab_size)

    with tqdm(total=settings.evaluations, unit="spec", desc="search") as bar:

        def show(point: Point) -> None:
            bar.set_postfix_str(f"{point.spec.name} {point.wer:.2f}% {point.params / 1e6:.2f}M")
            bar.update()

        def make_budget(evaluations: int) -> Budget:
            return Budget(
                evaluate=lambda spec: {"wer": evaluator.wer(spec).wer, "params": cost(spec)},
                count_params=cost,
                cache=cache,
                evaluations=evaluations,
                on_point=show,
            )

        points = search_modes(space, settings, make_budget, at_random=args.random)

    path = exp / "search" / ("random.json" if args.random else "pareto.json")
    save_points(path, points)
    names = {spec: f"  = {name}" for name, spec in space.ladder().items()}
    print(f"{'spec':<24} {'mode':<10} {'params':>12} {'WER %':>7}")
    for point in points:
        note = names.get(point.spec, "") + ("  knee" if point.knee else "")
        print(f"{point.spec.name:<24} {point.spec.mode:<10} {point.params:>12,} {point.wer:>7.2f}{note}")
    print(f"{len(points)} specs on the fronts: {path}")
