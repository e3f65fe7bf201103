"""Search of a run's supernet: `SearchSession` connects the search to the run folder and to the export."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch

from todm.api.results import SearchReport
from todm.api.settings import replace_settings
from todm.config import Config, LossConfig, Mode, SearchConfig, load_config
from todm.deploy.bundle import write_bundle
from todm.errors import UserError
from todm.extract import extract, live_spec
from todm.files import digest_file
from todm.layout import ModelFolder, RunFolder
from todm.model_dir import count_tokens, find_supernet, load_supernet
from todm.nn.transducer import Transducer
from todm.runtime.layout import Precision
from todm.search.cache import EvalCache
from todm.search.evaluate import BundleEvaluator, SupernetEvaluator
from todm.search.front import Point, SearchResult
from todm.search.latency import DeviceTable, load_tables
from todm.search.limits import parse_budget, parse_limits, parse_objective
from todm.search.objective_set import Evaluate
from todm.search.objectives import ObjectiveContext
from todm.search.plan import Plan, SearchHooks, compare_methods, run_search
from todm.search.screen import Screen
from todm.search.workers import Workers
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

Method = Literal["nsga2", "random", "grid"]

OnPoint = Callable[[Point], None]
OnMessage = Callable[[str], None]


def _ignore(_: Any) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options of one search that are no settings of the run.

    Args:
        budgets: ``NAME: LIMIT, LIMIT``; each gets a search and a best spec of its own.
        mode: search this mode only; None searches all modes of the supernet.
        method: ``nsga2``, or a baseline at the same number of evaluations.
        device_tables: tables of ``todm latency`` besides those in ``EXP/devices``.
        num_threads: threads on the devices; None takes the fewest measured.
        extrapolate: accept predictions for specs outside the measured range.
    """

    budgets: tuple[str, ...] = ()
    mode: Mode | None = None
    method: Method = "nsga2"
    device_tables: tuple[Path, ...] = ()
    num_threads: int | None = None
    extrapolate: bool = False


class SearchSession:
    """A prepared search; `run` performs it.

    Evaluations are cached in ``EXP/search/cache.jsonl``, so an interrupted search continues where it
    stopped when it is run again.

    Args:
        exp_dir: run folder with an averaged supernet.
        options: budgets, mode, method and device tables.
        settings: settings of the section ``search`` that replace the run's.

    Raises:
        UserError: no supernet, an impossible setting, an unreadable table, or a limit or objective that
            cannot be computed.
    """

    def __init__(
        self, exp_dir: Path, options: SearchOptions | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.exp_dir = exp_dir
        self.folder = RunFolder(exp_dir)
        self.options = options or SearchOptions()
        self._supernet = find_supernet(exp_dir)
        self.config = replace_settings(load_config(self.folder.config, saved=True), "search", settings or {})
        self.settings = self.config.search
        if not self.settings.objectives:
            raise UserError("search.objectives: need at least one, for example wer")
        self.space = SearchSpace.from_config(self.config)
        mode = self.options.mode
        if mode and mode not in self.space.modes:
            raise UserError(f"--mode: this supernet has no {mode} nets, only {', '.join(self.space.modes)}")
        self._weights = digest_file(ModelFolder(self._supernet).weights)
        self._write = partial(_write_bundle, self.config, self._supernet, self.settings.precision)
        self._cache = self.folder.search_cache
        self.plan = self._make_plan()
        self.objectives = self.plan.objective_set(None)
        # Predictions that a table cannot give are refused before anything is evaluated.
        for one in self.plan.modes:
            for spec in (self.space.min(one), self.space.max(one)):
                self.objectives.early_excess(spec)
                self.objectives.point(spec, {"wer": 0.0})

    def run(self, on_point: OnPoint = _ignore, on_message: OnMessage = _ignore) -> SearchReport:
        """Search and write ``EXP/search/pareto.json`` (``random.json``, ``grid.json`` for a baseline).

        Args:
            on_point: called with every new point.
            on_message: called with lines of text on the proxy.
        """
        method = self.options.method
        with self._evaluate(on_point, on_message) as (evaluate, hooks):
            outcome = run_search(self.plan, evaluate, seed=self.settings.seed, method=method, hooks=hooks)
        record = {
            "evaluations": self.settings.evaluations,
            "population": self.settings.population,
            "num_utterances": self.settings.num_utterances,
            "seed": self.settings.seed,
            "limits": list(self.settings.limits),
            "budgets": list(self.options.budgets),
        }
        result = SearchResult(
            objectives=self.plan.names,
            precision=self.settings.precision,
            points=outcome.points,
            settings=record,
        )
        path = None
        if outcome.points:
            path = self.folder.pareto if method == "nsga2" else self.folder.baseline(method)
            result.save(path)
        return SearchReport(path=path, result=result, failures=outcome.failures)

    def compare(
        self, seeds: Sequence[int], on_point: OnPoint = _ignore, on_message: OnMessage = _ignore
    ) -> dict[str, Any]:
        """Compare the hypervolume of NSGA-II, random and grid search over seeds.

        Args:
            seeds: one search of each method for each.
            on_point: called with every new point.
            on_message: called with lines of text on the proxy.

        Returns:
            the content of ``EXP/search/compare.json``, see `todm.search.plan.compare_methods`.
        """
        with self._evaluate(on_point, on_message) as (evaluate, hooks):
            return compare_methods(self.plan, evaluate, seeds=seeds, hooks=hooks)

    def _make_plan(self) -> Plan:
        options, settings = self.options, self.settings
        sizes = _ExportSizes(
            self._supernet, self._write, EvalCache(self._cache, context=f"size-{self._context}")
        )
        context = ObjectiveContext(
            config=self.config,
            vocab_size=count_tokens(self._supernet),
            precision=settings.precision,
            devices=_load_devices(self.exp_dir, options.device_tables),
            num_threads=options.num_threads,
            extrapolate=options.extrapolate,
            export_size=sizes,
            shipped=_make_shipped(self.config, self._supernet),
        )
        return Plan(
            space=self.space,
            modes=(options.mode,) if options.mode else self.space.modes,
            objectives=tuple(map(parse_objective, settings.objectives)),
            limits=parse_limits(settings.limits),
            budgets=tuple(map(parse_budget, options.budgets)),
            context=context,
            evaluations=settings.evaluations,
            population=settings.population,
            sizes=settings.sizes,
        )

    @property
    def _context(self) -> str:
        """Cache key of the evaluations: weights, precision, utterances and, if exported, export settings."""
        settings = self.settings
        parts = [self._weights, settings.precision, _utterances(settings, settings.num_utterances)]
        if settings.precision != "fp32":
            parts.append(_export_digest(self.config))
        return "-".join(parts)

    @contextmanager
    def _evaluate(self, on_point: OnPoint, on_message: OnMessage) -> Iterator[tuple[Evaluate, SearchHooks]]:
        """Start the evaluating processes; leaving the context ends them."""
        settings = self.settings
        load = partial(load_wer, self.exp_dir, settings, self._write)
        load_proxy = partial(load_loss, self.exp_dir, settings, self.config.train.loss)
        proxied = f"{self._weights}-proxy-{_utterances(settings, settings.proxy_utterances)}"
        with (
            Workers(load, EvalCache(self._cache, context=self._context), settings.workers) as evaluate,
            Workers(load_proxy, EvalCache(self._cache, context=proxied), settings.workers) as proxy,
        ):

            def make_screen() -> Screen | None:
                if not settings.proxy_utterances:
                    return None
                return Screen(proxy, settings.proxy_correlation, on_message)

            yield evaluate, SearchHooks(make_screen=make_screen, on_point=on_point)


def load_wer(
    exp_dir: Path, settings: SearchConfig, write: Callable[[Transducer, Path], int]
) -> Callable[[SubnetSpec], dict[str, Any]]:
    """Load the evaluation: it maps a spec to its WER in the precision of the exported nets."""
    evaluator: SupernetEvaluator | BundleEvaluator
    if settings.workers > 1:
        torch.set_num_threads(1)
    if settings.precision == "fp32":
        evaluator = SupernetEvaluator.load(exp_dir, settings.num_utterances, settings.seed)
    else:
        evaluator = BundleEvaluator.load(
            exp_dir, settings.num_utterances, settings.seed, settings.precision, write
        )
    return lambda spec: {"wer": evaluator.wer(spec).wer}


def load_loss(
    exp_dir: Path, settings: SearchConfig, loss: LossConfig
) -> Callable[[SubnetSpec], dict[str, Any]]:
    """Load the proxy: it maps a spec to its loss on fewer utterances."""
    if settings.workers > 1:
        torch.set_num_threads(1)
    evaluator = SupernetEvaluator.load(exp_dir, settings.proxy_utterances, settings.seed)
    return lambda spec: {"loss": evaluator.loss(spec, loss)}


class _ExportSizes:
    """Bytes of a spec's ONNX files, by exporting it once."""

    def __init__(self, supernet: Path, write: Callable[[Transducer, Path], int], cache: EvalCache) -> None:
        self._supernet, self._write, self._cache = supernet, write, cache

    def __call__(self, spec: SubnetSpec) -> int:
        known = self._cache.get(spec)
        if known is None:
            with tempfile.TemporaryDirectory() as place:
                net, _ = load_supernet(self._supernet)
                known = {"bytes": self._write(extract(net, spec), Path(place))}
            self._cache.put(spec, known)
        return int(known["bytes"])


def _write_bundle(config: Config, lang_dir: Path, precision: Precision, net: Transducer, folder: Path) -> int:
    """Export `net` for `precision` and return the bytes of those files."""
    export = replace(config.export, int8=precision == "int8", fp16=precision == "fp16")
    return write_bundle(net, replace(config, export=export), lang_dir, folder)[precision]


def _make_shipped(config: Config, supernet: Path) -> Callable[[SubnetSpec], SubnetSpec]:
    """Map a spec to that of the extracted net, from which dead units have been removed."""
    if config.train.dropout.policy != "reweighted":
        return lambda spec: spec
    net, _ = load_supernet(supernet)
    return cache(partial(live_spec, net))


def _load_devices(exp_dir: Path, more: Sequence[Path]) -> dict[str, DeviceTable]:
    named = {path.resolve() for path in more}
    known = (path for path in RunFolder(exp_dir).find_devices() if path.resolve() not in named)
    return load_tables([*more, *known])


def _utterances(settings: SearchConfig, count: int) -> str:
    return f"{count}-{settings.seed}" if count else "all"


def _export_digest(config: Config) -> str:
    text = json.dumps(config.to_dict()["export"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
