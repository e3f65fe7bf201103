"""NSGA-II over specs (Deb et al., 2002), through pymoo's ask-and-tell interface."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from todm.config import Mode, SearchConfig
from todm.errors import UserError
from todm.search.cache import EvalCache
from todm.search.encoding import Encoding
from todm.search.front import Point, knee, pareto_front
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

Evaluate = Callable[[SubnetSpec], Mapping[str, Any]]

# Generations in a row that bring no new spec before a space counts as used up.
_PATIENCE = 20


class Budget:
    """Evaluates specs, each once, until the budget is spent.

    What the cache already holds counts too: a search that was stopped replays its way through the cache and
    ends where it would have ended.

    Args:
        evaluate: spec to a mapping with at least ``wer``, percent.
        count_params: spec to parameters.
        cache: results already known; new ones are added.
        evaluations: distinct specs at most.
        on_point: called with every new point, for a progress bar.
    """

    def __init__(
        self,
        *,
        evaluate: Evaluate,
        count_params: Callable[[SubnetSpec], int],
        cache: EvalCache,
        evaluations: int,
        on_point: Callable[[Point], None] = lambda _: None,
    ) -> None:
        self._evaluate = evaluate
        self._count_params = count_params
        self._cache = cache
        self._evaluations = evaluations
        self._on_point = on_point
        self.points: dict[SubnetSpec, Point] = {}

    @property
    def spent(self) -> bool:
        """Whether only specs seen before can still be asked for."""
        return len(self.points) >= self._evaluations

    def __call__(self, spec: SubnetSpec) -> Point | None:
        """The spec's point, None when it is new and the budget is spent."""
        if spec not in self.points:
            if self.spent:
                return None
            result = self._cache.get(spec)
            if result is None:
                result = dict(self._evaluate(spec))
                self._cache.put(spec, result)
            point = Point(spec=spec, wer=float(result["wer"]), params=self._count_params(spec))
            self.points[spec] = point
            self._on_point(point)
        return self.points[spec]


def search_evolving(space: SearchSpace, mode: Mode, budget: Budget, *, population: int, seed: int) -> None:
    """Spend `budget` on the specs of `mode` with NSGA-II; the result is ``budget.points``.

    Starts from `first_specs`. Same seed, same points.

    Raises:
        UserError: pymoo is not installed.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.duplicate import ElementwiseDuplicateElimination
        from pymoo.core.evaluator import Evaluator
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination
        from pymoo.operators.crossover.ux import UX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.problems.static import StaticProblem
    except ImportError as error:
        raise UserError(
            f"todm search: pymoo is not installed ({error}); pip install 'todm[search]', or use --random"
        ) from error

    encoding = Encoding(space=space, mode=mode)
    problem = Problem(n_var=len(encoding.upper), n_obj=2, xl=0, xu=np.array(encoding.upper), vtype=int)
    start = np.array([encoding.encode(spec) for spec in first_specs(space, mode, population, seed=seed)])
    algorithm = NSGA2(
        pop_size=population,
        sampling=start,
        crossover=UX(prob=0.9),
        # Two genes a child on average. Widths and depths are ordered: small steps are likelier than big ones.
        mutation=PM(prob=1.0, prob_var=2.0 / len(encoding.upper), eta=3.0, repair=RoundingRepair()),
        # Several vectors may mean one spec.
        eliminate_duplicates=ElementwiseDuplicateElimination(
            lambda a, b: encoding.decode(a.X) == encoding.decode(b.X)
        ),
    )
    algorithm.setup(problem, termination=NoTermination(), seed=seed, verbose=False)

    stale = 0
    while not budget.spent and stale < _PATIENCE:
        generation = algorithm.ask()
        if generation is None or len(generation) == 0:
            return
        known = len(budget.points)
        points = [budget(encoding.decode(genes)) for genes in generation.get("X")]
        if any(point is None for point in points):
            return
        values = np.array([[point.wer, point.params] for point in points if point is not None], dtype=float)
        Evaluator().eval(StaticProblem(problem, F=values), generation)
        algorithm.tell(infills=generation)
        stale = 0 if len(budget.points) > known else stale + 1


def search_at_random(space: SearchSpace, mode: Mode, budget: Budget, *, seed: int) -> None:
    """Spend `budget` on min, mid, max and then random specs of `mode`: what a search has to beat."""
    rng = random.Random(f"random-search-{seed}-{mode}")
    for spec in _distinct(itertools.chain(_sizes(space, mode), _samples(space, mode, rng))):
        if budget.spent:
            return
        budget(spec)


def search_modes(
    space: SearchSpace, settings: SearchConfig, make_budget: Callable[[int], Budget], *, at_random: bool
) -> list[Point]:
    """The fronts of all modes of `space`, one after the other, each with its knee marked.

    Args:
        space: what is elastic.
        settings: ``evaluations`` are shared out evenly among the modes.
        make_budget: number of evaluations to a fresh budget.
        at_random: draw specs at random instead of evolving them.
    """
    fronts: list[Point] = []
    for index, mode in enumerate(space.modes):
        share, rest = divmod(settings.evaluations, len(space.modes))
        budget = make_budget(share + (index < rest))
        if at_random:
            search_at_random(space, mode, budget, seed=settings.seed)
        else:
            search_evolving(space, mode, budget, population=settings.population, seed=settings.seed)
        front = pareto_front(budget.points.values())
        chosen = knee(front)
        fronts += [replace(point, knee=point is chosen) for point in front]
    return fronts


def first_specs(space: SearchSpace, mode: Mode, population: int, *, seed: int) -> list[SubnetSpec]:
    """The first generation: min, mid, max, then specs of one width everywhere, then random ones.

    Widths drawn layer by layer average out to the middle; the specs of one width spread over the whole
    front, and a search that starts from them needs far fewer evaluations.
    """
    rng = random.Random(f"first-specs-{seed}-{mode}")
    grid = [space.uniform(depth, dim, mode) for depth in space.depths for dim in space.ffn_dims]
    rng.shuffle(grid)
    specs = _distinct(itertools.chain(_sizes(space, mode), grid, _samples(space, mode, rng)))
    return list(itertools.islice(specs, population))


def _sizes(space: SearchSpace, mode: Mode) -> list[SubnetSpec]:
    return [space.min(mode), space.mid(mode), space.max(mode)]


def _samples(space: SearchSpace, mode: Mode, rng: random.Random) -> Iterator[SubnetSpec]:
    while True:
        yield space.sample(rng, mode)


def _distinct(specs: Iterable[SubnetSpec]) -> Iterator[SubnetSpec]:
    """`specs` without repetition; ends once a thousand in a row were repeats."""
    seen: set[SubnetSpec] = set()
    repeats = 0
    for spec in specs:
        if spec not in seen:
            seen.add(spec)
            repeats = 0
            yield spec
        elif (repeats := repeats + 1) == 1000:
            return
