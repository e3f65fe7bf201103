"""Read a run folder. Whatever is missing or broken is noted, never fatal: a report is for half a run too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from todm.config import Config
from todm.config_io import load_config
from todm.errors import UserError
from todm.runtime.benchmark_result import BenchmarkResult
from todm.runtime.layout import BundleFiles
from todm.search.front import Point, SearchResult
from todm.search.latency import DeviceTable
from todm.space.cost import count_params
from todm.space.spec import SubnetSpec

LADDER = ("min", "mid", "max", "min-streaming", "mid-streaming", "max-streaming")


@dataclass(frozen=True, kw_only=True)
class Decode:
    """One decoded part of the corpus.

    Args:
        model: folder name under ``EXP/decode``.
        part: part of the corpus.
        wer: word error rate, percent.
        interval: 95% bootstrap interval of it, percent; None when not known.
        counts: ``words``, ``ins``, ``del`` and ``sub``, where known.
    """

    model: str
    part: str
    wer: float
    interval: tuple[float, float] | None
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One subnet of the run.

    Args:
        name: folder name under ``EXP/subnets``.
        spec: what it is.
        vocab_size: V; None when the supernet's tokens are not there.
        params: its parameters; None when the supernet's config is not there.
        wer: percent by part.
        bundle: ONNX folder relative to the run folder; None when there is none.
        megabytes: size of the ONNX files (10^6 bytes) by precision, ``fp32``, ``int8`` and ``fp16``.
        rtf: seconds of work per second of audio by precision, with the fewest threads that were measured.
        parity: what ``todm verify`` found, flat.
    """

    name: str
    spec: SubnetSpec
    vocab_size: int | None
    params: int | None
    wer: Mapping[str, float]
    bundle: str | None
    megabytes: Mapping[str, float]
    rtf: Mapping[str, float]
    parity: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Specs that the search looked at: `points` all of them, `found` the fronts."""

    points: tuple[Point, ...] = ()
    found: SearchResult | None = None

    @property
    def front(self) -> tuple[Point, ...]:
        """Of all modes and budgets; those with a WER only."""
        return tuple(p for p in self.found.points if "wer" in p.figures) if self.found else ()


@dataclass(frozen=True, kw_only=True)
class Worst:
    """Utterances with the most errors of one decoded part.

    Args:
        model: folder name under ``EXP/decode``.
        part: part of the corpus.
        total: how many utterances have errors.
        utterances: id, ``2 of 7`` and alignment, worst first.
    """

    model: str
    part: str
    total: int
    utterances: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything a report shows.

    `beside` are other runs whose nets are shown as trained alone; `missing` says in words what was not found.
    """

    exp: Path
    config: Config | None
    sizes: tuple[Size, ...]
    decodes: tuple[Decode, ...]
    evaluated: Evaluated
    metrics: tuple[Mapping[str, Any], ...]
    benchmarks: tuple[BenchmarkResult, ...]
    devices: tuple[DeviceTable, ...]
    commands: str
    stages: Mapping[str, int]
    comparison: Mapping[str, Any] = field(default_factory=dict)
    worst: tuple[Worst, ...] = ()
    beside: tuple[Run, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that any size was decoded on, those of the config first and in its order."""
        found = {part for size in self.sizes for part in size.wer}
        known = (*self.config.data.dev_parts, *self.config.data.test_parts) if self.config else ()
        return tuple(part for part in known if part in found) + tuple(sorted(found - set(known)))


def gather(exp: Path, beside: Iterable[Path] = ()) -> Run:
    """Read all of `exp`, and the nets of other runs; a folder that is not there raises `UserError`."""
    for folder in (exp, *(beside := list(beside))):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such run folder; give the --exp-dir of a run")
    return replace(_Reader(exp).read(), beside=tuple(_Reader(other).read() for other in beside))


class _Reader:
    def __init__(self, exp: Path) -> None:
        self.exp = exp
        self.missing: list[str] = []

    def read(self) -> Run:
        config = self.config()
        decodes = tuple(self.decodes())
        benchmarks = tuple(self.benchmarks())
        return Run(
            exp=self.exp,
            config=config,
            sizes=tuple(self.sizes(config, decodes, benchmarks)),
            decodes=decodes,
            evaluated=self.evaluated(config),
            metrics=tuple(self.metrics()),
            benchmarks=benchmarks,
            devices=tuple(self.devices()),
            commands=self.commands(),
            stages=self.stages(),
            comparison=self.comparison(),
            worst=tuple(self.worst(decodes)),
            missing=tuple(self.missing),
        )

    def note(self, what: str, remedy: str) -> None:
        self.missing.append(f"{what}: {remedy}.")

    def json(self, path: Path) -> Any:
        """The content of a JSON file, None after a note when it cannot be read."""
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self.note(str(path.relative_to(self.exp)), f"not readable ({error})")
            return None

    def config(self) -> Config | None:
        path = self.exp / "config.yaml"
        try:
            return load_config(path, [])
        except UserError as error:
            self.note("config.yaml", f"no settings of this run ({error}); stage 4, todm train, writes them")
            return None

    def vocab_size(self) -> int | None:
        for folder in ("supernet", "data/lang"):
            path = self.exp / folder / "tokens.txt"
            if path.is_file():
                return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        return None

    def decodes(self) -> Iterator[Decode]:
        paths = sorted(self.exp.glob("decode/*/*.json"))
        if not paths:
            self.note("decode", "nothing decoded yet; stage 9, todm decode, does it")
        for path in paths:
            data = self.json(path)
            if not isinstance(data, dict) or not isinstance(data.get("wer"), int | float):
                if data is not None:
                    self.note(str(path.relative_to(self.exp)), "not a result of todm decode")
                continue
            ci = data.get("ci95")
            yield Decode(
                model=path.parent.name,
                part=path.stem,
                wer=float(data["wer"]),
                interval=(float(ci[0]), float(ci[1])) if isinstance(ci, list) and len(ci) == 2 else None,
                counts={key: int(data[key]) for key in ("words", "ins", "del", "sub") if key in data},
            )

    def benchmarks(self) -> Iterator[BenchmarkResult]:
        paths = sorted(self.exp.glob("bench/*.json"))
        if not paths:
            self.note("bench", "no speeds measured yet; stage 11, todm bench, does it")
        for path in paths:
            for result in _find_dicts(self.json(path), "rtf"):
                yield BenchmarkResult.from_dict({"name": path.stem, **result}, str(path))

    def devices(self) -> Iterator[DeviceTable]:
        """Tables of ``todm latency``; none are missed, since a device is needed for them."""
        for path in sorted(self.exp.glob("devices/*.json")):
            try:
                yield DeviceTable.load(path)
            except UserError as error:
                self.note(f"devices/{path.name}", str(error))

    def sizes(
        self, config: Config | None, decodes: tuple[Decode, ...], benchmarks: tuple[BenchmarkResult, ...]
    ) -> Iterator[Size]:
        vocab_size = self.vocab_size()
        found: list[Size] = []
        for path in sorted(self.exp.glob("subnets/*/spec.json")):
            name = path.parent.name
            try:
                spec = SubnetSpec.load(path)
            except UserError as error:
                self.note(f"subnets/{name}", str(error))
                continue
            params = count_params(config.model, spec, vocab_size) if config and vocab_size else None
            bundle = self.exp / "bundles" / name
            parity = bundle / "parity.json"
            found.append(
                Size(
                    name=name,
                    spec=spec,
                    vocab_size=vocab_size,
                    params=params,
                    wer={item.part: item.wer for item in decodes if item.model == name},
                    bundle=f"bundles/{name}" if BundleFiles(bundle).encoder().is_file() else None,
                    megabytes=_megabytes(bundle),
                    rtf=_speeds(item for item in benchmarks if item.name == name),
                    parity=_flat(self.json(parity)) if parity.is_file() else {},
                )
            )
        self.note_gaps(found)
        rank = {name: index for index, name in enumerate(LADDER)}
        yield from sorted(
            found, key=lambda s: (rank.get(s.name, len(rank)), s.spec.mode, s.params or 0, s.name)
        )

    def note_gaps(self, sizes: list[Size]) -> None:
        if not sizes:
            self.note("subnets", "none extracted yet; stage 7, todm extract, does it")
            return
        modes = {size.spec.mode for size in sizes}
        absent = [
            name
            for name in LADDER
            if name not in {size.name for size in sizes}
            and ("streaming" if name.endswith("streaming") else "offline") in modes
        ]
        no_bundle = [size.name for size in sizes if not size.bundle]
        no_parity = [size.name for size in sizes if size.bundle and not size.parity]
        for names, what in (
            (absent, "not extracted; stage 7, todm extract --ladder, makes them"),
            (no_bundle, "no ONNX folder; stage 10, todm export, makes it"),
            (no_parity, "ONNX folder not compared with torch; stage 10, todm verify, does it"),
        ):
            if names:
                self.note(", ".join(names), what)

    def evaluated(self, config: Config | None) -> Evaluated:
        path = self.exp / "search" / "pareto.json"
        try:
            found = SearchResult.load(path)
        except UserError:
            self.note("search/pareto.json", "no search yet; stage 6, todm search, does it")
            return Evaluated()
        vocab_size = self.vocab_size()
        points: list[Point] = []
        if config and vocab_size:
            points = list(self.cached_points(config, vocab_size))
        return Evaluated(points=tuple(points), found=found)

    def cached_points(self, config: Config, vocab_size: int) -> Iterator[Point]:
        """Decoded specs of the newest context: that of the file's last line with a word error rate."""
        path = self.exp / "search" / "cache.jsonl"
        entries = [] if not path.is_file() else list(self.lines(path))
        # Sizes and proxies are kept in the same file.
        entries = [e for e in entries if not isinstance(e.get("result"), dict) or "wer" in e["result"]]
        for entry in entries:
            try:
                if entry["context"] == entries[-1]["context"]:
                    spec = SubnetSpec.from_dict(entry["spec"])
                    params = entry["result"].get("params") or count_params(config.model, spec, vocab_size)
                    yield Point(
                        spec=spec, figures={"wer": float(entry["result"]["wer"]), "params": float(params)}
                    )
            except (KeyError, TypeError, ValueError) as error:
                self.note("search/cache.jsonl", f"a line is not an evaluation ({error})")

    def comparison(self) -> Mapping[str, Any]:
        """What ``todm search --compare-seeds`` found; nothing is missed without it."""
        path = self.exp / "search" / "compare.json"
        found = self.json(path) if path.is_file() else None
        return found if isinstance(found, dict) and isinstance(found.get("modes"), dict) else {}

    def worst(self, decodes: Iterable[Decode], limit: int = 10) -> Iterator[Worst]:
        """From the alignments that ``todm decode`` writes."""
        for item in decodes:
            path = self.exp / "decode" / item.model / f"{item.part}.errors.txt"
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            rows = [tuple(line.split("\t")) for line in lines]
            wrong = [row for row in rows if len(row) == 3 and re.fullmatch(r"\d+ of \d+", row[1])]
            if wrong:
                utterances = tuple((row[0], row[1], row[2]) for row in wrong[:limit])
                yield Worst(model=item.model, part=item.part, total=len(wrong), utterances=utterances)

    def metrics(self) -> Iterator[Mapping[str, Any]]:
        path = self.exp / "train" / "metrics.jsonl"
        if not path.is_file():
            self.note("train/metrics.jsonl", "no training curves; stage 4, todm train, writes them")
            return
        yield from (line for line in self.lines(path) if isinstance(line.get("step"), int))

    def lines(self, path: Path) -> Iterator[dict[str, Any]]:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                value = json.loads(line)
            except ValueError:  # a line that is just being written
                continue
            if isinstance(value, dict):
                yield value

    def commands(self) -> str:
        path = self.exp / "commands.txt"
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
        self.note("commands.txt", "the commands were not noted; recipes/librispeech/run.sh notes its own")
        return ""

    def stages(self) -> dict[str, int]:
        """Seconds that each finished stage took, in order."""
        seconds: dict[str, int] = {}
        for path in sorted(self.exp.glob(".done/*"), key=lambda p: int(p.name.split("-")[0] or 0)):
            for line in path.read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "seconds" and value.isdigit():
                    seconds[path.name] = int(value)
        return seconds


def _megabytes(bundle: Path) -> dict[str, float]:
    """Of the three files that each precision opens, a part without one of its own in float."""
    files = BundleFiles(bundle)
    return {precision: files.num_bytes(precision) / 1e6 for precision in files.precisions}


def _speeds(benchmarks: Iterable[BenchmarkResult]) -> dict[str, float]:
    """The RTF of each precision in our own runtime; of several numbers of threads the smallest."""
    own = (item for item in benchmarks if item.runtime == "onnxruntime")
    ordered = sorted(own, key=lambda item: -item.num_threads)
    return {item.precision: item.rtf for item in ordered}


def _find_dicts(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """Dicts anywhere in `value` that have `key`."""
    if isinstance(value, dict):
        if key in value:
            yield value
        else:
            for name, item in value.items():
                for found in _find_dicts(item, key):
                    yield {"precision": name, **found} if name in ("fp32", "int8", "fp16") else found
    elif isinstance(value, list):
        for item in value:
            yield from _find_dicts(item, key)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keys joined by blanks; lists are left out."""
    if not isinstance(value, dict):
        return {}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, dict):
            flat.update(_flat(item, f"{name} "))
        elif isinstance(item, bool | int | float | str):
            flat[name] = item
    return flat
