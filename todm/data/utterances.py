"""Batches from cuts, made in this process or in loader processes."""

from __future__ import annotations

import multiprocessing
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from lhotse.cut import Cut
from torch.utils.data import DataLoader, Dataset

from todm.data.batch import Batch, collate
from todm.data.features import load_features, make_extractor
from todm.data.tokenizer import Tokenizer

Item = TypeVar("Item", covariant=True)


class UtteranceDataset(Dataset[Batch]):
    """Make a `Batch` of the cuts that a sampler chose; used in the loader processes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.extractor = make_extractor()

    def __getitem__(self, cuts: Iterable[Cut]) -> Batch:
        chosen = list(cuts)
        texts = [str(cut.supervisions[0].text) for cut in chosen]
        return collate(
            [load_features(cut, self.extractor) for cut in chosen],
            self.tokenizer.encode(texts),
            texts=texts,
            ids=[cut.id for cut in chosen],
        )


class EpochLoader(ABC):
    """Shuffled training batches of one epoch at a time, starting with epoch 0.

    Args:
        tokenizer: tokenizer of the labels.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.dataset = UtteranceDataset(tokenizer)
        self.epoch = 0
        self.start_batch = 0

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Select the epoch, from 0, and the first batch to load in it."""
        self.epoch, self.start_batch = epoch, start_batch

    @abstractmethod
    def count_batches(self, epoch: int) -> int:
        """Count the batches of an epoch.

        Shuffled epochs differ by a few batches; the count of the first shuffled epoch is returned for all.
        """

    @abstractmethod
    def longest_batches(self, count: int) -> list[Batch]:
        """Load the batches of the current epoch with the most frames, padding included, largest first."""

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """Load the batches of the current epoch."""


def iter_batches(dataset: Dataset[Item], keys: Iterable[Any], num_workers: int) -> Iterator[Item]:
    """Load the items of a dataset in the order of their keys.

    Args:
        dataset: maps a key to an item, usually a batch.
        keys: keys in the order of loading.
        num_workers: loader processes, each of which loads every `num_workers`-th item; 0 loads in this one.
    """
    if num_workers == 0:
        return (dataset[key] for key in keys)
    # DataLoader draws a base seed for its workers. They need none, so the global generator is not used.
    loader: DataLoader[Item] = DataLoader(
        dataset,
        sampler=keys,
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
        multiprocessing_context=multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn"),
        pin_memory=torch.cuda.is_available(),  # otherwise a GPU waits while each batch is copied
    )
    return iter(loader)
