"""Batches of utterances of similar duration; their order depends only on seed and epoch."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler, DynamicCutSampler
from lhotse.dataset.sampling.base import CutSampler

import todm.data.archive  # noqa: F401  # registers the feature archives at lhotse
from todm.config import Config, DataConfig
from todm.data.batch import Batch
from todm.data.shar import read_index, read_shard
from todm.data.shar_loader import SharLoader
from todm.data.tokenizer import Tokenizer
from todm.data.utterances import EpochLoader, UtteranceDataset, iter_batches
from todm.errors import UserError
from todm.layout import DataFolder

EAGER_BYTES = 8 << 20
"""Largest compressed training manifest that is kept in memory (about 50,000 cuts)."""


def load_cuts(data_dir: Path, part: str) -> CutSet:
    """Read the cuts of a prepared dev or test part lazily, in the order of the corpus.

    Args:
        data_dir: ``EXP/data``.
        part: one of the config's dev or test parts.

    Raises:
        UserError: the part has not been prepared.
    """
    hint = f"add '{part}' to data.dev_parts or data.test_parts"
    return _read_manifest(data_dir, DataFolder(data_dir).cuts(part), hint)


def load_train_cuts(data_dir: Path) -> CutSet:
    """Read all training cuts, with the copies of other speeds, lazily and in a fixed random order.

    Raises:
        UserError: ``todm prepare`` has not written them yet.
    """
    hint = "the config names them in data.train_parts"
    return _read_manifest(data_dir, DataFolder(data_dir).train_manifest, hint)


def _read_manifest(data_dir: Path, path: Path, hint: str) -> CutSet:
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; run 'todm prepare' first ({hint})")
    return CutSet.from_jsonl_lazy(path).with_features_path_prefix(data_dir)


def first_train_cuts(config: DataConfig, data_dir: Path, count: int) -> list[Cut]:
    """Read the first `count` training cuts, or all if there are fewer, from the manifest or the shards."""
    if not config.shar_dir:
        return list(islice(load_train_cuts(data_dir), count))
    index = read_index(config.shar_dir)
    cuts: list[Cut] = []
    for shard, durations in enumerate(index.durations):
        wanted = set(range(min(len(durations), count - len(cuts))))
        cuts += (cut for _, cut in read_shard(config.shar_dir, index, shard, wanted))
    return cuts


class TrainLoader(EpochLoader):
    """Shuffled training batches from cuts.

    Args:
        cuts: training cuts.
        tokenizer: tokenizer of the labels.
        config: `max_duration`, `num_buckets`, `sortagrad` and `num_workers` are used.
        seed: determines, with the epoch, the utterances and the order of the batches.
        rank: index of this process; it loads every ``world_size``-th batch.
        world_size: number of training processes; all get the same number of batches.
    """

    def __init__(
        self,
        cuts: Iterable[Cut],
        tokenizer: Tokenizer,
        config: DataConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(tokenizer)
        first = list(islice(cuts, config.num_buckets + 1))
        if len(first) < 2:
            raise UserError(f"data.train_parts: {len(first)} usable utterances; training needs at least 2")
        self.num_workers = config.num_workers
        self.sampler: CutSampler = DynamicBucketingSampler(
            cuts,
            max_duration=config.max_duration,
            num_buckets=max(2, min(config.num_buckets, len(first))),
            shuffle=True,
            seed=seed,
            rank=rank,
            world_size=world_size,
            # Without it, lhotse 1.33 ends an epoch when it draws an empty bucket. As a consequence the
            # sequence of buckets is the same in every epoch; their utterances still vary.
            sync_buckets=True,
        )
        self._counts: dict[int, int] = {}
        self.first_sampler: CutSampler = self.sampler
        if config.sortagrad:
            by_length = sorted(cuts, key=lambda cut: (cut.duration, cut.id))
            self.first_sampler = DynamicCutSampler(
                by_length, max_duration=config.max_duration, rank=rank, world_size=world_size
            )

    def batch_ids(self) -> Iterator[tuple[str, ...]]:
        """Yield the utterance ids of all batches of the current epoch, without loading them."""
        for cuts in self._sampler():
            yield tuple(cut.id for cut in cuts)

    def count_batches(self, epoch: int) -> int:
        """Count the batches of an epoch; see `EpochLoader`."""
        counted = min(epoch, 1) if self.first_sampler is not self.sampler else 0
        if counted not in self._counts:
            current, self.epoch = self.epoch, counted
            self._counts[counted] = sum(1 for _ in self.batch_ids())
            self.epoch = current
        return self._counts[counted]

    def longest_batches(self, count: int) -> list[Batch]:
        """Load the largest batches of the current epoch."""
        # The index breaks ties, since cuts cannot be compared.
        sized = (
            (max(cut.duration for cut in cuts) * len(cuts), i, cuts) for i, cuts in enumerate(self._sampler())
        )
        return [self.dataset[cuts] for _, _, cuts in heapq.nlargest(count, sized)]

    def __iter__(self) -> Iterator[Batch]:
        """Load the batches of the current epoch."""
        return iter_batches(self.dataset, _Skip(self._sampler(), self.start_batch), self.num_workers)

    def _sampler(self) -> CutSampler:
        """Return the sampler of the current epoch."""
        sampler = self.sampler if self.epoch else self.first_sampler
        sampler.set_epoch(self.epoch)
        return sampler


class EvalLoader:
    """Batches in order of decreasing duration, each utterance once; can be iterated repeatedly.

    Args:
        cuts: cuts with stored features or with audio.
        tokenizer: tokenizer of the labels.
        max_duration: largest duration of a batch, seconds.
        num_workers: loader processes; 0 loads in this one.
    """

    def __init__(
        self, cuts: Iterable[Cut], tokenizer: Tokenizer, *, max_duration: float, num_workers: int
    ) -> None:
        self.cuts = sorted(cuts, key=lambda cut: (-cut.duration, cut.id))
        self.dataset = UtteranceDataset(tokenizer)
        self.max_duration = max_duration
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[Batch]:
        sampler = DynamicCutSampler(self.cuts, max_duration=self.max_duration, rank=0, world_size=1)
        return iter_batches(self.dataset, _Skip(sampler, 0), self.num_workers)


class _Skip:
    """Sampler without its first batches, which are not loaded."""

    def __init__(self, sampler: Iterable[CutSet], num_batches: int) -> None:
        self.sampler, self.num_batches = sampler, num_batches

    def __iter__(self) -> Iterator[CutSet]:
        return islice(iter(self.sampler), self.num_batches, None)


def make_train_loader(
    config: Config, data_dir: Path, tokenizer: Tokenizer, *, seed: int, rank: int = 0, world_size: int = 1
) -> EpochLoader:
    """Make a loader of training batches from a prepared run folder or from shards.

    Args:
        config: `data` and the model's `subsampling_factor` are used; ``data.shar_dir`` selects the shards.
        data_dir: ``EXP/data``.
        tokenizer: tokenizer of the labels.
        seed: seed of the order.
        rank: index of this process.
        world_size: number of training processes.
    """
    data = config.data
    if data.shar_dir:
        return SharLoader(config, tokenizer, seed=seed, rank=rank, world_size=world_size)
    cuts: Iterable[Cut] = load_train_cuts(data_dir)
    if DataFolder(data_dir).train_manifest.stat().st_size <= EAGER_BYTES:
        cuts = list(cuts)  # parsing takes more than 0.1 s per 1,000 cuts, in every epoch
    return TrainLoader(cuts, tokenizer, data, seed=seed, rank=rank, world_size=world_size)


def make_eval_loader(
    cuts: Iterable[Cut], tokenizer: Tokenizer, *, max_duration: float = 200.0, num_workers: int = 0
) -> EvalLoader:
    """Make a loader for validation and decoding; see `EvalLoader`."""
    return EvalLoader(cuts, tokenizer, max_duration=max_duration, num_workers=num_workers)
