"""``todm search``: find the specs worth extracting."""

from __future__ import annotations

import argparse

HELP = "search the supernet's specs for a Pareto front of dev WER and parameters"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``todm search``."""
    parser.add_argument("--exp-dir", required=True, metavar="EXP", help="run folder with an averaged supernet")
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
    import hashlib
    from dataclasses import replace
    from pathlib import Path

    from tqdm import tqdm

    from todm.config_io import load_config
    from todm.decode.evaluate import SupernetEvaluator
    from todm.errors import UserError
    from todm.search.cache import EvalCache
    from todm.search.front import Point, knee, pareto_front, save_points
    from todm.search.nsga2 import Budget, search_at_random, search_evolving
    from todm.space.cost import count_params
    from todm.space.space import SearchSpace
    from todm.space.spec import SubnetSpec

    exp = Path(args.exp_dir)
    weights, tokens = exp / "supernet" / "model.safetensors", exp / "supernet" / "tokens.txt"
    if not weights.is_file() or not tokens.is_file():
        raise UserError(f"{exp / 'supernet'}: no averaged supernet there; run `todm average {exp}` first")
    config = load_config(exp / "config.yaml", [])
    search = config.search
    evaluations = search.evaluations if args.evaluations is None else args.evaluations
    if evaluations < 1:
        raise UserError(f"--evaluations: need at least 1, got {evaluations}")
    space = SearchSpace.from_config(config)
    vocab_size = sum(1 for line in tokens.read_text(encoding="utf-8").splitlines() if line.strip())

    with weights.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    context = f"{digest.hexdigest()[:16]}-{search.num_utterances}-{search.seed}"
    cache = EvalCache(exp / "search" / "cache.jsonl", context=context)
    evaluator = SupernetEvaluator.load(exp, search.num_utterances, search.seed)

    picks: list[Point] = []
    with tqdm(total=evaluations, unit="spec", desc="search") as bar:

        def show(point: Point) -> None:
            bar.set_postfix_str(f"{point.spec.name} {point.wer:.2f}% {point.params / 1e6:.2f}M")
            bar.update()

        for index, mode in enumerate(space.modes):
            share = evaluations // len(space.modes) + (index < evaluations % len(space.modes))
            budget = Budget(
                evaluate=lambda spec: {"wer": evaluator.wer(spec).wer},
                count_params=lambda spec: count_params(config.model, spec, vocab_size),
                cache=cache,
                evaluations=share,
                on_point=show,
            )
            if args.random:
                search_at_random(space, mode, budget, seed=search.seed)
            else:
                search_evolving(space, mode, budget, population=search.population, seed=search.seed)
            front = pareto_front(budget.points.values())
            chosen = knee(front)
            picks += [replace(point, knee=point is chosen) for point in front]

    path = exp / "search" / ("random.json" if args.random else "pareto.json")
    save_points(path, picks)
    named: dict[SubnetSpec, str] = {spec: name for name, spec in space.ladder().items()}
    print(f"{'spec':<24} {'mode':<10} {'params':>12} {'WER %':>7}")
    for point in picks:
        note = "  knee" if point.knee else ""
        note += f"  = {named[point.spec]}" if point.spec in named else ""
        print(f"{point.spec.name:<24} {point.spec.mode:<10} {point.params:>12,} {point.wer:>7.2f}{note}")
    print(f"{len(picks)} specs on the front: {path}")
