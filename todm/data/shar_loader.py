"""Training batches from shards that are only ever read from beginning to end (`todm.data.shar`).

An epoch is planned before anything is read: the shards are shuffled and dealt out to streams, one for each
loading process of each rank, and lhotse's sampler runs over the *durations* of a stream's utterances, which
the index holds. So every rank knows how many batches the others have, no state needs saving, and a run that
goes on in mid-epoch reads only the shards that its remaining batches need.
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

from todm.config import DataConfig
from todm.data.batch import Batch
from todm.data.fit import TOO_MANY_LABELS, duration_problem, length_problem
from todm.data.shar import SharIndex, digest, read_index, read_lines, read_shard
from todm.data.tokenizer import Tokenizer
from todm.data.utterances import UtteranceDataset, load
from todm.errors import UserError

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[int, int]
"""An utterance: its shard and its position there, both from 0."""

NUM_FOR_BUCKETS = 10_000
"""Utterances, the first ones, from which the buckets' bounds are found."""


@dataclass(eq=False, kw_only=True, slots=True)
class _Item:
    """What the sampler sees of an utterance; it writes its own notes into the last field."""

    key: Key
    duration: float
    dataloading_info: object = None


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """What one loading process reads in an epoch: shards in this order, for these batches."""

    shards: tuple[int, ...]
    batches: tuple[tuple[Key, ...], ...]


class SharLoader:
    """Shuffled training batches of one epoch; iterate, then `set_epoch` for the next.

    The order depends on the seed, the epoch, the number of ranks and `data.num_workers`.

    Args:
        config: `shar_dir`, `shar_buffer`, `max_duration`, `num_buckets`, `num_workers` and the bounds of an
            utterance's duration are used.
        tokenizer: makes the labels.
        subsampling_factor: of the model whose frames must hold the labels.
        seed: with the epoch it fixes which utterances form which batch, and their order.
        epoch: epoch to start with, from 0.
        start_batch: batches of that epoch to pass over, without loading them.
        rank: of this process.
        world_size: processes that train together; all get equally many batches, no utterance twice.

    Raises:
        UserError: if the shards cannot be read or are too few.
    """

    def __init__(
        self,
        config: DataConfig,
        tokenizer: Tokenizer,
        *,
        subsampling_factor: int,
        seed: int,
        epoch: int = 0,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if config.sortagrad:
            raise UserError(
                "data.sortagrad: shards cannot be read in order of duration; set it to false, or train "
                "without data.shar_dir"
            )
        self.config, self.seed = config, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start_batch = epoch, start_batch
        self.dataset = UtteranceDataset(tokenizer)
        self.index = read_index(config.shar_dir)
        self.num_streams = max(1, config.num_workers)
        num_shards, needed = len(self.index.durations), world_size * self.num_streams
        if num_shards < needed:
            raise UserError(
                f"{config.shar_dir}: {num_shards} shards for {world_size} processes with {self.num_streams} "
                f"readers each; lower data.num_workers, or write at least {needed} (data.shar_utterances)"
            )
        self.dropped: Counter[str] = Counter()
        self.usable = self._choose(tokenizer, subsampling_factor)
        number = sum(map(len, self.usable))
        if number < 2:
            raise UserError(f"{config.shar_dir}: {number} usable utterances; training needs at least 2")
        shards = range(num_shards)
        self.bounds = estimate_duration_buckets(
            islice(self._items(shards), NUM_FOR_BUCKETS), max(2, min(config.num_buckets, number))
        )
        self._planned: tuple[int, list[_Stream]] | None = None
        self._count = 0

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Let the next iteration run through ``epoch`` from its batch number ``start_batch`` on."""
        self.epoch, self.start_batch = epoch, start_batch

    def count_batches(self, epoch: int) -> int:
        """How many batches an epoch has; shuffled epochs differ by a few, and count as the first of them."""
        if not self._count:
            self._count = sum(len(stream.batches) for stream in self._plan(0))
        return self._count

    def longest_batches(self, count: int) -> list[Batch]:
        """The present epoch's batches with most frames, padding included, largest first."""
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
        streams = self._plan(self.epoch)
        dataset = _StreamDataset(self.config.shar_dir, self.index, streams, self.dataset)
        total = sum(len(stream.batches) for stream in streams)
        for batch in load(dataset, range(self.start_batch, total), self.config.num_workers):
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
        """Positions in each shard of the utterances that this run can use; the others are counted.

        Those that the shards were written for have been chosen already, by the duration of the originals of
        speed copies. Only what another run asks for is looked at here, by the copies' own duration.
        """
        config, index = self.config, self.index
        low, high = config.min_utterance, config.max_utterance
        if (low, high) == (index.min_utterance, index.max_utterance):
            low, high = 0.0, float("inf")
        same_labels = (index.tokenizer, index.subsampling_factor) == (digest(tokenizer), factor)
        chosen: list[array[int]] = []
        for shard, durations in enumerate(index.durations):
            chosen.append(array("L"))
            lines = [] if same_labels else read_lines(config.shar_dir, index, shard)
            for position, duration in enumerate(durations):
                problem = duration_problem(duration, low, high)
                if not problem and not same_labels:
                    text = lines[position]["supervisions"][0]["text"]
                    problem = TOO_MANY_LABELS if length_problem(text, duration, tokenizer, factor) else ""
                if problem:
                    self.dropped[problem] += 1
                else:
                    chosen[-1].append(position)
        for problem, count in sorted(self.dropped.items()):
            log.warning("%s: %d utterances left out, %s", config.shar_dir, count, problem)
        return chosen

    def _plan(self, epoch: int) -> list[_Stream]:
        """Our streams of an epoch, as many batches in each as in those of all other ranks."""
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
            rank=0,  # a stream is one process's own
            world_size=1,
            sync_buckets=True,  # as in `todm.data.loader`; and ranks take like durations at the same time
        )
        sampler.set_epoch(epoch)
        return tuple(tuple(item.key for item in batch) for batch in sampler)


def split_batches(batches: Sequence[tuple[Key, ...]], count: int) -> tuple[tuple[Key, ...], ...]:
    """Halve the batches with most utterances, in place, until there are `count`; none is lost or repeated.

    Args:
        batches: at most `count`, with at least `count` utterances together.
        count: how many are wanted.
    """
    result = list(batches)
    while len(result) < count:
        largest = sorted(range(len(result)), key=lambda i: -len(result[i]))[: count - len(result)]
        halved = {i for i in largest if len(result[i]) > 1}
        assert halved, "fewer utterances than batches"
        result = [
            part
            for i, batch in enumerate(result)
            for part in ((batch[: len(batch) // 2], batch[len(batch) // 2 :]) if i in halved else (batch,))
        ]
    return tuple(result)


def read_batches(location: str, index: SharIndex, stream: _Stream) -> Iterator[list[Cut]]:
    """The cuts of a stream's batches, with their data; a shard without any of them is not opened.

    What was read before its turn waits in memory: at most what the sampler had in its buffer.
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
    """Batch number i of an epoch is the next one of stream ``i % len(streams)``.

    Numbers that differ by a multiple of the number of streams reach the same loading process, in order; so
    each process reads one stream. What a user can mend is returned: raised, it would arrive as a traceback.
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
