"""Files of a training run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from todm.layout.checkpoints import checkpoint_path, find_checkpoints
from todm.layout.data import DataFolder


@dataclass(frozen=True)
class RunFolder:
    """Folder of one run, the ``--exp-dir`` of all commands.

    Example:
        >>> run = RunFolder(Path("exp"))
        >>> run.subnet("min").as_posix(), run.wer("min", "dev-clean").as_posix()
        ('exp/subnets/min', 'exp/decode/min/dev-clean.json')
    """

    path: Path

    @property
    def config(self) -> Path:
        """Settings of the training."""
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        """Prepared data, a `DataFolder`."""
        return self.path / "data"

    @property
    def lang(self) -> Path:
        """Folder of the tokenizer, a `LangFolder`."""
        return DataFolder(self.data).lang

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Checkpoint after `step` batches."""
        return checkpoint_path(self.checkpoints, step)

    def find_checkpoints(self) -> list[Path]:
        """Checkpoints, readable or not, newest (most steps) first."""
        return find_checkpoints(self.checkpoints)

    @property
    def train(self) -> Path:
        """Folder of the training's logs and metrics."""
        return self.path / "train"

    @property
    def train_log(self) -> Path:
        """Log of the training."""
        return self.train / "train.log"

    @property
    def metrics(self) -> Path:
        """Metrics of training steps and validations, one JSON object per line."""
        return self.train / "metrics.jsonl"

    @property
    def finished(self) -> Path:
        """Record of a complete training; absent while a training runs or is interrupted."""
        return self.train / "finished.json"

    def process_log(self, rank: int) -> Path:
        """Output of one of several training processes."""
        return self.train / f"rank{rank}.log"

    @property
    def launch_config(self) -> Path:
        """Settings for training processes that are started together."""
        return self.train / "launch.yaml"

    def skipped_batches(self, rank: int) -> Path:
        """Batches without a finite gradient, one JSON object per line."""
        return self.train / f"skipped-batches.rank{rank}.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def supernet(self) -> Path:
        """Averaged supernet, a `ModelFolder`."""
        return self.path / "supernet"

    @property
    def subnets(self) -> Path:
        """Folder of the extracted subnets."""
        return self.path / "subnets"

    def subnet(self, name: str) -> Path:
        """Extracted subnet, a `ModelFolder`."""
        return self.subnets / name

    def find_subnets(self) -> list[Path]:
        """Folders of all extracted subnets, sorted by name."""
        return sorted(path.parent for path in self.subnets.glob("*/spec.json"))

    def tuning(self, name: str) -> RunFolder:
        """Run folder of the fine-tuning of a subnet; its data are those of this run."""
        return RunFolder(self.path / "fine-tune" / name)

    @property
    def tuning_comparison(self) -> Path:
        """Word error rates before and after, in a `tuning` folder."""
        return self.path / "compare.json"

    @property
    def search(self) -> Path:
        """Folder of the search."""
        return self.path / "search"

    @property
    def pareto(self) -> Path:
        """Pareto front, a `todm.search.front.SearchResult`."""
        return self.search / "pareto.json"

    def baseline(self, name: str) -> Path:
        """Front of a baseline of the search, for example ``random``."""
        return self.search / f"{name}.json"

    @property
    def search_cache(self) -> Path:
        """Evaluated specs, one JSON object per line."""
        return self.search / "cache.jsonl"

    @property
    def search_comparison(self) -> Path:
        """Hypervolumes of several searches."""
        return self.search / "compare.json"

    @property
    def bundles(self) -> Path:
        """Folder of the ONNX bundles."""
        return self.path / "bundles"

    def bundle(self, name: str) -> Path:
        """ONNX bundle of a subnet."""
        return self.bundles / name

    def find_bundles(self) -> list[Path]:
        """Folders of all bundles, sorted by name."""
        return sorted(path for path in self.bundles.glob("*") if path.is_dir())

    @property
    def manifest(self) -> Path:
        """Description of all bundles, for applications."""
        return self.bundles / "manifest.json"

    @property
    def decode(self) -> Path:
        """Folder of the word error rates."""
        return self.path / "decode"

    def wer(self, name: str, part: str) -> Path:
        """Word error rate of the model `name` on a corpus part."""
        return self.decode / name / f"{part}.json"

    def alignments(self, name: str, part: str) -> Path:
        """Errors of the model `name` on a corpus part, utterance by utterance."""
        return alignments_path(self.wer(name, part))

    def find_wers(self) -> list[Path]:
        """All word error rates, sorted by model and part."""
        return sorted(self.decode.glob("*/*.json"))

    @property
    def bench(self) -> Path:
        """Folder of the benchmark results, a `BenchFolder`."""
        return self.path / "bench"

    @property
    def devices(self) -> Path:
        """Folder of the latency tables."""
        return self.path / "devices"

    def device(self, name: str) -> Path:
        """Latency table of a device."""
        return self.devices / f"{name}.json"

    def find_devices(self) -> list[Path]:
        """All latency tables, sorted by device."""
        return sorted(self.devices.glob("*.json"))

    def device_measurements(self, name: str) -> Path:
        """Folder of the measurements that a latency table is fitted to, a `DeviceFolder`."""
        return self.devices / name

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    @property
    def report_page(self) -> Path:
        """Report as one HTML page."""
        return self.report / "index.html"

    @property
    def ladder(self) -> Path:
        """Sizes of the run as JSON."""
        return self.report / "ladder.json"

    @property
    def commands(self) -> Path:
        """Commands that created the run."""
        return self.path / "commands.txt"

    @property
    def done(self) -> Path:
        """Folder of the marks of finished stages."""
        return self.path / ".done"

    def stage_mark(self, stage: str) -> Path:
        """Mark of a finished stage, for example ``4`` or ``8-min``."""
        return self.done / f"{stage}.json"

    def find_stage_marks(self) -> list[Path]:
        """Marks of all finished stages by number; those of earlier versions have no ``.json``."""
        marks = [path for path in self.done.glob("*") if re.match(r"\d+", path.name)]
        return sorted(marks, key=lambda path: int(re.split(r"\D", path.name)[0]))

    @property
    def fingerprints(self) -> Path:
        """Digests of the files that finished stages have read."""
        return self.done / "fingerprints.json"


@dataclass(frozen=True)
class BenchFolder:
    """Folder written by ``todm bench``.

    Example:
        >>> BenchFolder(Path("exp/bench")).result("min").as_posix()
        'exp/bench/min.json'
    """

    path: Path

    def result(self, name: str) -> Path:
        """Measurements of a bundle."""
        return self.path / f"{name}.json"

    def find_results(self) -> list[Path]:
        """Measurements of all bundles, sorted by name."""
        return sorted(self.path.glob("*.json"))

    @property
    def chart(self) -> Path:
        """Chart of all measurements."""
        return self.path / "bench.png"


@dataclass(frozen=True)
class DeviceFolder:
    """Folder with the measurements on one device, written by ``todm latency``.

    Example:
        >>> DeviceFolder(Path("exp/devices/pi4")).result("L2-8", 1).as_posix()
        'exp/devices/pi4/L2-8.1.json'
    """

    path: Path

    @property
    def speech(self) -> Path:
        """Audio that is measured on."""
        return self.path / "speech.wav"

    def bundle(self, name: str) -> Path:
        """ONNX bundle of a measured subnet."""
        return self.path / "bundles" / name

    def result(self, name: str, repeat: int) -> Path:
        """Measurements of a subnet, by repeat from 1."""
        return self.path / f"{name}.{repeat}.json"


def alignments_path(wer: Path) -> Path:
    """File of the alignments that accompanies a file of word error rates.

    Example:
        >>> alignments_path(Path("decode/min/dev.json")).as_posix()
        'decode/min/dev.errors.txt'
    """
    return wer.with_suffix(".errors.txt")
