"""Evaluate specs on dev utterances: word error rate in the exported precision, and the loss as a proxy.

Shapes: N batch, T' encoder frames, D encoder width.
"""

from __future__ import annotations

import random
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import Cut
from torch import Tensor

from todm.config import LossConfig, Mode
from todm.data.batch import Batch
from todm.data.features import load_audio
from todm.data.loader import load_cuts, make_eval_loader
from todm.data.tokenizer import Tokenizer
from todm.decode.greedy import greedy_search
from todm.decode.streaming import apply_streaming_view, make_streaming_view
from todm.decode.wer import WerResult, compute_wer, make_utterances
from todm.extract import extract
from todm.layout import RunFolder
from todm.losses import TransducerInputs, TransducerLossOptions, rnnt_loss
from todm.model_dir import load_supernet
from todm.nn.supernet import SharedPass, Supernet
from todm.nn.transducer import Transducer, append_end_silence
from todm.runtime.fbank import FloatArray, compute_fbank
from todm.runtime.layout import Precision
from todm.runtime.offline import OfflineRecognizer
from todm.runtime.recognizer import open_recognizer
from todm.space.spec import SubnetSpec

PREFIX_BYTES = 256 << 20

WriteBundle = Callable[[Transducer, Path], object]
"""Exports a net into a folder; supplied by the caller, since the search does not import the export."""


class PrefixCache:
    """LRU cache of the outputs of first layers that specs have in common.

    Args:
        max_bytes: limit of all outputs together; 0 keeps none.
    """

    def __init__(self, max_bytes: int = PREFIX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.num_reused = 0
        self._bytes = 0
        self._outputs: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def encode(self, supernet: Supernet, shared: SharedPass, spec: SubnetSpec, batch: int) -> Tensor:
        """Compute ``supernet.encode(shared, spec)`` from the deepest cached output.

        The operations are the same, so the result is bit-identical.

        Args:
            supernet: in eval mode.
            shared: shared pass of the batch in the mode of `spec`.
            spec: spec to run.
            batch: number of the batch.
        """
        layers = list(zip(spec.layers, spec.layer_specs(), strict=True))
        keys = [(batch, spec.mode, *layers[:depth]) for depth in range(1, len(layers))]
        start = next((d for d in range(len(keys), 0, -1) if keys[d - 1] in self._outputs), 0)
        x = self._outputs[keys[start - 1]] if start else shared.x
        for key in keys[:start]:
            if key in self._outputs:
                self._outputs.move_to_end(key)
        for depth in range(start, len(layers)):
            x = supernet.run_layer(x, shared, *layers[depth])
            if depth < len(keys):
                self._keep(keys[depth], x)
        self.num_reused += start
        return supernet.finish(x)

    def _keep(self, key: tuple[Any, ...], x: Tensor) -> None:
        size = x.numel() * x.element_size()
        if size > self.max_bytes:
            return
        self._outputs[key] = x
        self._bytes += size
        while self._bytes > self.max_bytes:
            _, dropped = self._outputs.popitem(last=False)
            self._bytes -= dropped.numel() * dropped.element_size()


class SupernetEvaluator:
    """Evaluates any spec on the same batches in torch.

    Features, front end and common first layers are computed once.

    Args:
        supernet: averaged weights.
        batches: dev utterances, kept in memory.
        tokenizer: maps labels to text.
        chunk_ms: audio per chunk of exported streaming nets, milliseconds.
        prefix_bytes: memory for the outputs of common first layers.
    """

    def __init__(
        self,
        supernet: Supernet,
        batches: Sequence[Batch],
        tokenizer: Tokenizer,
        chunk_ms: int,
        prefix_bytes: int = PREFIX_BYTES,
    ) -> None:
        self.supernet = supernet
        self.batches = batches
        self.tokenizer = tokenizer
        self.chunk_ms = chunk_ms
        self.prefixes = PrefixCache(prefix_bytes)
        self._shared: dict[Mode, list[SharedPass]] = {}

    @classmethod
    def load(cls, exp_dir: Path, num_utterances: int, seed: int) -> SupernetEvaluator:
        """Load the averaged supernet of a run and its dev parts.

        Args:
            exp_dir: run folder with ``supernet/`` and ``data/``.
            num_utterances: number of dev utterances to draw; 0 takes all.
            seed: seed of the draw.

        Raises:
            UserError: the supernet or a dev part is missing.
        """
        run = RunFolder(exp_dir)
        supernet, config = load_supernet(run.supernet)
        tokenizer = Tokenizer.load(run.supernet)
        cuts = _draw_dev_cuts(run.data, config.data.dev_parts, num_utterances, seed)
        return cls(supernet, list(make_eval_loader(cuts, tokenizer)), tokenizer, config.export.chunk_ms)

    @torch.inference_mode()
    def wer(self, spec: SubnetSpec) -> WerResult:
        """Compute the greedy WER at `spec`, which equals that of the extracted net."""
        self.supernet.space.check(spec)
        scored = []
        for index, (batch, shared) in enumerate(zip(self.batches, self._share(spec.mode), strict=True)):
            encoder_out = self.prefixes.encode(self.supernet, shared, spec, index)
            # All sizes share predictor and joiner.
            hypotheses = greedy_search(self.supernet.full, encoder_out, shared.lens)
            texts = [self.tokenizer.decode(labels) for labels in hypotheses]
            scored += make_utterances(batch.ids, batch.texts, texts)
        return compute_wer(scored, replications=1)

    @torch.inference_mode()
    def loss(self, spec: SubnetSpec, config: LossConfig) -> float:
        """Compute the transducer loss per label at `spec` in nats, without a path power."""
        net, total, num_labels = self.supernet, 0.0, 0
        options = TransducerLossOptions.from_config(replace(config, path_power=1.0), with_log_probs=False)
        for index, (batch, shared) in enumerate(zip(self.batches, self._share(spec.mode), strict=True)):
            encoder_out = self.prefixes.encode(net, shared, spec, index)
            inputs = TransducerInputs(
                encoder_out=encoder_out,
                predictor_out=shared.predictor_out,
                join=net.join,
                labels=batch.labels,
                encoder_lens=shared.lens,
                label_lens=batch.label_lens,
                am=net.simple_am_proj(encoder_out),
                lm=net.simple_lm_proj(shared.predictor_out),
            )
            total += float(rnnt_loss(inputs, options).pruned.sum())
            num_labels += int(batch.label_lens.sum())
        return total / max(num_labels, 1)

    def _share(self, mode: Mode) -> list[SharedPass]:
        """Run the front end for every batch, with the streaming view of `mode`."""
        if mode not in self._shared:
            smallest = extract(self.supernet, self.supernet.space.min(mode))
            chunks = make_streaming_view(smallest, self.chunk_ms)
            passes: list[SharedPass] = []
            for batch in self.batches:
                feats, feat_lens = apply_streaming_view(batch.feats, batch.feat_lens, chunks)
                if smallest.end_silence_frames:
                    feats, feat_lens = append_end_silence(feats, feat_lens, smallest.end_silence_frames)
                shared = self.supernet.share(replace(batch, feats=feats, feat_lens=feat_lens))
                # Equal for every batch, so one copy is kept.
                passes.append(replace(shared, prepared=passes[0].prepared) if passes else shared)
            self._shared[mode] = passes
        return self._shared[mode]


def _draw_dev_cuts(data_dir: Path, parts: Sequence[str], num_utterances: int, seed: int) -> list[Cut]:
    """Draw utterances of the dev parts; 0 takes all of them, sorted by id."""
    cuts = [cut for part in parts for cut in load_cuts(data_dir, part)]
    cuts.sort(key=lambda cut: str(cut.id))
    if 0 < num_utterances < len(cuts):
        cuts = random.Random(seed).sample(cuts, num_utterances)
    return cuts


class BundleEvaluator:
    """Evaluates specs through their ONNX files in the runtime of devices.

    Args:
        supernet: averaged weights.
        audio: samples (S,) float32 at 16 kHz of every utterance.
        texts: transcripts.
        precision: precision of the files.
        write_bundle: exports a net into a folder.
    """

    def __init__(
        self,
        supernet: Supernet,
        audio: Sequence[Any],
        texts: Sequence[str],
        precision: Precision,
        write_bundle: WriteBundle,
    ) -> None:
        self.supernet = supernet
        self.audio = audio
        self.texts = texts
        self.precision = precision
        self.write_bundle = write_bundle
        self._feats: list[FloatArray] = []

    @classmethod
    def load(
        cls, exp_dir: Path, num_utterances: int, seed: int, precision: Precision, write_bundle: WriteBundle
    ) -> BundleEvaluator:
        """Load the audio of the same utterances as `SupernetEvaluator.load`."""
        run = RunFolder(exp_dir)
        supernet, config = load_supernet(run.supernet)
        cuts = _draw_dev_cuts(run.data, config.data.dev_parts, num_utterances, seed)
        audio = [load_audio(cut.recording.sources[0].source) for cut in cuts]
        texts = [str(cut.supervisions[0].text) for cut in cuts]
        return cls(supernet, audio, texts, precision, write_bundle)

    def wer(self, spec: SubnetSpec) -> WerResult:
        """Compute the greedy WER of the exported `spec`."""
        with tempfile.TemporaryDirectory() as place:
            self.write_bundle(extract(self.supernet, spec), Path(place))
            recognizer = open_recognizer(place, precision=self.precision)
            if isinstance(recognizer, OfflineRecognizer):  # features are the same for every spec
                self._feats = self._feats or [compute_fbank(samples) for samples in self.audio]
                results = recognizer.transcribe_feats(self._feats)
            else:
                results = recognizer.transcribe(self.audio)
            texts = [result.text for result in results]
        ids = [str(index) for index in range(len(texts))]
        return compute_wer(make_utterances(ids, self.texts, texts), replications=1)
