"""Trained models: open any model folder and transcribe with it.

>>> import todm
>>> model = todm.load("exp/supernet", spec="mid")  # doctest: +SKIP
>>> model.transcribe("recording.wav").text  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from todm.errors import UserError
from todm.runtime.audio import read_audio
from todm.runtime.bundle import Bundle, open_bundle
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.decoding import TokenSearch, make_search
from todm.runtime.errors import AudioError
from todm.runtime.layout import BundleFiles, Precision
from todm.runtime.offline import OfflineRecognizer
from todm.runtime.resample import resample
from todm.runtime.samples import check_rate, check_samples
from todm.runtime.streaming import StreamingRecognizer
from todm.runtime.transcript import Transcript
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Options of `load` that do not depend on the model.

    Args:
        precision: ``fp32``, ``int8`` or ``fp16``; a torch model has fp32 only.
        beam: modified beam search instead of greedy search; ONNX bundles only.
        num_threads: CPU threads, at least 1. None is 1 for a bundle and leaves torch's setting as it is;
            torch's setting is that of the whole process.
    """

    precision: Precision = "fp32"
    beam: bool = False
    num_threads: int | None = None


class Recognizer(Protocol):
    """Transcription of whole utterances."""

    def transcribe(self, utterances: Sequence[npt.ArrayLike]) -> list[Transcript]:
        """Transcribe utterances, each (num_samples,) in [-1, 1] at 16 kHz; the order is kept."""
        ...


class Stream:
    """Recognition of one flow of audio as it arrives; made by `Model.stream`.

    The methods are named as in sherpa-onnx.

    Args:
        host: decodes the stream.
    """

    def __init__(self, host: StreamingRecognizer) -> None:
        self._host = host
        self._stream = host.create_stream()
        self._finished = False

    def accept_waveform(self, sample_rate: int, samples: npt.ArrayLike) -> None:
        """Add mono audio and decode every chunk that is complete.

        Args:
            sample_rate: samples per second, the same in every call until `reset` after the end.
            samples: (num_samples,) in [-1, 1], any number of them.

        Raises:
            AudioError: the rate changed or is not positive, audio after `input_finished`, or audio that is
                not mono, not finite or far above full scale. The stream is unchanged and takes further audio.
        """
        if self._finished:
            raise AudioError("stream: audio after input_finished(); call reset() to begin a new utterance")
        self._stream.accept_waveform(sample_rate, samples)
        self._decode()

    def input_finished(self) -> None:
        """Mark the end of the audio: trailing silence is appended and the last chunks are decoded."""
        self._finished = True
        self._stream.input_finished()
        self._decode()

    def get_result(self) -> Transcript:
        """Return the transcript since the last `reset`; its times count from the start of the audio."""
        return self._host.get_result(self._stream)

    def is_endpoint(self) -> bool:
        """Return whether the utterance has ended by sherpa-onnx's default endpoint rules."""
        return self._host.is_endpoint(self._stream)

    def reset(self) -> None:
        """Begin a new utterance; after `input_finished` also a new flow of audio."""
        if self._finished:
            self._stream = self._host.create_stream()
            self._finished = False
        else:
            self._host.reset(self._stream)

    def _decode(self) -> None:
        while self._host.is_ready(self._stream):
            self._host.decode_streams([self._stream])


class Model:
    """A trained model; made by `load`.

    Args:
        bundle: an opened bundle, or a torch net with the same interface.
        search: search of its streams.
        recognizer: transcribes whole utterances.
    """

    def __init__(self, bundle: Bundle, search: TokenSearch, recognizer: Recognizer) -> None:
        self.bundle = bundle
        self._search = search
        self._recognizer = recognizer

    @property
    def folder(self) -> Path:
        """Folder that the model was opened from."""
        return self.bundle.folder

    @property
    def spec(self) -> SubnetSpec | None:
        """Spec of the net; None for a bundle that does not record it."""
        recorded = dict(self.bundle.spec)
        return SubnetSpec.from_dict(recorded) if recorded else None

    @property
    def is_streaming(self) -> bool:
        """Whether `stream` is available."""
        return self.bundle.streaming is not None

    def __repr__(self) -> str:
        size = "" if self.spec is None else f", {self.spec.name}"
        return f"Model({str(self.folder)!r}{size}, {self.bundle.mode})"

    def transcribe(self, audio: str | Path | npt.NDArray[Any], sample_rate: int | None = None) -> Transcript:
        """Transcribe one recording.

        Args:
            audio: path of an audio file (wav, flac, any rate), or mono samples (num_samples,) in [-1, 1].
            sample_rate: samples per second of an array, 16000 when None; a file has its own.

        Raises:
            UserError: an unreadable file, samples that are not mono floating-point numbers, or
                `sample_rate` for a file.
        """
        if isinstance(audio, str | Path):
            if sample_rate is not None:
                raise UserError(f"sample_rate: {audio} has a rate of its own; leave sample_rate out")
            samples: npt.NDArray[np.float32] = read_audio(audio).samples
        else:
            samples = check_samples(audio)
            if sample_rate is not None:
                samples = resample(samples, check_rate(sample_rate), SAMPLE_RATE)
        return self._recognizer.transcribe([samples])[0]

    def transcribe_batch(self, utterances: Sequence[npt.ArrayLike]) -> list[Transcript]:
        """Transcribe utterances, several at a time, which is faster than one by one.

        Args:
            utterances: each (num_samples,) mono in [-1, 1] at 16 kHz; may be empty.

        Returns:
            One transcript per utterance, in the same order.

        Raises:
            AudioError: samples that are not mono floating-point numbers, not finite or far above full scale.
        """
        return self._recognizer.transcribe(utterances)

    def stream(self, *, reset_encoder: bool = False) -> Stream:
        """Open a stream that takes audio as it arrives.

        Args:
            reset_encoder: after a segment without tokens `Stream.reset` also resets the encoder, as in
                sherpa-onnx.

        Raises:
            UserError: an offline model, or kaldi-native-fbank is not installed.
        """
        if not self.is_streaming:
            raise UserError(
                f"{self.folder}: an offline model has no stream(); load a streaming one, for example "
                "spec='max-streaming'"
            )
        try:
            return Stream(StreamingRecognizer(self.bundle, self._search, reset_encoder=reset_encoder))
        except ImportError as error:
            raise UserError(
                f"stream: {error.name or error} is not installed; pip install 'todm[device]'"
            ) from error


def load(
    folder: str | Path,
    *,
    spec: str | SubnetSpec | None = None,
    precision: Precision = "fp32",
    beam: bool = False,
    num_threads: int | None = None,
) -> Model:
    """Open a supernet, subnet or ONNX bundle for transcription; a bundle needs no torch.

    Args:
        folder: model folder.
        spec: size and mode of a supernet: a ladder name (``min``, ``mid-streaming``), the path of a
            spec.json, or a `SubnetSpec`; refused for the other kinds, which have one size.
        precision: see `InferenceOptions`.
        beam: see `InferenceOptions`.
        num_threads: see `InferenceOptions`.

    Raises:
        UserError: not a model, a supernet without `spec`, or an option that does not suit the kind.
    """
    path = Path(folder)
    if num_threads is not None and num_threads < 1:
        raise UserError(f"num_threads: must be at least 1, got {num_threads}")
    if not path.exists():
        raise UserError(f"{path}: no such model; give a supernet, subnet or ONNX folder")
    if BundleFiles(path).precisions:
        if spec is not None:
            raise UserError(f"--spec: {path} is one size already; leave it out")
        bundle = open_bundle(path, precision=precision, num_threads=num_threads or 1)
        search = make_search(bundle, "beam" if beam else "greedy")
        recognizer = StreamingRecognizer if bundle.streaming else OfflineRecognizer
        return Model(bundle, search, recognizer(bundle, search))
    if precision != "fp32":
        raise UserError(f"precision: {path} is not an ONNX folder; {precision} is for exported models")
    if beam:
        raise UserError(f"beam: {path} is not an ONNX folder; beam search runs on exported models")
    from todm.inference.torch_model import TorchRecognizer, open_net  # needs torch

    net = open_net(path, spec, num_threads)
    search = make_search(net)
    return Model(net, search, TorchRecognizer(net, search))
