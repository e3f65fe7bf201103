"""WER of a spec on dev utterances, through the extracted net: what a search ranks by."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from todm.data.batch import Batch
from todm.data.loader import load_cuts, make_eval_loader
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import host_chunks
from todm.decode.wer import WerResult, compute_wer
from todm.extract import extract
from todm.model_dir import load_supernet
from todm.nn.supernet import Supernet
from todm.space.spec import SubnetSpec


class SupernetEvaluator:
    """Decodes the same batches at any spec.

    Args:
        supernet: averaged weights.
        batches: dev utterances, kept in memory.
        tokenizer: labels to text.
        chunk_ms: audio per chunk that streaming nets will be exported for, milliseconds.
    """

    def __init__(
        self, supernet: Supernet, batches: Sequence[Batch], tokenizer: Tokenizer, chunk_ms: int
    ) -> None:
        self.supernet = supernet
        self.batches = batches
        self.tokenizer = tokenizer
        self.chunk_ms = chunk_ms

    @classmethod
    def load(cls, exp_dir: Path, num_utterances: int, seed: int) -> SupernetEvaluator:
        """The averaged supernet of a run and its dev parts.

        Args:
            exp_dir: run folder with ``supernet/`` and ``data/``.
            num_utterances: how many dev utterances are drawn; 0 takes all.
            seed: of that draw.

        Raises:
            UserError: the supernet or a dev part is missing.
        """
        supernet, config = load_supernet(exp_dir / "supernet")
        tokenizer = Tokenizer.load(exp_dir / "supernet")
        cuts = [cut for part in config.data.dev_parts for cut in load_cuts(exp_dir / "data", part)]
        cuts.sort(key=lambda cut: str(cut.id))
        if 0 < num_utterances < len(cuts):
            cuts = random.Random(seed).sample(cuts, num_utterances)
        return cls(supernet, list(make_eval_loader(cuts, tokenizer)), tokenizer, config.export.chunk_ms)

    def wer(self, spec: SubnetSpec) -> WerResult:
        """Greedy WER at `spec`."""
        net = extract(self.supernet, spec)
        chunks = host_chunks(net, self.chunk_ms)
        scored = transcribe_batches(net, self.batches, self.tokenizer, chunks=chunks)
        return compute_wer(scored, replications=1)
