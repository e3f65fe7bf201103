"""From chosen cuts to a `Batch`, in this process or in loading processes."""

from __future__ import annotations

import multiprocessing
import sys
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
    """Turns the cuts that a sampler chose into a `Batch`; runs in the loading processes."""

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


def load(dataset: Dataset[Item], keys: Iterable[Any], num_workers: int) -> Iterator[Item]:
    """The items of `dataset` in the order of `keys`; with W workers each takes every W-th, in that order."""
    if num_workers == 0:
        return (dataset[key] for key in keys)
    # DataLoader draws a base seed for its workers; ours use none, and torch's global one stays untouched
    loader: DataLoader[Item] = DataLoader(
        dataset,
        sampler=keys,
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
        multiprocessing_context=multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn"),
        pin_memory=torch.cuda.is_available(),  # else a GPU waits for each batch to be copied
    )
    return iter(loader)
