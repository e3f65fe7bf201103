"""Training batches from shards (`todm.data.shar`), which are read sequentially.

An epoch is planned before anything is read: the shards are shuffled and distributed over streams, one per
loader process of each rank, and lhotse's sampler runs on the *durations* of a stream's utterances from the
index. Every rank therefore knows the number of batches of the others, no state needs to be saved, and a run
that resumes within an epoch reads only the shards of its remaining batches.
"""

from __future__ import annotations

import heapq
import logging
import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets
from torch.utils.data import Dataset

from todm.config import Config
from todm.data.batch import Batch
from todm.data.fit import TOO_MANY_LABELS, check_duration, check_length
from todm.data.shar import SharIndex, digest_tokenizer, read_index, read_lines, read_shard
from todm.data.tokenizer import Tokenizer
from todm.data.utterances import EpochLoader, UtteranceDataset, iter_batches
from todm.errors import UserError

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[int, int]
"""Shard of an utterance and its position there, both from 0."""

NUM_FOR_BUCKETS = 10_000
"""Number of utterances, the first ones, that determine the bounds of the buckets."""


@dataclass(eq=False, kw_only=True, slots=True)
class _Item:
    """Utterance as the sampler sees it; the sampler sets the last field."""

    key: Key
    duration: float
    dataloading_info: object = None


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """Shards that one loader process reads in an epoch, in this order, and its batches."""

    shards: tuple[int, ...]
    batches: tuple[tuple[Key, ...], ...]


class SharLoader(EpochLoader):
    """Shuffled training batches from shards.

    The order depends on the seed, the epoch, the number of ranks and `data.num_workers`.

    Args:
        config: `data` and the model's `subsampling_factor` are used.
        tokenizer: tokenizer of the labels.
        seed: determines, with the epoch, the utterances and the order of the batches.
        rank: index of this process.
        world_size: number of training processes; all get the same number of batches, no utterance twice.

    Raises:
        UserError: the shards cannot be read or are too few.
    """

    def __init__(
        self,
        config: Config,
        tokenizer: Tokenizer,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(tokenizer)
        data = config.data
        if data.sortagrad:
            raise UserError(
                "data.sortagrad: shards cannot be read in order of duration; set it to false, or train "
                "without data.shar_dir"
            )
        self.config, self.seed = data, seed
        self.rank, self.world_size = rank, world_size
        self.index = read_index(data.shar_dir)
        self.num_streams = max(1, data.num_workers)
        num_shards, needed = len(self.index.durations), world_size * self.num_streams
        if num_shards < needed:
            raise UserError(
                f"{data.shar_dir}: {num_shards} shards for {world_size} processes with {self.num_streams} "
                f"readers each; lower data.num_workers, or write at least {needed} (data.shar_utterances)"
            )
        self.dropped: Counter[str] = Counter()
        self.usable = self._choose(tokenizer, config.model.subsampling_factor)
        number = sum(map(len, self.usable))
        if number < 2:
            raise UserError(f"{data.shar_dir}: {number} usable utterances; training needs at least 2")
        shards = range(num_shards)
        self.bounds = estimate_duration_buckets(
            islice(self._items(shards), NUM_FOR_BUCKETS), max(2, min(data.num_buckets, number))
        )
        self._planned: tuple[int, list[_Stream]] | None = None
        self._count = 0

    def count_batches(self, epoch: int) -> int:
        """Count the batches of an epoch; see `EpochLoader`."""
        if not self._count:
            self._count = sum(len(stream.batches) for stream in self._plan(0))
        return self._count

    def longest_batches(self, count: int) -> list[Batch]:
        """Load the largest batches of the current epoch."""
        streams = self._plan(self.epoch)
        sized = [
            (max(self._duration(key) for key in batch) * len(batch), batch)
            for stream in streams
            for batch in stream.batches
        ]
        chosen = tuple(batch for _, batch in heapq.nlargest(count, sized))
        shards = tuple(sorted({shard for batch in chosen for shard, _ in batch}))
        cuts = read_batches(self.config.shar_dir, self.index, _Stream(shards=shards, batches=chosen))
        return [self.dataset[batch] for batch in cuts]

    def __iter__(self) -> Iterator[Batch]:
        """Load the batches of the current epoch."""
        streams = self._plan(self.epoch)
        dataset = _StreamDataset(self.config.shar_dir, self.index, streams, self.dataset)
        total = sum(len(stream.batches) for stream in streams)
        for batch in iter_batches(dataset, range(self.start_batch, total), self.config.num_workers):
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def _duration(self, key: Key) -> float:
        shard, position = key
        return self.index.durations[shard][position]

    def _items(self, shards: Iterable[int]) -> Iterator[_Item]:
        for shard in shards:
            durations = self.index.durations[shard]
            for position in self.usable[shard]:
                yield _Item(key=(shard, position), duration=durations[position])

    def _choose(self, tokenizer: Tokenizer, factor: int) -> list[array[int]]:
        """Choose the usable utterances of each shard by position; the others are counted.

        Utterances were filtered when the shards were written, copies of other speeds by the duration of their
        originals; only other limits are applied here, to the duration of the copies themselves.
        """
        config, index = self.config, self.index
        low, high = config.min_utterance, config.max_utterance
        if (low, high) == (index.min_utterance, index.max_utterance):
            low, high = 0.0, float("inf")
        same_labels = (index.tokenizer, index.subsampling_factor) == (digest_tokenizer(tokenizer), factor)
        chosen: list[array[int]] = []
        for shard, durations in enumerate(index.durations):
            chosen.append(array("L"))
            lines = [] if same_labels else read_lines(config.shar_dir, index, shard)
            for position, duration in enumerate(durations):
                problem = check_duration(duration, low, high)
                if not problem and not same_labels:
                    text = lines[position]["supervisions"][0]["text"]
                    problem = TOO_MANY_LABELS if check_length(text, duration, tokenizer, factor) else ""
                if problem:
                    self.dropped[problem] += 1
                else:
                    chosen[-1].append(position)
        for problem, count in sorted(self.dropped.items()):
            log.warning("%s: %d utterances skipped, %s", config.shar_dir, count, problem)
        return chosen

    def _plan(self, epoch: int) -> list[_Stream]:
        """Plan the streams of this rank, with the same number of batches as all other streams."""
        if self._planned is not None and self._planned[0] == epoch:
            return self._planned[1]
        order = list(range(len(self.usable)))
        random.Random(f"shards-{self.seed}-{epoch}").shuffle(order)
        total = self.world_size * self.num_streams
        ours: list[_Stream] = []
        counts, sizes = [], []
        for number in range(total):
            shards = tuple(order[number::total])
            batches = self._bucket(shards, epoch)
            counts.append(len(batches))
            sizes.append(sum(map(len, batches)))
            if number % self.world_size == self.rank:
                ours.append(_Stream(shards=shards, batches=batches))
        if min(sizes) < max(counts):
            raise UserError(
                f"{self.config.shar_dir}: {sum(sizes)} utterances in {len(order)} shards are too few for "
                f"{total} readers; lower data.num_workers, or write more shards (data.shar_utterances)"
            )
        ours = [_Stream(shards=s.shards, batches=split_batches(s.batches, max(counts))) for s in ours]
        self._planned = epoch, ours
        return ours

    def _bucket(self, shards: Iterable[int], epoch: int) -> tuple[tuple[Key, ...], ...]:
        sampler = DynamicBucketingSampler(
            list(self._items(shards)),
            max_duration=self.config.max_duration,
            duration_bins=self.bounds,
            buffer_size=self.config.shar_buffer,
            shuffle=True,
            seed=self.seed,
            rank=0,  # each stream belongs to one process
            world_size=1,
            sync_buckets=True,  # as in `todm.data.loader`; also, ranks get similar durations at the same time
        )
        sampler.set_epoch(epoch)
        return tuple(tuple(item.key for item in batch) for batch in sampler)


def split_batches(batches: Sequence[tuple[Key, ...]], count: int) -> tuple[tuple[Key, ...], ...]:
    """Halve the batches with the most utterances until there are `count`; the order is kept.

    Args:
        batches: at most `count`, with at least `count` utterances in total.
        count: number of batches to return.
    """
    result = list(batches)
    while len(result) < count:
        largest = sorted(range(len(result)), key=lambda i: -len(result[i]))[: count - len(result)]
        halved = {i for i in largest if len(result[i]) > 1}
        assert halved, "fewer utterances than batches"
        result = [
            piece
            for i, batch in enumerate(result)
            for piece in ((batch[: len(batch) // 2], batch[len(batch) // 2 :]) if i in halved else (batch,))
        ]
    return tuple(result)


def read_batches(location: str, index: SharIndex, stream: _Stream) -> Iterator[list[Cut]]:
    """Read the cuts of a stream's batches, with their data; shards without any of them are not opened.

    Cuts that are read early are kept in memory, at most as many as the sampler's buffer holds.
    """
    wanted: defaultdict[int, set[int]] = defaultdict(set)
    for batch in stream.batches:
        for shard, position in batch:
            wanted[shard].add(position)
    cuts = (
        ((shard, position), cut)
        for shard in stream.shards
        for position, cut in read_shard(location, index, shard, wanted[shard])
    )
    waiting: dict[Key, Cut] = {}
    for batch in stream.batches:
        while not all(key in waiting for key in batch):
            key, cut = next(cuts)
            waiting[key] = cut
        yield [waiting.pop(key) for key in batch]


class _StreamDataset(Dataset[Batch | UserError]):
    """Dataset whose batch number i of an epoch is the next one of stream ``i % len(streams)``.

    Numbers that differ by a multiple of the number of streams go to the same loader process, in order, so
    each process reads one stream. A `UserError` is returned, since raised it would arrive as a traceback.
    """

    def __init__(
        self, location: str, index: SharIndex, streams: Sequence[_Stream], utterances: UtteranceDataset
    ) -> None:
        self.location, self.index = location, index
        self.streams = streams
        self.utterances = utterances
        self._running: dict[int, Iterator[list[Cut]]] = {}

    def __getitem__(self, number: int) -> Batch | UserError:
        turn, which = divmod(number, len(self.streams))
        try:
            if which not in self._running:
                stream = self.streams[which]
                rest = _Stream(shards=stream.shards, batches=stream.batches[turn:])
                self._running[which] = read_batches(self.location, self.index, rest)
            return self.utterances[next(self._running[which])]
        except UserError as error:
            return error
