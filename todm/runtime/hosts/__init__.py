"""Device runtimes that can open a model folder, by name.

To add one, write a module in this package with ``open_host(folder, *, precision, method, num_threads)`` that
returns a `Host`, and add a line to `HOSTS`. The module imports its runtime inside ``open_host`` only.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..bundle import Bundle, Mode
from ..decoding import Method
from ..errors import BundleError
from ..fbank import FloatArray
from ..layout import Precision


class HostStream(Protocol):
    """One utterance in a runtime."""

    def accept_waveform(self, sample_rate: int, samples: FloatArray) -> bool:
        """Append mono audio (num_samples,) and decode what is ready; returns whether the encoder ran.

        Raises:
            AudioError: unusable audio, see `StreamInput`; the stream is unchanged.
        """

    def input_finished(self) -> bool:
        """Mark the end of the audio and decode the rest; returns whether the encoder ran.

        Further calls have no effect.
        """

    def get_result(self) -> str:
        """Text recognized so far."""


class Host(Protocol):
    """Model folder opened in a runtime."""

    @property
    def mode(self) -> Mode:
        """Mode of the model, ``offline`` or ``streaming``."""

    @property
    def chunk_frames(self) -> int | None:
        """Feature frames by which a streaming encoder advances per call; None for an offline one."""

    @property
    def files(self) -> Sequence[Path]:
        """ONNX files in use."""

    def create_stream(self) -> HostStream:
        """Make a new stream."""


class BundleHost:
    """Base class that reads the properties of a `Host` from a bundle.

    Args:
        bundle: the model folder; its sessions are not used here.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @property
    def mode(self) -> Mode:
        """Mode of the model, ``offline`` or ``streaming``."""
        return self._bundle.mode

    @property
    def chunk_frames(self) -> int | None:
        """Feature frames by which a streaming encoder advances per call; None for an offline one."""
        return self._bundle.streaming.shift if self._bundle.streaming else None

    @property
    def files(self) -> Sequence[Path]:
        """ONNX files in use."""
        return self._bundle.files


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Entry of `HOSTS`.

    Args:
        module: module name in this package.
        packages: pip packages that it needs, the runtime first; imported with ``_`` for ``-``.
    """

    module: str
    packages: tuple[str, ...]


HOSTS = {
    "onnxruntime": Registration(module="ort", packages=("onnxruntime", "kaldi-native-fbank")),
    "sherpa-onnx": Registration(module="sherpa", packages=("sherpa-onnx",)),
    "openvino": Registration(module="vino", packages=("openvino", "kaldi-native-fbank")),
}


def check_host(name: str) -> Registration:
    """Look up a runtime and check that its packages are installed, without importing them.

    Raises:
        BundleError: unknown runtime, or a missing package.
    """
    if name not in HOSTS:
        raise BundleError(f"runtime {name}: unknown; give one of {', '.join(HOSTS)}")
    for package in HOSTS[name].packages:
        if importlib.util.find_spec(package.replace("-", "_")) is None:
            raise BundleError(
                f"runtime {name}: the package {package} is not installed; run: pip install {package}"
            )
    return HOSTS[name]


def load_packages(name: str) -> None:
    """Import the packages of a runtime.

    Raises:
        BundleError: as for `check_host`, or a package is installed but cannot be imported.
    """
    for package in check_host(name).packages:
        try:
            importlib.import_module(package.replace("-", "_"))
        except (ImportError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BundleError(
                f"runtime {name}: the package {package} cannot be imported ({reason}); install it again"
            ) from None


def open_host(
    name: str, folder: str | Path, *, precision: Precision, method: Method, num_threads: int
) -> Host:
    """Open a model folder in a runtime.

    Args:
        name: a key of `HOSTS`.
        folder: the model folder.
        precision: precision of the opened files.
        method: ``greedy`` or ``beam``.
        num_threads: threads of the runtime, at least 1.

    Raises:
        BundleError: the runtime is missing, or it cannot use the folder.
    """
    load_packages(name)
    module = importlib.import_module(f".{HOSTS[name].module}", __name__)
    host: Host = module.open_host(Path(folder), precision=precision, method=method, num_threads=num_threads)
    return host
