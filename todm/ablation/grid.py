"""Grids: named variants of one config over seeds, described by one YAML file.

::

    base: conf/tiny.yaml                # settings of all runs, relative to this file
    settings: {train.max_steps: 1500}   # on top of it, for all runs
    seeds: [1, 2, 3]
    variants:
      all: {}
      constant: {settings: {train.dropout.policy: constant}}
      alone-min: {settings: {space.depths: [4]}, sizes: {min: max}}   # its max net is the others' min
    tables:
      - {title: Without one of them, reference: all, variants: [constant], sizes: [min, max]}
    curves:
      - {title: Sparsity, variants: [weak, strong], sizes: [max]}
    races:
      - {title: Time to 3%, reference: alone, variants: [all], wer: 3.0}   # needs train.valid_interval
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from todm.config import Config, load_config
from todm.config.yaml_reader import read_yaml
from todm.errors import UserError
from todm.space.space import SearchSpace

SIZES = ("min", "max")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A named change of the grid's settings.

    Args:
        settings: dotted names and values that override the grid's.
        sizes: names of sizes in tables, and their names in the variant's ladder; if given, it has no others.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)

    def ladder_name(self, size: str) -> str | None:
        """Return the ladder name of the size `size` of a table; None if the variant has no such size."""
        return self.sizes.get(size) if self.sizes else size


@dataclass(frozen=True, kw_only=True)
class Table:
    """Table of variants compared with a reference, size by size.

    Args:
        title: its heading.
        reference: variant that the others are compared with.
        variants: the other variants, in order.
        sizes: sizes to show.
    """

    title: str
    reference: str
    variants: tuple[str, ...]
    sizes: tuple[str, ...] = SIZES


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Plot of WER over the share of non-zero feed-forward weights.

    Args:
        title: its heading.
        variants: the points, in order.
        sizes: a line each.
    """

    title: str
    variants: tuple[str, ...]
    sizes: tuple[str, ...] = SIZES


@dataclass(frozen=True, kw_only=True)
class Race:
    """Comparison of the training time until every validated size reaches a WER.

    Args:
        title: its heading.
        reference: variant whose time divides the others', seed by seed.
        variants: the other variants, in order.
        wer: WER in percent that all sizes must reach in the same validation.
    """

    title: str
    reference: str
    variants: tuple[str, ...]
    wer: float


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One training of the grid.

    Args:
        variant: name of the variant.
        seed: seed of the training.
        config: resolved config.
    """

    variant: str
    seed: int
    config: Config

    @property
    def digest(self) -> str:
        """Digest of the config; variants with the same settings share a run."""
        return hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Content of a grid file; see the module's docstring."""

    path: Path
    base: Path
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    variants: Mapping[str, Variant]
    tables: tuple[Table, ...]
    curves: tuple[Curve, ...]
    races: tuple[Race, ...] = ()

    def config(self, settings: Mapping[str, Any]) -> Config:
        """Resolve the base config with the grid's settings, then these."""
        merged = {**self.settings, **settings}
        return load_config(self.base, [f"--{key}={_word(value)}" for key, value in merged.items()])

    def plan(self, only: Sequence[str] = ()) -> list[PlannedRun]:
        """List all runs, seed by seed, so that an unfinished grid has equally many runs of every variant.

        Args:
            only: names of variants; empty takes all.

        Raises:
            UserError: an unknown name, impossible settings, other data than the other variants, a size that
                the variant's ladder does not have, or a race that cannot be timed.
        """
        unknown = sorted(set(only) - set(self.variants))
        if unknown:
            raise UserError(f"{self.path}: no variant {unknown[0]!r}; it has {', '.join(self.variants)}")
        data = self.config({}).data
        configs = {}
        for name in only or self.variants:
            try:
                config = configs[name] = self.config(self.variants[name].settings)
                self._check_sizes(name, config)
                self._check_clock(name, config)
            except UserError as error:
                raise UserError(f"{self.path}: variants.{name}: {error}") from error
            if config.data != data:
                raise UserError(
                    f"{self.path}: variants.{name}: settings of data must be those of all variants, "
                    "because the corpus is prepared once; move them to the grid's settings"
                )
        return [
            PlannedRun(variant=name, seed=seed, config=_with_seed(config, seed))
            for seed in self.seeds
            for name, config in configs.items()
        ]

    def _check_sizes(self, name: str, config: Config) -> None:
        ladder = SearchSpace.from_config(config).ladder()
        shown = [(t.sizes, (t.reference, *t.variants)) for t in self.tables]
        shown += [(c.sizes, c.variants) for c in self.curves]
        for sizes, variants in shown:
            for size in sizes if name in variants else ():
                wanted = self.variants[name].ladder_name(size)
                if wanted is not None and wanted not in ladder:
                    raise UserError(f"sizes: it has no {wanted}, only {', '.join(ladder)}")

    def _check_clock(self, name: str, config: Config) -> None:
        """Refuse a race that cannot be timed: validations must coincide with log intervals."""
        valid, log = config.train.valid_interval, config.train.log_interval
        racing = any(name in (race.reference, *race.variants) for race in self.races)
        if racing and (valid < 0 or valid % log):
            raise UserError(
                f"train.valid_interval: {valid} is not a multiple of train.log_interval, {log}; "
                "races need that to be timed"
            )


def load_grid(path: Path) -> Grid:
    """Read a grid.

    Raises:
        UserError: a missing file, not YAML, unknown or missing keys, or unknown names.
    """
    data = read_yaml(path)
    optional = {"settings", "tables", "curves", "races"}
    data = _section(data, str(path), required={"base", "seeds", "variants"}, optional=optional)
    seeds = data["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise UserError(f"{path}: seeds: need whole numbers, got {seeds!r}")
    if not isinstance(data["variants"], dict) or not data["variants"]:
        raise UserError(f"{path}: variants: need a name and settings each")
    variants = {}
    for name, value in data["variants"].items():
        where = f"{path}: variants.{name}"
        variants[str(name)] = Variant(**_section(value or {}, where, optional={"settings", "sizes"}))
    tables, curves = [], []
    for entry in data.get("tables") or []:
        keys = {"title", "reference", "variants"}
        entry = _section(entry, f"{path}: tables", required=keys, optional={"sizes"})
        tables.append(
            Table(title=entry["title"], reference=entry["reference"], **_lists(entry, f"{path}: tables"))
        )
    for entry in data.get("curves") or []:
        entry = _section(entry, f"{path}: curves", required={"title", "variants"}, optional={"sizes"})
        curves.append(Curve(title=entry["title"], **_lists(entry, f"{path}: curves")))
    races = []
    for entry in data.get("races") or []:
        entry = _section(entry, f"{path}: races", required={"title", "reference", "variants", "wer"})
        wer = entry["wer"]
        if type(wer) not in (int, float) or not 0 <= wer < math.inf:
            raise UserError(f"{path}: races: wer: need a percentage, got {wer!r}")
        races.append(Race(**{**entry, **_lists(entry, f"{path}: races")}))
    named = {name for table in tables for name in (table.reference, *table.variants)}
    named |= {name for race in races for name in (race.reference, *race.variants)}
    named |= {name for curve in curves for name in curve.variants}
    for name in sorted(named - set(variants)):
        raise UserError(f"{path}: tables, curves or races name {name!r}, which is not a variant")
    return Grid(
        path=path,
        base=path.parent / str(data["base"]),
        settings=data.get("settings") or {},
        seeds=tuple(dict.fromkeys(seeds)),
        variants=variants,
        tables=tuple(tables),
        curves=tuple(curves),
        races=tuple(races),
    )


def _section(
    data: Any, where: str, *, required: set[str] | None = None, optional: set[str] | None = None
) -> dict[str, Any]:
    required, optional = required or set(), optional or set()
    if not isinstance(data, dict):
        raise UserError(f"{where}: must hold {', '.join(sorted(required | optional))}, not {data!r}")
    for key in sorted(required - set(data)):
        raise UserError(f"{where}: {key} is missing")
    for key in sorted(set(data) - required - optional):
        raise UserError(f"{where}: {key!r} is unknown; it may hold {', '.join(sorted(required | optional))}")
    return data


def _with_seed(config: Config, seed: int) -> Config:
    return replace(config, train=replace(config.train, seed=seed))


def _lists(entry: dict[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    """Read the lists of names of an entry; raises `UserError` for anything else."""
    if not isinstance(entry.get("reference", ""), str):
        raise UserError(f"{where}: reference: need a name, got {entry['reference']!r}")
    lists = {key: entry[key] for key in ("variants", "sizes") if key in entry}
    for key, names in lists.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: {key}: need a list of names, got {names!r}")
    return {key: tuple(names) for key, names in lists.items()}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
