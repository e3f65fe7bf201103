"""Batches of utterances of like duration, in an order that (seed, epoch) alone determine."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler, DynamicCutSampler
from lhotse.dataset.sampling.base import CutSampler

from todm.config import DataConfig
from todm.data.archive import ArchiveReader
from todm.data.batch import Batch
from todm.data.shar import read_index, read_shard
from todm.data.shar_loader import SharLoader
from todm.data.tokenizer import Tokenizer
from todm.data.utterances import UtteranceDataset, load
from todm.errors import UserError

MANIFESTS = "manifests"
TRAIN_MANIFEST = "train.jsonl.gz"
EAGER_BYTES = 8 << 20
"""Compressed size up to which a training manifest is kept in memory (some 50,000 cuts)."""

assert ArchiveReader.name  # importing it lets lhotse read our archives


def load_cuts(data_dir: Path, part: str) -> CutSet:
    """Cuts of a prepared part, read lazily, as in the corpus (no speed copies).

    Args:
        data_dir: ``EXP/data``.
        part: one of the config's dev or test parts.

    Raises:
        UserError: if the part has not been prepared.
    """
    return _read_manifest(
        data_dir, f"cuts_{part}.jsonl.gz", f"add '{part}' to data.dev_parts or data.test_parts"
    )


def load_train_cuts(data_dir: Path) -> CutSet:
    """All training cuts, speed copies included, read lazily in a fixed random order.

    Raises:
        UserError: if ``todm prepare`` has not come that far.
    """
    return _read_manifest(data_dir, TRAIN_MANIFEST, "the config names them in data.train_parts")


def _read_manifest(data_dir: Path, name: str, hint: str) -> CutSet:
    path = data_dir / MANIFESTS / name
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; run 'todm prepare' first ({hint})")
    return CutSet.from_jsonl_lazy(path).with_features_path_prefix(data_dir)


def first_train_cuts(config: DataConfig, data_dir: Path, count: int) -> list[Cut]:
    """The first `count` training cuts, or all if there are fewer, of the manifest or of the shards."""
    if not config.shar_dir:
        return list(islice(load_train_cuts(data_dir), count))
    index = read_index(config.shar_dir)
    cuts: list[Cut] = []
    for shard, durations in enumerate(index.durations):
        wanted = set(range(min(len(durations), count - len(cuts))))
        cuts += (cut for _, cut in read_shard(config.shar_dir, index, shard, wanted))
    return cuts


class TrainLoader:
    """Shuffled training batches of one epoch; iterate, then `set_epoch` for the next.

    Args:
        cuts: training cuts.
        tokenizer: makes the labels.
        config: `max_duration`, `num_buckets`, `sortagrad` and `num_workers` are used.
        seed: with the epoch it fixes which utterances form which batch, and their order.
        epoch: epoch to start with, from 0.
        start_batch: batches of that epoch to pass over, without loading them.
        rank: which of every ``world_size`` batches is ours.
        world_size: processes that train together; all get equally many batches.
    """

    def __init__(
        self,
        cuts: Iterable[Cut],
        tokenizer: Tokenizer,
        config: DataConfig,
        *,
        seed: int,
        epoch: int = 0,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        first = list(islice(cuts, config.num_buckets + 1))
        if len(first) < 2:
            raise UserError(f"data.train_parts: {len(first)} usable utterances; training needs at least 2")
        self.dataset = UtteranceDataset(tokenizer)
        self.num_workers = config.num_workers
        self.epoch = epoch
        self.start_batch = start_batch
        self.sampler: CutSampler = DynamicBucketingSampler(
            cuts,
            max_duration=config.max_duration,
            num_buckets=max(2, min(config.num_buckets, len(first))),
            shuffle=True,
            seed=seed,
            rank=rank,
            world_size=world_size,
            # Without it, lhotse 1.33 ends an epoch when it draws a bucket that has run empty. The price is
            # that buckets take their turns in the same order in every epoch; what they give still varies.
            sync_buckets=True,
        )
        self._counts: dict[int, int] = {}
        self.first_sampler: CutSampler = self.sampler
        if config.sortagrad:
            by_length = sorted(cuts, key=lambda cut: (cut.duration, cut.id))
            self.first_sampler = DynamicCutSampler(
                by_length, max_duration=config.max_duration, rank=rank, world_size=world_size
            )

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Let the next iteration run through ``epoch`` from its batch number ``start_batch`` on."""
        self.epoch, self.start_batch = epoch, start_batch

    def batch_ids(self) -> Iterator[tuple[str, ...]]:
        """Utterance ids of the epoch's batches, all of them, without loading anything."""
        for cuts in self._sampler():
            yield tuple(cut.id for cut in cuts)

    def count_batches(self, epoch: int) -> int:
        """How many batches an epoch has; shuffled epochs differ by a few, and count as the first of them."""
        counted = min(epoch, 1) if self.first_sampler is not self.sampler else 0
        if counted not in self._counts:
            present, self.epoch = self.epoch, counted
            self._counts[counted] = sum(1 for _ in self.batch_ids())
            self.epoch = present
        return self._counts[counted]

    def longest_batches(self, count: int) -> list[Batch]:
        """The present epoch's batches with most frames, padding included, largest first."""
        # Kept with its number: cuts cannot be compared.
        sized = (
            (max(cut.duration for cut in cuts) * len(cuts), i, cuts) for i, cuts in enumerate(self._sampler())
        )
        return [self.dataset[cuts] for _, _, cuts in heapq.nlargest(count, sized)]

    def __iter__(self) -> Iterator[Batch]:
        return load(self.dataset, _Skip(self._sampler(), self.start_batch), self.num_workers)

    def _sampler(self) -> CutSampler:
        """The sampler of the present epoch."""
        sampler = self.sampler if self.epoch else self.first_sampler
        sampler.set_epoch(self.epoch)
        return sampler


class EvalLoader:
    """Batches in order of falling duration, each utterance once; may be iterated repeatedly."""

    def __init__(
        self, cuts: Iterable[Cut], tokenizer: Tokenizer, *, max_duration: float, num_workers: int
    ) -> None:
        self.cuts = sorted(cuts, key=lambda cut: (-cut.duration, cut.id))
        self.dataset = UtteranceDataset(tokenizer)
        self.max_duration = max_duration
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[Batch]:
        sampler = DynamicCutSampler(self.cuts, max_duration=self.max_duration, rank=0, world_size=1)
        return load(self.dataset, _Skip(sampler, 0), self.num_workers)


class _Skip:
    """A sampler without its first batches: manifests are read and passed over, no audio is loaded."""

    def __init__(self, sampler: Iterable[CutSet], num_batches: int) -> None:
        self.sampler, self.num_batches = sampler, num_batches

    def __iter__(self) -> Iterator[CutSet]:
        return islice(iter(self.sampler), self.num_batches, None)


def make_train_loader(
    config: DataConfig,
    data_dir: Path,
    tokenizer: Tokenizer,
    *,
    seed: int,
    epoch: int = 0,
    start_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    subsampling_factor: int = 4,
) -> TrainLoader | SharLoader:
    """Training batches of a prepared run folder or of shards; see `TrainLoader` and `SharLoader`.

    Args:
        config: the ``data`` section; its ``shar_dir`` decides which of the two.
        data_dir: ``EXP/data``.
        tokenizer: makes the labels.
        seed: of the order.
        epoch: epoch to start with, from 0.
        start_batch: batches of that epoch to pass over.
        rank: of this process.
        world_size: number of processes.
        subsampling_factor: of the model; manifests have been chosen by it already.
    """
    if config.shar_dir:
        return SharLoader(
            config,
            tokenizer,
            subsampling_factor=subsampling_factor,
            seed=seed,
            epoch=epoch,
            start_batch=start_batch,
            rank=rank,
            world_size=world_size,
        )
    cuts: Iterable[Cut] = load_train_cuts(data_dir)
    if (data_dir / MANIFESTS / TRAIN_MANIFEST).stat().st_size <= EAGER_BYTES:
        cuts = list(cuts)  # parsing them anew costs more than a tenth of a second per 1,000 in every epoch
    return TrainLoader(
        cuts,
        tokenizer,
        config,
        seed=seed,
        epoch=epoch,
        start_batch=start_batch,
        rank=rank,
        world_size=world_size,
    )


def make_eval_loader(
    cuts: Iterable[Cut], tokenizer: Tokenizer, *, max_duration: float = 200.0, num_workers: int = 0
) -> EvalLoader:
    """Batches for validation and decoding, longest utterances first.

    Args:
        cuts: with stored features or with audio.
        tokenizer: makes the labels.
        max_duration: seconds of audio in a batch at most.
        num_workers: processes that load; 0 loads in this one.
    """
    return EvalLoader(cuts, tokenizer, max_duration=max_duration, num_workers=num_workers)
