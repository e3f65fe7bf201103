"""NSGA-II over specs (Deb et al., 2002), through pymoo's ask-and-tell interface, and its baselines."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator

from todm.config import Mode
from todm.errors import UserError
from todm.search.encoding import Encoding, shrink
from todm.search.objective_set import Evaluations
from todm.search.screen import Screen
from todm.search.spread import spread_uniform
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

# A space counts as exhausted after this many generations without a new spec.
_PATIENCE = 20


def search_evolving(
    space: SearchSpace,
    mode: Mode,
    budget: Evaluations,
    *,
    population: int,
    seed: int,
    screen: Screen | None = None,
) -> None:
    """Spend `budget` on the specs of `mode` with NSGA-II; the result is ``budget.points``.

    Starts from `first_specs`. Same seed, same points, however many processes evaluate. Children that break a
    limit known without decoding are shrunk until they keep it; of two specs that break other limits, the
    one with the smaller violation wins (Deb's constrained domination).

    Args:
        space: depths and widths to choose from.
        mode: mode of all specs.
        budget: evaluates specs; the smallest spec of `mode` must keep its limits.
        population: specs per generation.
        seed: seed of all random choices.
        screen: selects a generation from a larger one by a cheap figure.

    Raises:
        UserError: pymoo is not installed.
    """
    try:
        from todm.search.evolution import Evolution
    except ImportError as error:
        raise UserError(
            f"todm search: pymoo is not installed ({error}); pip install 'todm[search]', or give "
            "--baseline random"
        ) from error

    encoding = Encoding(space=space, mode=mode)
    first = first_specs(space, mode, population, seed=seed, excess=budget.objectives.early_excess)
    evolution = Evolution(encoding, budget.objectives, first, population=population, seed=seed)
    stale = 0
    while not budget.spent and stale < _PATIENCE:
        oversampling = screen.oversampling(budget) if screen is not None and budget.points else 1
        generation = evolution.ask(population * oversampling)
        if len(generation) == 0:
            return
        if screen is not None and len(generation) > population:
            specs = [encoding.decode(genes) for genes in generation.get("X")]
            generation = generation[screen.pick(specs, budget, population)]
        known = len(budget.points)
        points = budget([encoding.decode(genes) for genes in generation.get("X")])
        done = [point for point in points if point is not None]
        if len(done) < len(points):
            return
        evolution.tell(generation, done)
        stale = 0 if len(budget.points) > known else stale + 1


def search_at_random(
    space: SearchSpace,
    mode: Mode,
    budget: Evaluations,
    *,
    population: int,
    seed: int,
    screen: Screen | None = None,
) -> None:
    """Spend `budget` on min, max, mid and then random specs of `mode`, those outside the limits shrunk."""
    rng = random.Random(f"random-search-{seed}-{mode}")
    specs = itertools.chain(_sizes(space, mode), _samples(space, mode, rng))
    _spend(budget, _distinct(_inside(specs, space, mode, rng, budget.objectives.early_excess)), population)


def search_grid(
    space: SearchSpace,
    mode: Mode,
    budget: Evaluations,
    *,
    population: int,
    seed: int,
    screen: Screen | None = None,
) -> None:
    """Spend `budget` on an even grid over the specs of `mode`, equally many of each depth."""
    rng = random.Random(f"grid-search-{seed}-{mode}")
    share = -(-budget.left // len(space.depths))
    specs = itertools.chain(_sizes(space, mode), grid_specs(space, mode, share), _samples(space, mode, rng))
    _spend(budget, _distinct(_inside(specs, space, mode, rng, budget.objectives.early_excess)), population)


SEARCHES = {"nsga2": search_evolving, "random": search_at_random, "grid": search_grid}
"""Search functions by the name of the method."""


def first_specs(
    space: SearchSpace,
    mode: Mode,
    population: int,
    *,
    seed: int,
    excess: Callable[[SubnetSpec], float] = lambda _: 0.0,
) -> list[SubnetSpec]:
    """The first generation: min, max, specs of one width everywhere at even steps of size, then random ones.

    Widths drawn layer by layer average out to the middle; the specs of one width spread over the whole
    front, and a search that starts from them needs far fewer evaluations.

    Args:
        space: depths and widths to choose from.
        mode: mode of all specs.
        population: number of specs.
        seed: seed of the random specs.
        excess: above 0 for specs outside the limits; these are shrunk until they are inside.
    """
    rng = random.Random(f"first-specs-{seed}-{mode}")
    ends = [space.min(mode), space.max(mode)]
    even = spread_uniform(space, mode, population - len(ends), exclude=ends)
    specs = itertools.chain(ends, even, _samples(space, mode, rng))
    return list(itertools.islice(_distinct(_inside(specs, space, mode, rng, excess)), population))


def grid_specs(space: SearchSpace, mode: Mode, count: int) -> Iterator[SubnetSpec]:
    """At most `count` specs of each depth, at even steps through all combinations of widths."""
    for depth in space.depths:
        layers = space.layers_at(depth)
        total = math.prod(len(values) ** depth for values in space.widths.values())
        for index in dict.fromkeys(i * (total - 1) // max(1, count - 1) for i in range(count)):
            widths = {}
            for name, values in space.widths.items():
                places = []
                for _ in layers:
                    index, place = divmod(index, len(values))
                    places.append(values[place])
                widths[name] = tuple(places)
            yield SubnetSpec(layers=layers, widths=widths, mode=mode)


def _spend(budget: Evaluations, specs: Iterator[SubnetSpec], at_once: int) -> None:
    while not budget.spent:
        chunk = list(itertools.islice(specs, at_once))
        if not chunk:
            return
        budget(chunk)


def _inside(
    specs: Iterable[SubnetSpec],
    space: SearchSpace,
    mode: Mode,
    rng: random.Random,
    excess: Callable[[SubnetSpec], float],
) -> Iterator[SubnetSpec]:
    encoding = Encoding(space=space, mode=mode)
    for spec in specs:
        if excess(spec) > 0:
            spec = encoding.decode(shrink(encoding, excess, encoding.encode(spec), rng.choice))
        yield spec


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
