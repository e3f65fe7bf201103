"""Reading of a run folder for a report.

A missing or broken file is noted and never fatal, since a run may be unfinished.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from todm.config import Config, load_config
from todm.errors import UserError
from todm.files import read_json
from todm.layout import BenchFolder, LangFolder, ModelFolder, RunFolder
from todm.report.contents import (
    LADDER,
    PartScore,
    RunContents,
    SearchContents,
    Size,
    WorstUtterances,
)
from todm.runtime.benchmark_result import BenchmarkResult, read_results
from todm.runtime.layout import BundleFiles
from todm.search.front import Point, SearchResult
from todm.search.latency import DeviceTable
from todm.space.cost import count_params
from todm.space.spec import SubnetSpec

NUM_WORST = 10
"""Utterances shown per decoded part."""


def gather(exp: Path, compared: Iterable[Path] = ()) -> RunContents:
    """Read a run folder.

    Args:
        exp: run folder.
        compared: run folders of nets that were trained alone, for comparison.

    Raises:
        UserError: one of the folders does not exist.
    """
    compared = list(compared)
    for folder in (exp, *compared):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such run folder; give the --exp-dir of a run")
    return replace(_Reader(exp).read(), compared=tuple(_Reader(other).read() for other in compared))


class _Reader:
    """Reader of one run folder; collects notes on missing files."""

    def __init__(self, exp: Path) -> None:
        self.run = RunFolder(exp)
        self.missing: list[str] = []

    def read(self) -> RunContents:
        config = self.config()
        decodes = tuple(self.decodes())
        benchmarks = tuple(self.benchmarks())
        return RunContents(
            exp=self.run.path,
            config=config,
            sizes=tuple(self.sizes(config, decodes, benchmarks)),
            decodes=decodes,
            search=self.search(config),
            metrics=tuple(self.metrics()),
            benchmarks=benchmarks,
            devices=tuple(self.devices()),
            commands=self.commands(),
            stages=self.stages(),
            comparison=self.comparison(),
            worst=tuple(self.worst(decodes)),
            missing=tuple(self.missing),
        )

    def note(self, subject: str | Path, remedy: str) -> None:
        name = subject if isinstance(subject, str) else subject.relative_to(self.run.path)
        self.missing.append(f"{name}: {remedy}.")

    def json(self, path: Path) -> Any:
        """Read a JSON file; returns None after a note if it is unreadable."""
        try:
            return read_json(path)
        except UserError as error:
            self.note(path, f"not readable ({error})")
            return None

    def config(self) -> Config | None:
        try:
            return load_config(self.run.config, saved=True)
        except UserError as error:
            self.note(self.run.config, f"no settings of this run ({error}); stage 4, todm train, writes them")
            return None

    def vocab_size(self) -> int | None:
        for folder in (self.run.supernet, self.run.lang):
            path = LangFolder(folder).tokens
            if path.is_file():
                return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        return None

    def decodes(self) -> Iterator[PartScore]:
        paths = self.run.find_wers()
        if not paths:
            self.note(self.run.decode, "no part was decoded; stage 9, todm decode, does it")
        for path in paths:
            data = self.json(path)
            if not isinstance(data, dict) or not isinstance(data.get("wer"), int | float):
                if data is not None:
                    self.note(path, "not a result of todm decode")
                continue
            ci = data.get("ci95")
            yield PartScore(
                model=path.parent.name,
                part=path.stem,
                wer=float(data["wer"]),
                interval=(float(ci[0]), float(ci[1])) if isinstance(ci, list) and len(ci) == 2 else None,
                counts={key: int(data[key]) for key in ("words", "ins", "del", "sub") if key in data},
            )

    def benchmarks(self) -> Iterator[BenchmarkResult]:
        paths = BenchFolder(self.run.bench).find_results()
        if not paths:
            self.note(self.run.bench, "no speed was measured; stage 11, todm bench, does it")
        for path in paths:
            try:
                yield from (replace(result, name=path.stem) for result in read_results(path))
            except UserError as error:
                self.note(path, str(error))

    def devices(self) -> Iterator[DeviceTable]:
        """Read the tables of ``todm latency``; without any there is no note, since they need a device."""
        for path in self.run.find_devices():
            try:
                yield DeviceTable.load(path)
            except UserError as error:
                self.note(path, str(error))

    def sizes(
        self,
        config: Config | None,
        decodes: tuple[PartScore, ...],
        benchmarks: tuple[BenchmarkResult, ...],
    ) -> list[Size]:
        vocab_size = self.vocab_size()
        sizes: list[Size] = []
        for folder in self.run.find_subnets():
            name = folder.name
            try:
                spec = SubnetSpec.load(ModelFolder(folder).spec)
            except UserError as error:
                self.note(folder, str(error))
                continue
            bundle = BundleFiles(self.run.bundle(name))
            exported = bundle.encoder().is_file()
            parity = self.json(bundle.parity_report) if bundle.parity_report.is_file() else {}
            sizes.append(
                Size(
                    name=name,
                    spec=spec,
                    vocab_size=vocab_size,
                    params=count_params(config.model, spec, vocab_size) if config and vocab_size else None,
                    wer={item.part: item.wer for item in decodes if item.model == name},
                    bundle=bundle.folder.relative_to(self.run.path).as_posix() if exported else None,
                    megabytes={
                        precision: bundle.num_bytes(precision) / 1e6 for precision in bundle.precisions
                    },
                    rtf=_rtf_by_precision(item for item in benchmarks if item.name == name),
                    parity=_flatten(parity),
                    in_use=_read_in_use(parity),
                )
            )
        self.note_gaps(sizes)
        rank = {name: index for index, name in enumerate(LADDER)}
        return sorted(sizes, key=lambda s: (rank.get(s.name, len(rank)), s.spec.mode, s.params or 0, s.name))

    def note_gaps(self, sizes: list[Size]) -> None:
        if not sizes:
            self.note(self.run.subnets, "none was extracted; stage 7, todm extract, does it")
            return
        names = {size.name for size in sizes}
        modes = {size.spec.mode for size in sizes}
        ladder = (n for n in LADDER if ("streaming" if n.endswith("streaming") else "offline") in modes)
        gaps = {
            "not extracted; stage 7, todm extract --ladder, does it": [n for n in ladder if n not in names],
            "no ONNX folder; stage 10, todm export, writes it": [s.name for s in sizes if not s.bundle],
            "ONNX folder not compared with torch; stage 10, todm verify, does it": [
                size.name for size in sizes if size.bundle and not size.parity
            ],
        }
        for text, affected in gaps.items():
            if affected:
                self.note(", ".join(affected), text)

    def search(self, config: Config | None) -> SearchContents:
        try:
            result = SearchResult.load(self.run.pareto)
        except UserError:
            self.note(self.run.pareto, "no search was run; stage 6, todm search, does it")
            return SearchContents()
        vocab_size = self.vocab_size()
        points = list(self.cached_points(config, vocab_size)) if config and vocab_size else []
        return SearchContents(points=tuple(points), result=result)

    def cached_points(self, config: Config, vocab_size: int) -> Iterator[Point]:
        """Yield the decoded specs of the newest context, that of the last line with a word error rate."""
        path = self.run.search_cache
        entries = list(_read_lines(path)) if path.is_file() else []
        # The file also holds sizes and proxies.
        entries = [e for e in entries if not isinstance(e.get("result"), dict) or "wer" in e["result"]]
        for entry in entries:
            try:
                if entry["context"] == entries[-1]["context"]:
                    spec = SubnetSpec.from_dict(entry["spec"])
                    params = entry["result"].get("params") or count_params(config.model, spec, vocab_size)
                    figures = {"wer": float(entry["result"]["wer"]), "params": float(params)}
                    yield Point(spec=spec, figures=figures)
            except (KeyError, TypeError, ValueError) as error:
                self.note(path, f"a line is not an evaluation ({error})")

    def comparison(self) -> Mapping[str, Any]:
        """Read the result of ``todm search --compare-seeds``, which is optional."""
        path = self.run.search_comparison
        data = self.json(path) if path.is_file() else None
        return data if isinstance(data, dict) and isinstance(data.get("modes"), dict) else {}

    def worst(self, decodes: Iterable[PartScore]) -> Iterator[WorstUtterances]:
        """Read the alignments of ``todm decode``."""
        for item in decodes:
            path = self.run.alignments(item.model, item.part)
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            rows = [tuple(line.split("\t")) for line in lines]
            wrong = [row for row in rows if len(row) == 3 and re.fullmatch(r"\d+ of \d+", row[1])]
            if wrong:
                utterances = tuple((row[0], row[1], row[2]) for row in wrong[:NUM_WORST])
                yield WorstUtterances(
                    model=item.model, part=item.part, total=len(wrong), utterances=utterances
                )

    def metrics(self) -> Iterator[Mapping[str, Any]]:
        path = self.run.metrics
        if not path.is_file():
            self.note(path, "no training curves; stage 4, todm train, writes them")
            return
        yield from (line for line in _read_lines(path) if isinstance(line.get("step"), int))

    def commands(self) -> str:
        path = self.run.commands
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
        self.note(path, "the commands were not recorded; todm run records its own")
        return ""

    def stages(self) -> dict[str, int]:
        """Read the seconds of each finished stage, in order."""
        seconds: dict[str, int] = {}
        for path in self.run.find_stage_marks():
            text = path.read_text(encoding="utf-8")
            # Marks of earlier versions have two lines: settings DIGEST, seconds N.
            match = re.search(r'^ *"?seconds"?:? (\d+)', text, flags=re.MULTILINE)
            if match:
                seconds[path.name.removesuffix(".json")] = int(match[1])
        return seconds


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; a line may be incomplete while it is written."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _rtf_by_precision(benchmarks: Iterable[BenchmarkResult]) -> dict[str, float]:
    """Return the real-time factors in onnxruntime, each with the fewest threads measured."""
    ours = (item for item in benchmarks if item.runtime == "onnxruntime")
    ordered = sorted(ours, key=lambda item: -item.num_threads)
    return {item.precision: item.rtf for item in ordered}


def _read_in_use(parity: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the results of the in-use checks; those of earlier versions have none."""
    found = parity.get("in_use") if isinstance(parity, dict) else None
    keys = {"check", "runtime", "measured", "allowed", "unit", "ok"}
    items = found if isinstance(found, list) else []
    return tuple(item for item in items if isinstance(item, dict) and keys <= item.keys())


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts, keys joined by spaces; lists are left out."""
    if not isinstance(value, dict):
        return {}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, dict):
            flat.update(_flatten(item, f"{name} "))
        elif isinstance(item, bool | int | float | str):
            flat[name] = item
    return flat
