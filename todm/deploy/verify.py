"""The parity ladder: the same utterances through every form of a net, from torch to the stock host.

Each rung is compared with the one above the device: torch's full pass. A bundle may then be trusted to do on
the device what it did in training, features and search included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from todm.data.part_audio import load_part_audio
from todm.data.tokenizer import Tokenizer
from todm.decode.greedy import greedy_search
from todm.decode.streaming import encode_in_chunks
from todm.decode.wer import compute_wer, make_utterances
from todm.deploy.contract import check_bundle
from todm.errors import UserError
from todm.files import write_json
from todm.model_dir import load_subnet
from todm.recognizer import BundleRecognizer, TorchRecognizer
from todm.runtime.bundle import open_bundle
from todm.runtime.fbank import DEFAULT_FBANK, compute_fbank
from todm.runtime.layout import BundleFiles

AUDIBLE = 11.5  # nepers of energy, 50 dB

Transcribe = Callable[[Sequence[np.ndarray]], list[str]]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What one form of the net recognised.

    Args:
        name: which form.
        wer: percent.
        errors: word errors.
        differing: transcripts that differ from torch's full pass.
    """

    name: str
    wer: float
    errors: int
    differing: int


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The ladder of one bundle on one part.

    Args:
        part: of the corpus.
        utterances: how many.
        feature_difference: largest difference between training's and the device's features, over bins
            at most `AUDIBLE` below their frame's loudest; further down both are rounding noise.
        rungs: torch's full pass first.
        missing: rungs that could not run here, with the reason.
    """

    part: str
    utterances: int
    feature_difference: float
    rungs: tuple[Rung, ...]
    missing: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Content of ``parity.json``."""
        return {
            "part": self.part,
            "utterances": self.utterances,
            "feature_difference": self.feature_difference,
            "wer": {rung.name: round(rung.wer, 3) for rung in self.rungs},
            "differing": {rung.name: rung.differing for rung in self.rungs[1:]},
            "missing": self.missing,
        }


def verify_bundle(
    bundle: Path, subnet: Path, corpus_dir: Path, part: str, *, limit: int = 0, tolerance: float = 0.1
) -> Parity:
    """Run the ladder and write ``parity.json`` into the bundle.

    Args:
        bundle: ONNX folder.
        subnet: the folder it was exported from.
        corpus_dir: folder in LibriSpeech's layout.
        part: of the corpus.
        limit: utterances at most; 0 takes all.
        tolerance: absolute WER difference, percent, that float ONNX may have from torch.

    Raises:
        UserError: bad input, or float ONNX further from torch than `tolerance`.
    """
    check_bundle(bundle)
    files = BundleFiles(bundle)
    net, _ = load_subnet(subnet)
    ids, texts, samples = load_part_audio(corpus_dir, part, limit=limit)
    exact = BundleRecognizer(bundle)
    # Of the bundle: it may have been exported for other chunks than the subnet's config says.
    chunks = exact.recognizer.bundle.streaming
    torch_recognizer = TorchRecognizer(net, Tokenizer.load(subnet), chunks)

    forms: dict[str, Transcribe] = {"torch": torch_recognizer.transcribe}
    missing: dict[str, str] = {}
    if chunks is not None:
        frames = chunks.shift // net.subsampling_factor
        forms["torch chunks"] = lambda utterances: _torch_chunks(torch_recognizer, utterances, frames)
    forms["onnx fp32"] = exact.transcribe
    for precision in ("int8", "fp16"):
        if precision in files.precisions:
            forms[f"onnx {precision}"] = BundleRecognizer(bundle, precision=precision).transcribe
    try:
        import sherpa_onnx  # noqa: F401
    except ImportError as error:
        missing["sherpa-onnx"] = f"not installed ({error})"
    else:
        forms["sherpa-onnx"] = lambda utterances: sherpa_transcribe(bundle, utterances)

    # Spaces between words do not count: hosts print a piece that is nothing but a word's beginning.
    heard = {
        name: [" ".join(text.split()) for text in transcribe(samples)] for name, transcribe in forms.items()
    }
    rungs = []
    for name, hypotheses in heard.items():
        result = compute_wer(make_utterances(ids, texts, hypotheses), replications=1)
        differing = sum(one != other for one, other in zip(hypotheses, heard["torch"], strict=True))
        rungs.append(Rung(name=name, wer=result.wer, errors=result.errors, differing=differing))
    parity = Parity(
        part=part,
        utterances=len(ids),
        feature_difference=_feature_difference(torch_recognizer, samples),
        rungs=tuple(rungs),
        missing=missing,
    )
    write_json(files.parity_report, parity.to_dict())
    by_name = {rung.name: rung for rung in rungs}
    gap = abs(by_name["onnx fp32"].wer - by_name["torch"].wer)
    if gap > tolerance:
        raise UserError(
            f"{bundle}: float ONNX is {gap:.2f} points of WER away from torch (allowed: {tolerance}); "
            "see its parity.json and export the bundle again"
        )
    return parity


def sherpa_transcribe(bundle: Path, utterances: Sequence[np.ndarray]) -> list[str]:
    """Greedy transcripts of the stock host; a stream gets the silence behind it that our runtime gives it."""
    import sherpa_onnx

    layout = BundleFiles(bundle)
    files = {
        "encoder": str(layout.encoder()),
        "decoder": str(layout.decoder()),
        "joiner": str(layout.joiner()),
        "tokens": str(layout.tokens),
    }
    chunks = open_bundle(bundle).streaming
    if chunks is None:
        offline = sherpa_onnx.OfflineRecognizer.from_transducer(**files, num_threads=1)
        texts = []
        for samples in utterances:
            stream = offline.create_stream()
            stream.accept_waveform(DEFAULT_FBANK.sample_rate, samples)
            offline.decode_stream(stream)
            texts.append(stream.result.text.strip())
        return texts
    online = sherpa_onnx.OnlineRecognizer.from_transducer(**files, model_type="lstm", num_threads=1)
    silence = np.zeros(chunks.tail_frames * DEFAULT_FBANK.frame_shift, dtype=np.float32)
    texts = []
    for samples in utterances:
        stream = online.create_stream()
        stream.accept_waveform(DEFAULT_FBANK.sample_rate, np.concatenate((samples, silence)))
        stream.input_finished()
        while online.is_ready(stream):
            online.decode_stream(stream)
        texts.append(online.get_result(stream).strip())
    return texts


def _torch_chunks(recognizer: TorchRecognizer, utterances: Sequence[np.ndarray], chunk: int) -> list[str]:
    """The streaming net fed `chunk` encoder frames at a time in torch."""
    net = recognizer.net
    texts = []
    for samples in utterances:
        out = encode_in_chunks(net, torch.from_numpy(recognizer.heard(samples))[None], chunk)
        labels = greedy_search(net, out, torch.tensor([out.shape[1]]))[0]
        texts.append(recognizer.tokenizer.decode(labels))
    return texts


def _feature_difference(recognizer: TorchRecognizer, utterances: Sequence[np.ndarray]) -> float:
    """Largest absolute difference of audible log-mel values over a few utterances."""
    largest = 0.0
    for samples in utterances[:20]:
        device = compute_fbank(samples)
        audible = device > device.max(axis=1, keepdims=True) - AUDIBLE
        difference = np.abs(recognizer.features(samples) - device)
        largest = max(largest, float(difference[audible].max()))
    return largest
