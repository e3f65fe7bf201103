"""Validation during training: word error rates and the loss on the dev parts."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch

from todm.config import Config
from todm.data.augment import append_silence
from todm.data.batch import Batch
from todm.data.loader import load_cuts, make_eval_loader
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_streaming_view
from todm.decode.wer import Utterance, compute_wer
from todm.dropout.reweighted import sparsify
from todm.extract import extract
from todm.layout import DataFolder
from todm.nn.supernet import Supernet
from todm.runtime.constants import BLANK_ID
from todm.train.average import RunningAverage
from todm.train.step import SandwichStep


class Validator:
    """Evaluates nets on the dev parts of a run.

    Args:
        config: settings of the run.
        data: prepared data.
        tokenizer: tokenizer of the labels.
    """

    def __init__(self, config: Config, data: DataFolder, tokenizer: Tokenizer) -> None:
        self.config = config
        self.data = data
        self.tokenizer = tokenizer

    def compute_wers(self, net: Supernet, average: RunningAverage) -> dict[str, float]:
        """Compute the WER of the largest and smallest nets of each mode by greedy search, percent, by name.

        Args:
            net: supernet; not changed.
            average: running average of its weights, used if ``valid_average`` is set and it has samples.
        """
        train = self.config.train
        if train.valid_average and average.num_samples:
            net = deepcopy(net)
            net.load_state_dict(average.weights())
        ends = {spec: name for name, spec in net.space.ladder().items() if name.startswith(("min", "max"))}
        wers = {}
        for spec, name in ends.items():
            plain = extract(net, spec)
            sparsify(plain.state_dict(), train.dropout)
            with torch.no_grad():
                plain.joiner.output.bias[BLANK_ID] -= train.valid_blank_penalty
            view = make_streaming_view(plain, self.config.export.chunk_ms)
            scored: list[Utterance] = []
            for part in self.config.data.dev_parts:
                scored += transcribe_batches(plain, self._batches(part), self.tokenizer, chunks=view)
            wers[name] = compute_wer(scored, replications=1).wer
        return wers

    def compute_dev_loss(self, step_fn: SandwichStep, step: int, device: torch.device) -> float:
        """Compute the max net's transducer loss per encoder frame.

        Args:
            step_fn: step of the run.
            step: batches trained so far.
            device: device of the net.
        """
        loss, frames = 0.0, 0
        for part in self.config.data.dev_parts:
            for batch in self._batches(part):
                batch = batch.to(device)
                frames += int(batch.feat_lens.sum()) // self.config.model.subsampling_factor
                longer = append_silence(batch, step_fn.tail_frames(step))
                loss += step_fn.evaluate(longer, step_fn.net.space.max())
        return loss / max(1, frames)

    def _batches(self, part: str) -> Iterator[Batch]:
        return iter(make_eval_loader(load_cuts(self.data.path, part), self.tokenizer))
