"""NSGA-II (Deb et al., 2002) in pymoo, one generation at a time; requires pymoo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import ElementwiseDuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UX
from pymoo.operators.mutation.pm import PM
from pymoo.problems.static import StaticProblem

from todm.search.encoding import Encoding, shrink
from todm.search.front import Point
from todm.search.objective_set import ObjectiveSet
from todm.space.spec import SubnetSpec


class KeepLimits(Repair):  # type: ignore[misc]  # pymoo has no types
    """Shrinks children that break a limit known without decoding.

    Args:
        encoding: meaning of the genes.
        excess: 0 for specs inside the limits.
    """

    def __init__(self, encoding: Encoding, excess: Callable[[SubnetSpec], float]) -> None:
        super().__init__()
        self.encoding = encoding
        self.excess = excess

    def _do(self, problem: Any, values: Any, random_state: Any = None, **_: Any) -> Any:
        rows = np.around(values).astype(int)
        pick: Callable[[Sequence[int]], int] = random_state.choice
        return np.array([shrink(self.encoding, self.excess, row.tolist(), pick) for row in rows])


class Evolution:
    """NSGA-II over the genes of an `Encoding`.

    Args:
        encoding: meaning of the genes.
        objectives: figures to minimise, and limits.
        first: the first generation.
        population: specs per generation.
        seed: seed of all random choices.
    """

    def __init__(
        self,
        encoding: Encoding,
        objectives: ObjectiveSet,
        first: Sequence[SubnetSpec],
        *,
        population: int,
        seed: int,
    ) -> None:
        self._objectives = objectives
        self._algorithm = NSGA2(
            pop_size=population,
            sampling=np.array([encoding.encode(spec) for spec in first]),
            crossover=UX(prob=0.9),
            # Two genes a child on average. Widths and depths are ordered: small steps are likelier than big
            # ones.
            mutation=PM(prob=1.0, prob_var=2.0 / len(encoding.upper), eta=3.0),
            repair=KeepLimits(encoding, objectives.early_excess),
            # Several vectors may mean one spec.
            eliminate_duplicates=ElementwiseDuplicateElimination(
                lambda a, b: encoding.decode(a.X) == encoding.decode(b.X)
            ),
        )
        shape = {"n_obj": len(objectives.names), "n_ieq_constr": len(objectives.limits)}
        upper = np.array(encoding.upper)
        self._problem = Problem(n_var=len(upper), xl=0, xu=upper, vtype=int, **shape)
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=seed, verbose=False)

    def ask(self, count: int) -> Any:
        """Draw the next generation, a pymoo population whose ``get("X")`` are genes; empty if there is none.

        Args:
            count: number of children; the first generation is that of the constructor.
        """
        self._algorithm.n_offsprings = count
        generation = self._algorithm.ask()
        return () if generation is None else generation

    def tell(self, generation: Any, points: Sequence[Point]) -> None:
        """Hand back the figures of a generation.

        Args:
            generation: result of `ask`, or a part of it.
            points: figures of its specs, in order.
        """
        names = self._objectives.names
        values = {"F": np.array([point.values(names) for point in points], dtype=float)}
        if self._objectives.limits:
            values["G"] = np.array([self._objectives.excesses(point) for point in points], dtype=float)
        Evaluator().eval(StaticProblem(self._problem, **values), generation)
        self._algorithm.tell(infills=generation)
