"""Find the specs worth shipping: best word error rate within what a device has to offer.

Everything is minimised. A limit reads 'rtf <= 0.1 on pi4', 'size <= 2 MB', 'params <= 0.8 M' or 'wer <= 5';
a budget is a name with limits, 'watch: size <= 1 MB, latency <= 20 ms on watch', and gets a search and a best
spec of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from todm.config import Config, LossConfig, SearchConfig
    from todm.nn.transducer import Transducer
    from todm.runtime.layout import Precision
    from todm.search.front import Point
    from todm.search.objective_set import ObjectiveSet
    from todm.search.screen import Screen
    from todm.space.spec import SubnetSpec

HELP = "search the supernet's specs for the best within objectives and limits"
METHODS = ("nsga2", "random", "grid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``todm search``."""
    parser.add_argument(
        "--exp-dir", type=Path, required=True, metavar="EXP", help="run folder with an averaged supernet"
    )
    parser.add_argument(
        "--objective",
        nargs="+",
        metavar="NAME",
        help="what spans the front, the most important first (wer params); wer, params, macs, size, state, "
        "'rtf on DEVICE', 'latency on DEVICE'",
    )
    parser.add_argument("--limit", action="append", metavar="LIMIT", help="may be repeated")
    parser.add_argument(
        "--budget", action="append", default=[], metavar="NAME: LIMITS", help="may be repeated"
    )
    parser.add_argument("--precision", choices=("fp32", "int8", "fp16"), help="of the nets that will ship")
    parser.add_argument("--mode", choices=("offline", "streaming"), help="search this mode only")
    parser.add_argument(
        "--device-table",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="of todm latency; those in EXP/devices are known",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads on the devices (fewest measured)")
    parser.add_argument("--extrapolate", action="store_true", help="trust tables beyond what was measured")
    parser.add_argument(
        "--evaluations", type=int, metavar="N", help="specs to evaluate, all modes together (default: config)"
    )
    parser.add_argument("--seed", type=int, help="of the sampler (default: config)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that evaluate (default: config)")
    parser.add_argument(
        "--baseline",
        choices=METHODS[1:],
        help="spend the same budget on random specs or on a grid instead, into search/NAME.json",
    )
    parser.add_argument(
        "--compare-seeds",
        type=int,
        metavar="N",
        help="hypervolume of NSGA-II, random and grid for N seeds, into search/compare.json",
    )


def run(args: argparse.Namespace) -> None:
    """Write ``EXP/search/pareto.json``; evaluations are kept in ``EXP/search/cache.jsonl``."""
    from tqdm import tqdm

    from todm.errors import UserError
    from todm.layout import ModelFolder
    from todm.model_dir import count_tokens
    from todm.search.cache import EvalCache, digest_file
    from todm.search.front import SearchResult
    from todm.search.limits import parse_budget, parse_limits, parse_term
    from todm.search.objectives import ObjectiveContext
    from todm.search.plan import Plan, compare_methods, run_search
    from todm.search.workers import Workers
    from todm.space.space import SearchSpace

    exp: Path = args.exp_dir
    supernet = exp / "supernet"
    if not ModelFolder(supernet).weights.is_file():
        raise UserError(f"{supernet}: no averaged supernet there; run 'todm average {exp}' first")
    config, settings = _settings(args)
    space = SearchSpace.from_config(config)
    if args.mode and args.mode not in space.modes:
        raise UserError(f"--mode: this supernet has no {args.mode} nets, only {', '.join(space.modes)}")
    weights = digest_file(ModelFolder(supernet).weights)
    write = partial(_write_bundle, config, supernet, settings.precision)
    judged = f"{weights}-{settings.precision}-{_utterances(settings, settings.num_utterances)}"
    if settings.precision != "fp32":
        judged += f"-{_export_digest(config)}"
    path = exp / "search" / "cache.jsonl"
    plan = Plan(
        space=space,
        modes=(args.mode,) if args.mode else space.modes,
        terms=tuple(map(parse_term, settings.objectives)),
        limits=parse_limits(settings.limits),
        budgets=tuple(map(parse_budget, args.budget)),
        setup=ObjectiveContext(
            config=config,
            vocab_size=count_tokens(supernet),
            precision=settings.precision,
            devices=_devices(exp, args.device_table),
            num_threads=args.threads,
            extrapolate=args.extrapolate,
            export_size=_ExportSize(supernet, write, EvalCache(path, context=f"size-{judged}")),
            shipped=_shipped(config, supernet),
        ),
        evaluations=settings.evaluations,
        population=settings.population,
        sizes=settings.sizes,
    )
    judge = plan.judge(None)
    for mode in plan.modes:  # what a table cannot tell is said before anything is evaluated
        for spec in (space.min(mode), space.max(mode)):
            judge.early_excess(spec)
            judge.point(spec, {"wer": 0.0})
    runs = 1 if args.compare_seeds is None else len(METHODS) * args.compare_seeds
    load = partial(_load_wer, exp, settings, write)
    load_proxy = partial(_load_loss, exp, settings, config.train.loss)
    proxied = f"{weights}-proxy-{_utterances(settings, settings.proxy_utterances)}"
    with (
        tqdm(total=runs * settings.evaluations, unit="spec", desc="search") as bar,
        Workers(load, EvalCache(path, context=judged), settings.workers) as evaluate,
        Workers(load_proxy, EvalCache(path, context=proxied), settings.workers) as proxy,
    ):

        def make_screen() -> Screen | None:
            from todm.search.screen import Screen

            return Screen(proxy, settings.proxy_correlation, bar.write) if settings.proxy_utterances else None

        show = _Progress(bar, judge)
        if args.compare_seeds is not None:
            seeds = range(settings.seed, settings.seed + args.compare_seeds)
            comparison = compare_methods(plan, evaluate, seeds=seeds, make_screen=make_screen, on_point=show)
        else:
            method = args.baseline or "nsga2"
            outcome = run_search(
                plan, evaluate, seed=settings.seed, method=method, make_screen=make_screen, on_point=show
            )
    if args.compare_seeds is not None:
        _save_comparison(exp / "search" / "compare.json", comparison)
        return
    path = exp / "search" / f"{args.baseline or 'pareto'}.json"
    if outcome.points:
        record = {
            "evaluations": settings.evaluations,
            "population": settings.population,
            "num_utterances": settings.num_utterances,
            "seed": settings.seed,
            "limits": list(settings.limits),
            "budgets": list(args.budget),
        }
        SearchResult(
            objectives=plan.names, precision=settings.precision, points=outcome.points, settings=record
        ).save(path)
        _print_points(outcome.points, judge, space.ladder())
        print(f"{len(outcome.points)} specs on the fronts: {path}")
    if outcome.failures:
        raise UserError("; ".join(outcome.failures))


def _settings(args: argparse.Namespace) -> tuple[Config, SearchConfig]:
    """The run's config, and its search section with what the command line says."""
    from dataclasses import replace

    from todm.config import load_config
    from todm.config.io import check_ranges
    from todm.errors import UserError

    config = load_config(args.exp_dir / "config.yaml")
    changes: dict[str, Any] = {
        key: value
        for key, value in (
            ("objectives", tuple(args.objective) if args.objective else None),
            ("limits", tuple(args.limit) if args.limit else None),
            ("precision", args.precision),
            ("evaluations", args.evaluations),
            ("seed", args.seed),
            ("workers", args.workers),
        )
        if value is not None
    }
    settings = replace(config.search, **changes)
    check_ranges(replace(config, search=settings))
    if not settings.objectives:
        raise UserError("search.objectives: need at least one, for example wer")
    if args.compare_seeds is not None and args.compare_seeds < 1:
        raise UserError(f"--compare-seeds: need at least 1, got {args.compare_seeds}")
    return config, settings


class _Progress:
    """The bar's text: how many specs the front of the present mode has, and its ends."""

    def __init__(self, bar: Any, judge: ObjectiveSet) -> None:
        self.bar = bar
        self.judge = judge
        self.fronts: dict[str, list[Point]] = {}

    def __call__(self, point: Point) -> None:
        from todm.search.front import pareto_front

        names, mode = self.judge.names, point.spec.mode
        if self.judge.keeps(point):
            self.fronts[mode] = pareto_front([*self.fronts.get(mode, []), point], names)
        front = self.fronts.get(mode, [])
        text = f"{mode}: nothing keeps to the limits yet"
        if front:
            ends = (front[0], front[-1]) if len(front) > 1 else (front[0],)
            shown = " to ".join(
                ", ".join(self.judge.objectives[name].show(end.figures[name]) for name in names)
                for end in ends
            )
            text = f"{mode} front of {len(front)}: {shown}"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update()


def _shipped(config: Config, supernet: Path) -> Callable[[SubnetSpec], SubnetSpec]:
    """Spec to that of the net that is extracted for it: a policy that zeroes weights leaves units out."""
    from functools import cache

    from todm.extract import live_spec
    from todm.model_dir import load_supernet

    if config.train.dropout.policy != "reweighted":
        return lambda spec: spec
    net, _ = load_supernet(supernet)
    return cache(partial(live_spec, net))


class _ExportSize:
    """Bytes of a spec's ONNX files, kept in the cache."""

    def __init__(self, supernet: Path, write: Callable[[Transducer, Path], int], cache: Any) -> None:
        self.supernet, self.write, self.cache = supernet, write, cache

    def __call__(self, spec: SubnetSpec) -> int:
        import tempfile

        from todm.extract import extract
        from todm.model_dir import load_supernet

        known = self.cache.get(spec)
        if known is None:
            with tempfile.TemporaryDirectory() as place:
                net, _ = load_supernet(self.supernet)
                known = {"bytes": self.write(extract(net, spec), Path(place))}
            self.cache.put(spec, known)
        return int(known["bytes"])


def _write_bundle(config: Config, lang_dir: Path, precision: Precision, net: Transducer, folder: Path) -> int:
    """Export `net` for `precision` and return the bytes of those files."""
    from dataclasses import replace

    from todm.deploy.bundle import write_bundle

    export = replace(config.export, int8=precision == "int8", fp16=precision == "fp16")
    return write_bundle(net, replace(config, export=export), lang_dir, folder)[precision]


def _load_wer(
    exp: Path, settings: SearchConfig, write: Callable[[Transducer, Path], int]
) -> Callable[[SubnetSpec], dict[str, Any]]:
    """An evaluation: spec to its WER in the precision that will ship."""
    import torch

    from todm.search.evaluate import BundleEvaluator, SupernetEvaluator

    evaluator: SupernetEvaluator | BundleEvaluator
    if settings.workers > 1:
        torch.set_num_threads(1)
    if settings.precision == "fp32":
        evaluator = SupernetEvaluator.load(exp, settings.num_utterances, settings.seed)
    else:
        evaluator = BundleEvaluator.load(
            exp, settings.num_utterances, settings.seed, settings.precision, write
        )
    return lambda spec: {"wer": evaluator.wer(spec).wer}


def _load_loss(exp: Path, settings: SearchConfig, loss: LossConfig) -> Callable[[SubnetSpec], dict[str, Any]]:
    """The proxy: spec to its loss on fewer utterances."""
    import torch

    from todm.search.evaluate import SupernetEvaluator

    if settings.workers > 1:
        torch.set_num_threads(1)
    evaluator = SupernetEvaluator.load(exp, settings.proxy_utterances, settings.seed)
    return lambda spec: {"loss": evaluator.loss(spec, loss)}


def _utterances(settings: SearchConfig, count: int) -> str:
    return f"{count}-{settings.seed}" if count else "all"


def _export_digest(config: Config) -> str:
    import hashlib
    import json

    text = json.dumps(config.to_dict()["export"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _devices(exp: Path, more: list[Path]) -> dict[str, Any]:
    from todm.search.latency import load_tables

    named = {path.resolve() for path in more}
    return load_tables([*more, *(p for p in sorted(exp.glob("devices/*.json")) if p.resolve() not in named)])


def _print_points(points: tuple[Point, ...], judge: ObjectiveSet, ladder: dict[str, SubnetSpec]) -> None:
    names = {spec: name for name, spec in ladder.items()}
    heads = list(judge.objectives)
    widths = [max(len(head), 9) for head in heads]
    print(f"{'spec':<24} {'mode':<10} " + " ".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True)))
    for point in points:
        cells = (
            f"{judge.objectives[head].show(point.figures[head]):>{width}}"
            for head, width in zip(heads, widths, strict=True)
        )
        notes = [f"= {names[point.spec]}"] if point.spec in names else []
        notes += point.chosen
        line = f"{point.spec.name:<24} {point.spec.mode:<10} {' '.join(cells)}  {', '.join(notes)}"
        print(line.rstrip())


def _save_comparison(path: Path, comparison: dict[str, Any]) -> None:
    from todm.files import write_json

    write_json(path, comparison)
    print("hypervolume, share of the box of all that was seen: mean and standard deviation over the seeds")
    for mode, methods in comparison["modes"].items():
        for method, found in methods.items():
            each = " ".join(f"{value:.4f}" for value in found["hypervolumes"])
            print(f"{mode:<10} {method:<7} {found['mean']:.4f} ± {found['std']:.4f}   {each}")
    print(path)
