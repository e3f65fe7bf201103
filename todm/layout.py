"""Names of all files and folders of a run, of its data and of a model folder.

::

    EXP/
      config.yaml                  settings of the training
      data/                        `DataFolder`: manifests, features, tokeniser
      checkpoints/step-00000410.pt
      train/                       metrics.jsonl, train.log, finished.json, one log per process
      tensorboard/
      supernet/                    `ModelFolder` of the averaged supernet
      search/                      pareto.json, cache.jsonl, compare.json
      subnets/NAME/                `ModelFolder` of an extracted subnet
      fine-tune/NAME/              run folder of a fine-tuned subnet
      bundles/NAME/                ONNX bundle (names of its files: `todm.runtime`), manifest.json
      decode/NAME/PART.json        word error rate, and PART.errors.txt with the alignments
      bench/NAME.json              speed of a bundle
      devices/DEVICE.json          latency table of a device, and DEVICE/ with its measurements
      report/                      index.html, ladder.json
      commands.txt                 commands of `todm run`
      .done/NUMBER.json            finished stages, with what they read

This module only builds paths; it neither reads nor creates anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINT = re.compile(r"step-(\d+)\.pt")


@dataclass(frozen=True)
class LangFolder:
    """Folder with the files of a tokeniser; every model folder is one too."""

    path: Path

    @property
    def tokens(self) -> Path:
        """Symbol table, one ``symbol id`` per line."""
        return self.path / "tokens.txt"

    @property
    def bpe_model(self) -> Path:
        """SentencePiece model in its serialised form."""
        return self.path / "bpe.model"

    @property
    def bpe_vocab(self) -> Path:
        """Pieces and scores of the SentencePiece model, read by sherpa-onnx for hotwords."""
        return self.path / "bpe.vocab"

    @property
    def language_files(self) -> tuple[Path, ...]:
        """All files of the tokeniser."""
        return self.tokens, self.bpe_model, self.bpe_vocab


@dataclass(frozen=True)
class ModelFolder(LangFolder):
    """Folder of a supernet or, with a ``spec.json``, of a subnet.

    Example:
        >>> ModelFolder(Path("exp/supernet")).weights.as_posix()
        'exp/supernet/model.safetensors'
    """

    @property
    def weights(self) -> Path:
        """State dict of the model."""
        return self.path / "model.safetensors"

    @property
    def config(self) -> Path:
        """Settings of the training."""
        return self.path / "config.yaml"

    @property
    def spec(self) -> Path:
        """Spec of a subnet; a supernet has none."""
        return self.path / "spec.json"


@dataclass(frozen=True)
class DataFolder:
    """Folder written by ``todm prepare``.

    Example:
        >>> DataFolder(Path("exp/data")).cuts("dev-clean").as_posix()
        'exp/data/manifests/cuts_dev-clean.jsonl.gz'
    """

    path: Path

    @property
    def lang(self) -> Path:
        """Folder of the tokeniser, a `LangFolder`."""
        return self.path / "lang"

    @property
    def stats(self) -> Path:
        """Mean and standard deviation of the features."""
        return self.path / "stats.json"

    @property
    def skipped(self) -> Path:
        """Utterances that were left out, with the reasons."""
        return self.path / "skipped.json"

    @property
    def manifests(self) -> Path:
        """Folder of the lhotse manifests."""
        return self.path / "manifests"

    @property
    def train_manifest(self) -> Path:
        """Cuts of all training parts, in the order of training."""
        return self.manifests / "train.jsonl.gz"

    @property
    def noise_index(self) -> Path:
        """Keys of the recordings of ``data.noise_dir`` in their archive."""
        return self.path / "sounds" / "noise.json"

    @property
    def noise_archive(self) -> Path:
        """Features of the recordings of ``data.noise_dir``."""
        return self.path / "sounds" / "noise.f32"

    @property
    def room_index(self) -> Path:
        """Keys of the rooms of ``data.rir_dir`` in their archive."""
        return self.path / "sounds" / "rooms.json"

    @property
    def room_archive(self) -> Path:
        """Energy decays of the rooms of ``data.rir_dir``."""
        return self.path / "sounds" / "rooms.f32"

    def recordings(self, part: str) -> Path:
        """Recordings of a corpus part."""
        return self.manifests / f"recordings_{part}.jsonl.gz"

    def supervisions(self, part: str) -> Path:
        """Transcripts of a corpus part."""
        return self.manifests / f"supervisions_{part}.jsonl.gz"

    def train_cuts(self, part: str) -> Path:
        """Cuts of a training part, copies of other speeds included."""
        return self.manifests / f"train_{part}.jsonl.gz"

    def cuts(self, part: str) -> Path:
        """Cuts of a dev or test part."""
        return self.manifests / f"cuts_{part}.jsonl.gz"

    def train_features(self, part: str) -> Path:
        """Folder of the features of a training part."""
        return self.path / "feats" / f"train_{part}"

    def features(self, part: str) -> Path:
        """Folder of the features of a dev or test part."""
        return self.path / "feats" / part


@dataclass(frozen=True)
class RunFolder:
    """Folder of one run, the ``--exp-dir`` of all commands.

    Example:
        >>> run = RunFolder(Path("exp"))
        >>> run.subnet("min").as_posix(), run.transcripts("min", "dev-clean").as_posix()
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
        """Folder of the tokeniser, a `LangFolder`."""
        return DataFolder(self.data).lang

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Checkpoint after `step` batches."""
        return checkpoint_path(self.checkpoints, step)

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

    @property
    def manifest(self) -> Path:
        """Description of all bundles, for applications."""
        return self.bundles / "manifest.json"

    @property
    def decode(self) -> Path:
        """Folder of the word error rates."""
        return self.path / "decode"

    def transcripts(self, name: str, part: str) -> Path:
        """Word error rate of the model `name` on a corpus part."""
        return self.decode / name / f"{part}.json"

    def alignments(self, name: str, part: str) -> Path:
        """Errors of the model `name` on a corpus part, utterance by utterance."""
        return alignments_path(self.transcripts(name, part))

    def find_transcripts(self) -> list[Path]:
        """All word error rates, sorted by model and part."""
        return sorted(self.decode.glob("*/*.json"))

    @property
    def bench(self) -> Path:
        """Folder of the benchmark results, one JSON file per bundle."""
        return self.path / "bench"

    @property
    def devices(self) -> Path:
        """Folder of the latency tables."""
        return self.path / "devices"

    def device(self, name: str) -> Path:
        """Latency table of a device."""
        return self.devices / f"{name}.json"

    def device_measurements(self, name: str) -> Path:
        """Folder of the measurements that a latency table is fitted to."""
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

    @property
    def fingerprints(self) -> Path:
        """Digests of the files that finished stages have read."""
        return self.done / "fingerprints.json"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Checkpoint after `step` batches in a folder of checkpoints.

    Example:
        >>> checkpoint_path(Path("exp/checkpoints"), 410).as_posix()
        'exp/checkpoints/step-00000410.pt'
    """
    return folder / f"step-{step:08d}.pt"


def checkpoint_step(path: Path) -> int | None:
    """Number of batches in the name of a checkpoint; None if it is not such a name.

    Example:
        >>> checkpoint_step(Path("step-00000410.pt")), checkpoint_step(Path("model.pt"))
        (410, None)
    """
    match = _CHECKPOINT.fullmatch(path.name)
    return int(match[1]) if match else None


def alignments_path(transcripts: Path) -> Path:
    """File of the alignments that accompanies a file of word error rates.

    Example:
        >>> alignments_path(Path("decode/min/dev.json")).as_posix()
        'decode/min/dev.errors.txt'
    """
    return transcripts.with_suffix(".errors.txt")
