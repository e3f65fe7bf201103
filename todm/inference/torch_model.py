"""Supernets and subnets in torch, with the interface of an opened bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lhotse import Fbank
from torch import Tensor

from todm.data.features import compute_features, make_extractor
from todm.decode.streaming import make_configured_view
from todm.model_dir import load_plain
from todm.nn.transducer import Transducer
from todm.runtime.bundle import Bundle, StreamingShape
from todm.runtime.chunks import Chunks
from todm.runtime.decoding import TokenSearch
from todm.runtime.fbank import DEFAULT_FBANK, FloatArray, num_frames
from todm.runtime.layout import BundleFiles
from todm.runtime.offline import OfflineRecognizer, batch_by_length
from todm.runtime.samples import check_samples
from todm.runtime.tokens import read_tokens
from todm.runtime.transcript import Transcript
from todm.space.spec import SubnetSpec

BATCH_SIZE = 16
"""Utterances per pass of `TorchRecognizer`."""


@dataclass(frozen=True, kw_only=True)
class TorchBundle(Bundle):
    """A plain net with the interface of an opened bundle, so that the runtime's hosts can run it.

    Args:
        net: in eval mode.
    """

    net: Transducer

    @torch.inference_mode()
    def encode(
        self, feats: FloatArray, feat_lens: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Encode whole utterances (N, T, 80) with lengths (N,) to (N, T', J) and lengths (N,)."""
        out, lens = self.net.encode(torch.from_numpy(feats), torch.from_numpy(feat_lens))
        return out.numpy(), lens.numpy()

    @torch.inference_mode()
    def encode_chunk(
        self, feats: FloatArray, states: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """Encode a chunk (N, window, 80) with states (L, N, dim) to (N, k, J) and the new states."""
        state = (_contiguous(states[0]), _contiguous(states[1]))
        out, (first, second) = self.net.encode_chunk(torch.from_numpy(feats), state)
        return out.numpy(), (first.numpy(), second.numpy())

    @torch.inference_mode()
    def predict(self, contexts: npt.NDArray[np.int64]) -> FloatArray:
        """Run the predictor: contexts (N, K) of ids or -1 to (N, J)."""
        out: FloatArray = self.net.predict_step(torch.from_numpy(contexts)).numpy()
        return out

    @torch.inference_mode()
    def join(self, encoder_out: FloatArray, predictor_out: FloatArray) -> FloatArray:
        """Run the joiner: (N, J) and (N, J) to logits (N, V)."""
        out = self.net.join(_contiguous(encoder_out), _contiguous(predictor_out))
        logits: FloatArray = out.numpy()
        return logits


class TorchRecognizer:
    """Transcribe whole utterances with the features of training and one pass of the net.

    The pass of a streaming net equals streaming.

    Args:
        bundle: the net.
        search: search over its predictor and joiner.
    """

    def __init__(self, bundle: TorchBundle, search: TokenSearch) -> None:
        self._chunks = bundle.streaming
        self._recognizer = OfflineRecognizer(replace(bundle, mode="offline", streaming=None), search)
        self._extractor = make_extractor()

    def transcribe(self, utterances: Sequence[npt.ArrayLike]) -> list[Transcript]:
        """Transcribe utterances in batches of similar length; see `todm.inference.model.Recognizer`.

        Raises:
            AudioError: samples that `check_samples` refuses.
        """
        checked = [check_samples(samples) for samples in utterances]
        results = [Transcript(text="")] * len(checked)
        for batch in batch_by_length(checked, BATCH_SIZE):
            feats = [compute_host_features(checked[i], self._chunks, self._extractor) for i in batch]
            for i, result in zip(batch, self._recognizer.transcribe_feats(feats), strict=True):
                results[i] = result
        return results


def compute_host_features(samples: FloatArray, chunks: Chunks | None, extractor: Fbank) -> FloatArray:
    """Compute training's features of the frames that a host consumes.

    Args:
        samples: (num_samples,) in [-1, 1] at 16 kHz.
        chunks: chunking of the streaming host: silence is appended and a partial last chunk dropped; None for
            an offline net.
        extractor: see `make_extractor`.

    Returns:
        (T, 80) float32; T is 0 for audio below half a frame.
    """
    if chunks is None or num_frames(len(samples)) == 0:
        return compute_features(samples, extractor)
    # Padded as audio: the last frames overlap the silence, as on a device.
    feats = compute_features(np.pad(samples, (0, chunks.tail_frames * DEFAULT_FBANK.frame_shift)), extractor)
    return feats[: chunks.num_consumed_frames(len(feats))]


def open_net(path: Path, spec: str | SubnetSpec | None, num_threads: int | None = None) -> TorchBundle:
    """Open a supernet at a spec, or a subnet.

    Args:
        path: model folder.
        spec: ladder name, path of a spec.json or `SubnetSpec`, for a supernet only.
        num_threads: threads of torch, for the whole process; None leaves them as they are.

    Raises:
        UserError: not a model, or a missing, unknown or superfluous spec.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    net, config, folder = load_plain(path, spec)
    return make_torch_bundle(net, folder, make_configured_view(net, config))


def make_torch_bundle(net: Transducer, folder: Path, chunks: Chunks | None) -> TorchBundle:
    """Give a plain net the interface of an opened bundle.

    Args:
        net: in eval mode, on the CPU.
        folder: model folder with ``tokens.txt``.
        chunks: chunking of a streaming net, see `make_streaming_view`; None for an offline net.
    """
    streaming = None
    if chunks is not None:
        streaming = StreamingShape(
            window=chunks.window,
            shift=chunks.shift,
            stated_tail_frames=chunks.stated_tail_frames,
            num_layers=net.spec.depth,
            state_dims=(net.state_dim, net.state_dim),
        )
    unused: Any = None
    return TorchBundle(
        net=net,
        folder=folder,
        mode=net.spec.mode,
        precision="fp32",
        tokens=read_tokens(BundleFiles(folder).tokens),
        context_size=net.context_size,
        vocab_size=net.vocab_size,
        subsampling_factor=net.subsampling_factor,
        spec=net.spec.to_dict(),
        streaming=streaming,
        files=(folder, folder, folder),
        encoder=unused,
        decoder=unused,
        joiner=unused,
    )


def _contiguous(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
