"""Gather the results of a grid for its tables and plots."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from todm.ablation.grid import Grid, Race, Table
from todm.ablation.layout import GridRun
from todm.ablation.runs import run_folder
from todm.ablation.statistics import Draws, Estimate, difference, estimate
from todm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant at one size.

    Args:
        variant: name of the variant.
        size: name of the size in the table.
        wer: mean WER over the seeds.
        by_seed: WER of each seed, percent.
        versus: difference from the reference in points, over common seeds; None for the reference.
        params: parameters, mean over the seeds.
        nonzero: share of non-zero feed-forward weights, mean over the seeds.
        seconds: training time, mean over the seeds.
    """

    variant: str
    size: str
    wer: Estimate
    by_seed: dict[int, float]
    versus: Estimate | None
    params: float
    nonzero: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Finish:
    """One variant in a race.

    Args:
        variant: name of the variant.
        seconds: training time until all sizes reached the WER, by seed; None if they never did.
        ratios: ratio to the reference's time with the same seed, if it reached the WER; infinite if this
            variant did not.
    """

    variant: str
    seconds: dict[int, float | None]
    ratios: dict[int, float]


class Results:
    """Finished runs of a grid.

    Args:
        grid: the grid.
        exp_dir: its folder.

    Raises:
        UserError: an unreadable result.
    """

    def __init__(self, grid: Grid, exp_dir: Path) -> None:
        self.grid = grid
        self.found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in grid.variants}
        self.missing: list[tuple[str, int]] = []
        for run in grid.plan():
            path = GridRun(run_folder(exp_dir, run)).result
            if not path.is_file():
                self.missing.append((run.variant, run.seed))
                continue
            try:
                self.found[run.variant][run.seed] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise UserError(
                    f"{path}: not readable ({error}); delete it and run the grid again"
                ) from error

    def table(self, table: Table) -> list[Row]:
        """Return the rows with results, reference first, size by size."""
        rows = []
        for size in table.sizes:
            for name in (table.reference, *table.variants):
                row = self.row(name, size, table.reference)
                if row is not None:
                    rows.append(row)
        return rows

    def row(self, variant: str, size: str, reference: str | None = None) -> Row | None:
        """Return the row of a variant at a size; None without a finished run."""
        sizes = self._sizes(variant, size)
        if not sizes:
            return None
        errors, words = _errors(sizes)
        versus = None
        others = self._sizes(reference, size) if reference not in (None, variant) else {}
        common = [seed for seed in sizes if seed in others]
        if common:
            mine, _ = _errors({seed: sizes[seed] for seed in common})
            theirs, their_words = _errors({seed: others[seed] for seed in common})
            if not np.array_equal(words, their_words):
                raise UserError(f"{variant}, {reference}: decoded different utterances; run the grid anew")
            versus = difference(mine, theirs, words, Draws.make(len(common), len(words)))
        runs = [self.found[variant][seed] for seed in sizes]
        return Row(
            variant=variant,
            size=size,
            wer=estimate(errors, words, Draws.make(len(sizes), len(words))),
            by_seed={seed: float(entry["wer"]) for seed, entry in sizes.items()},
            versus=versus,
            params=_mean([entry["params"] for entry in sizes.values()]),
            nonzero=_mean([entry["ffn_nonzero"] / entry["ffn_weights"] for entry in sizes.values()]),
            seconds=_mean([run["cost"]["seconds"] for run in runs]),
        )

    def race(self, race: Race) -> list[Finish]:
        """Return the times of a race, the reference first, without variants that have no finished run."""
        by_name = {name: self._times(name, race.wer) for name in (race.reference, *race.variants)}
        theirs = by_name[race.reference]
        finishes = []
        for name, times in by_name.items():
            ratios = {
                seed: math.inf if taken is None else taken / other
                for seed, taken in times.items()
                if (other := theirs.get(seed)) is not None
            }
            if times:
                finishes.append(Finish(variant=name, seconds=times, ratios=ratios))
        return finishes

    def _times(self, variant: str, wer: float) -> dict[int, float | None]:
        """Seconds until all sizes reached `wer`, by seed; None if they never did."""
        return {
            seed: next(
                (one["seconds"] for one in result["validations"] if max(one["wer"].values()) <= wer), None
            )
            for seed, result in sorted(self.found[variant].items())
        }

    def _sizes(self, variant: str, size: str) -> dict[int, dict[str, Any]]:
        name = self.grid.variants[variant].ladder_name(size)
        if name is None:
            return {}
        return {seed: result["sizes"][name] for seed, result in sorted(self.found[variant].items())}


def _errors(sizes: dict[int, dict[str, Any]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return errors (R, M) and words (M,) of the utterances in the order of their ids."""
    ids = sorted(next(iter(sizes.values()))["utterances"])
    counts = np.array([[entry["utterances"][name] for name in ids] for entry in sizes.values()])
    return counts[:, :, 0], counts[0, :, 1]


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
