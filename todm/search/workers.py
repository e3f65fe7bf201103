"""Evaluate specs in this process or in several, with one cache."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from todm.errors import UserError
from todm.search.cache import EvalCache
from todm.space.spec import SubnetSpec

Result = Mapping[str, Any]
MakeEvaluate = Callable[[], Callable[[SubnetSpec], Result]]


class Workers:
    """Evaluates specs that the cache does not know, each once.

    A worker writes its result to the cache before returning it, so that no evaluation is lost when a process
    is killed. Nothing is loaded before the first unknown spec.

    Args:
        make_evaluate: loads the evaluation and returns it; must be picklable for several workers.
        cache: cache of the results.
        count: number of processes; 1 evaluates in this process.

    Use it as a context manager: leaving it ends the processes.
    """

    def __init__(self, make_evaluate: MakeEvaluate, cache: EvalCache, count: int = 1) -> None:
        self.cache = cache
        self.count = count
        self._make_evaluate = make_evaluate
        self._evaluate: Callable[[SubnetSpec], Result] | None = None
        self._processes: dict[Connection, Any] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for connection, process in self._processes.items():
            connection.close()  # ends its loop
            process.terminate()
            process.join()
        self._processes.clear()

    def __call__(self, specs: Sequence[SubnetSpec]) -> Iterator[tuple[SubnetSpec, Result]]:
        """Yield specs and results in the order of completion."""
        missing = []
        for spec in specs:
            if (known := self.cache.get(spec)) is not None:
                yield spec, known
            else:
                missing.append(spec)
        yield from self._here(missing) if self.count == 1 else self._apart(missing)

    def _here(self, specs: Sequence[SubnetSpec]) -> Iterator[tuple[SubnetSpec, Result]]:
        for spec in specs:
            if self._evaluate is None:
                self._evaluate = self._make_evaluate()
            yield spec, _evaluate_once(spec, self._evaluate, self.cache)

    def _apart(self, specs: Sequence[SubnetSpec]) -> Iterator[tuple[SubnetSpec, Result]]:
        if specs and not self._processes:
            self._start()
        queue, at_work = list(specs), 0
        for connection in self._processes:
            if queue:
                connection.send(queue.pop(0))
                at_work += 1
        while at_work:
            for ready in wait(list(self._processes)):
                assert isinstance(ready, Connection)
                try:
                    answer = ready.recv()
                except EOFError:
                    raise UserError(
                        "search.workers: a process died, perhaps for lack of memory; use fewer workers"
                    ) from None
                if isinstance(answer, Exception):
                    raise answer
                if queue:
                    ready.send(queue.pop(0))
                else:
                    at_work -= 1
                yield answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for _ in range(self.count):
            ours, theirs = context.Pipe()
            arguments = (theirs, self._make_evaluate, self.cache.path, self.cache.context)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._processes[ours] = process


def _work(connection: Connection, make_evaluate: MakeEvaluate, path: Any, context: str) -> None:
    """Evaluate specs from a connection until it is closed."""
    try:
        cache = EvalCache(path, context=context)
        evaluate = make_evaluate()
        while True:
            spec = connection.recv()
            connection.send((spec, _evaluate_once(spec, evaluate, cache)))
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:
        connection.send(error)


def _evaluate_once(spec: SubnetSpec, evaluate: Callable[[SubnetSpec], Result], cache: EvalCache) -> Result:
    known = cache.get(spec)  # another process may have evaluated it meanwhile
    if known is None:
        known = dict(evaluate(spec))
        cache.put(spec, known)
    return known
