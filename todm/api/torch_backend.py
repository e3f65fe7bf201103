"""Supernets and subnets in torch, with the interface that `todm.api.model.Model` needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from todm.config import Config
from todm.data.tokenizer import Tokenizer
from todm.decode.streaming import make_configured_view
from todm.errors import UserError
from todm.extract import extract
from todm.inference import InferenceOptions, TorchRecognizer, check_model, make_torch_bundle
from todm.model_dir import load_plain, load_supernet
from todm.nn.transducer import Transducer
from todm.runtime.fbank import num_frames
from todm.runtime.layout import Precision
from todm.runtime.streaming import StreamingRecognizer
from todm.runtime.transcript import Transcript
from todm.space.spec import SubnetSpec


def load_torch(
    path: Path,
    spec: str | SubnetSpec | None,
    precision: Precision,
    *,
    beam: bool = False,
    num_threads: int | None = None,
) -> TorchBackend:
    """Open a supernet at a spec, or a subnet.

    Args:
        path: model folder.
        spec: ladder name, path of a spec.json or `SubnetSpec`, for a supernet only.
        precision: ``fp32``; others are refused.
        beam: refused.
        num_threads: threads of torch, for the whole process; None leaves them as they are.

    Raises:
        UserError: not a model, or an option that does not suit its kind.
    """
    kind = check_model(path, None, InferenceOptions(precision=precision, beam=beam))
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if not isinstance(spec, SubnetSpec):
        net, config, folder = load_plain(path, spec)
        return TorchBackend(net, folder, config)
    if kind != "supernet":
        raise UserError(f"spec: {path} is one size already; leave spec out")
    supernet, config = load_supernet(path)
    supernet.space.check(spec)
    return TorchBackend(extract(supernet, spec), path, config)


class TorchBackend:
    """Runs a plain net in torch: training's features, the full pass, greedy search.

    Args:
        net: in eval mode, on the CPU.
        folder: model folder with the language files.
        config: settings of the training, which give a streaming net's chunks.
    """

    def __init__(self, net: Transducer, folder: Path, config: Config) -> None:
        chunks = make_configured_view(net, config)
        self._bundle = make_torch_bundle(net, folder, chunks)
        self._net = net
        self._recognizer = TorchRecognizer(net, Tokenizer.load(folder), chunks)

    @property
    def spec(self) -> SubnetSpec | None:
        """Spec of the net."""
        return self._net.spec

    @property
    def is_streaming(self) -> bool:
        """Whether the net is a streaming one."""
        return self._net.spec.mode == "streaming"

    def transcribe(self, samples: npt.NDArray[np.float32]) -> Transcript:
        """Transcribe samples (num_samples,) at 16 kHz."""
        if num_frames(len(samples)) == 0:
            return Transcript(text="")
        return self._bundle.transcribe(self._recognizer.streaming_features(samples))

    def open_host(self) -> StreamingRecognizer:
        """Return the host that decodes streams chunk by chunk in torch."""
        return StreamingRecognizer(self._bundle)
