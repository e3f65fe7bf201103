"""Parity checks: transcribe the same utterances with every form of a net, from torch to sherpa-onnx.

Every form is compared with torch's full pass, features and search included: exported models must reproduce
the transcripts of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from todm.data.features import compute_features, make_extractor
from todm.data.part_audio import load_part_audio
from todm.data.tokenizer import Tokenizer
from todm.decode.greedy import greedy_search
from todm.decode.streaming import encode_in_chunks
from todm.decode.wer import compute_wer, make_utterances
from todm.deploy.contract import check_bundle
from todm.deploy.in_use import InUseResult, run_in_use_checks
from todm.errors import UserError
from todm.files import write_json
from todm.inference import Model, load
from todm.inference.torch_model import compute_host_features
from todm.model_dir import load_subnet
from todm.nn.transducer import Transducer
from todm.runtime.chunks import Chunks
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import compute_fbank
from todm.runtime.hosts import load_packages, open_host
from todm.runtime.layout import BundleFiles

AUDIBLE_RANGE = 11.5
"""Range below the loudest bin of a frame in which features are compared: nepers of energy, 50 dB."""

Transcribe = Callable[[Sequence[np.ndarray]], list[str]]


@dataclass(frozen=True, kw_only=True)
class FormResult:
    """Transcripts of one form of the net, compared with torch's full pass.

    Args:
        name: form of the net, such as ``onnx int8``.
        wer: percent.
        errors: word errors.
        differing: number of transcripts that differ from torch's full pass.
    """

    name: str
    wer: float
    errors: int
    differing: int


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Parity checks of one bundle on one part of a corpus.

    Args:
        part: name of the part.
        utterances: number of utterances.
        feature_difference: largest difference between the features of training and of the device, over bins
            within `AUDIBLE_RANGE` of the loudest of their frame; lower bins contain rounding noise.
        forms: one result per form, torch's full pass first.
        missing: forms that could not run on this machine, with the reason.
        in_use: results of the in-use checks, see `todm.deploy.in_use`.
    """

    part: str
    utterances: int
    feature_difference: float
    forms: tuple[FormResult, ...]
    missing: dict[str, str]
    in_use: tuple[InUseResult, ...] = ()

    @property
    def failed(self) -> tuple[InUseResult, ...]:
        """In-use checks that failed."""
        return tuple(result for result in self.in_use if not result.ok)

    def to_dict(self) -> dict[str, Any]:
        """Values of ``parity.json``, ready for JSON."""
        return {
            "part": self.part,
            "utterances": self.utterances,
            "feature_difference": self.feature_difference,
            "wer": {form.name: round(form.wer, 3) for form in self.forms},
            "differing": {form.name: form.differing for form in self.forms[1:]},
            "missing": self.missing,
            "in_use": [result.to_dict() for result in self.in_use],
        }


def verify_bundle(
    bundle: Path, subnet: Path, corpus_dir: Path, part: str, *, limit: int = 0, tolerance: float = 0.1
) -> Parity:
    """Run the parity checks and the in-use checks and write ``parity.json`` into the bundle.

    A failed in-use check is no error here; see `require_in_use`.

    Args:
        bundle: ONNX folder.
        subnet: subnet folder that it was exported from.
        corpus_dir: folder in LibriSpeech's layout.
        part: name of a part of the corpus.
        limit: maximum number of utterances; 0 takes all.
        tolerance: allowed absolute WER difference between float ONNX and torch, percentage points.

    Raises:
        UserError: bad input, or a difference above `tolerance`.
    """
    check_bundle(bundle)
    files = BundleFiles(bundle)
    net, _ = load_subnet(subnet)
    ids, references, samples = load_part_audio(corpus_dir, part, limit=limit)
    exact = load(bundle)
    # The chunks of the bundle, which may have been exported for others than the subnet's config gives.
    chunks = exact.bundle.streaming
    reference = TorchReference(net, Tokenizer.load(subnet), chunks)

    recognizers: dict[str, Transcribe] = {"torch": reference.transcribe}
    missing: dict[str, str] = {}
    runtimes = ["onnxruntime"]
    if chunks is not None:
        frames = chunks.shift // net.subsampling_factor
        recognizers["torch chunks"] = lambda utterances: reference.transcribe(utterances, frames)
    recognizers["onnx fp32"] = partial(_transcribe, exact)
    for precision in ("int8", "fp16"):
        if precision in files.precisions:
            recognizers[f"onnx {precision}"] = partial(_transcribe, load(bundle, precision=precision))
    try:
        load_packages("sherpa-onnx")
    except UserError as error:
        missing["sherpa-onnx"] = str(error)
    else:
        runtimes.append("sherpa-onnx")
        recognizers["sherpa-onnx"] = lambda utterances: sherpa_transcribe(bundle, utterances)

    # Spaces between words are normalized: a host prints a space for a token that is only the start of a word.
    texts = {
        name: [" ".join(text.split()) for text in transcribe(samples)]
        for name, transcribe in recognizers.items()
    }
    forms = {}
    for name, hypotheses in texts.items():
        result = compute_wer(make_utterances(ids, references, hypotheses), replications=1)
        differing = sum(one != other for one, other in zip(hypotheses, texts["torch"], strict=True))
        forms[name] = FormResult(name=name, wer=result.wer, errors=result.errors, differing=differing)
    parity = Parity(
        part=part,
        utterances=len(ids),
        feature_difference=_feature_difference(samples),
        forms=tuple(forms.values()),
        missing=missing,
        in_use=run_in_use_checks(bundle, runtimes, ids, references, samples),
    )
    write_json(files.parity_report, parity.to_dict())
    gap = abs(forms["onnx fp32"].wer - forms["torch"].wer)
    if gap > tolerance:
        raise UserError(
            f"{bundle}: the WER of float ONNX differs from torch by {gap:.2f} points (allowed: {tolerance}); "
            "see its parity.json and export the bundle again"
        )
    return parity


def require_in_use(bundle: Path, parity: Parity) -> None:
    """Refuse a bundle with failed in-use checks.

    Raises:
        UserError: names the failed checks.
    """
    if parity.failed:
        names = dict.fromkeys(f"{result.check} ({result.runtime})" for result in parity.failed)
        raise UserError(
            f"{bundle}: fails {len(names)} in-use checks: {', '.join(names)}; see in_use in its parity.json"
        )


def sherpa_transcribe(bundle: Path, utterances: Sequence[np.ndarray]) -> list[str]:
    """Greedy transcripts of sherpa-onnx; streams end in the same silence as in `todm.runtime`."""
    host = open_host("sherpa-onnx", bundle, precision="fp32", method="greedy", num_threads=1)
    texts = []
    for samples in utterances:
        stream = host.create_stream()
        stream.accept_waveform(SAMPLE_RATE, samples)
        stream.input_finished()
        texts.append(stream.get_result())
    return texts


class TorchReference:
    """Transcription with the features, the search and the tokenizer of training.

    Args:
        net: a plain net in eval mode.
        tokenizer: maps labels to text.
        chunks: chunking of the streaming host; None for an offline net.
    """

    def __init__(self, net: Transducer, tokenizer: Tokenizer, chunks: Chunks | None) -> None:
        self._net = net
        self._tokenizer = tokenizer
        self._chunks = chunks
        self._extractor = make_extractor()

    @torch.inference_mode()
    def transcribe(self, utterances: Sequence[np.ndarray], chunk_frames: int | None = None) -> list[str]:
        """Transcribe utterances (S,) at 16 kHz in one pass, or `chunk_frames` encoder frames at a time."""
        texts = []
        for samples in utterances:
            feats = torch.from_numpy(compute_host_features(samples, self._chunks, self._extractor))[None]
            labels: list[int] = []
            if feats.shape[1]:
                if chunk_frames is None:
                    out, lens = self._net.encode(feats, torch.tensor([feats.shape[1]]))
                else:
                    out = encode_in_chunks(self._net, feats, chunk_frames)
                    lens = torch.tensor([out.shape[1]])
                labels = greedy_search(self._net, out, lens)[0]
            texts.append(self._tokenizer.decode(labels))
        return texts


def _transcribe(model: Model, utterances: Sequence[np.ndarray]) -> list[str]:
    return [result.text for result in model.transcribe_batch(utterances)]


def _feature_difference(utterances: Sequence[np.ndarray]) -> float:
    """Largest absolute difference between audible log-mel values of training and device, 20 utterances."""
    largest = 0.0
    extractor = make_extractor()
    for samples in utterances[:20]:
        device = compute_fbank(samples)
        audible = device > device.max(axis=1, keepdims=True) - AUDIBLE_RANGE
        difference = np.abs(compute_features(samples, extractor) - device)
        largest = max(largest, float(difference[audible].max(initial=0.0)))
    return largest
