"""Runtimes that a model folder can be measured in: one file each, one line in `HOSTS`.

A module of this package has ``open_host(folder, precision=, method=, num_threads=)`` that returns a
`Host`; it imports its runtime there and nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..bundle import Bundle, Mode
from ..errors import BundleError
from ..fbank import FloatArray
from ..layout import Precision
from ..searches import Method


class HostStream(Protocol):
    """One utterance on its way through a runtime."""

    def accept(self, samples: FloatArray) -> bool:
        """Take in mono audio (num_samples,) at 16 kHz, run what can run; whether anything did."""

    def finish(self) -> bool:
        """Say that no more audio comes and run the rest; whether anything did."""

    def text(self) -> str:
        """What was recognised so far."""


class Host(Protocol):
    """A model folder opened in a runtime."""

    @property
    def mode(self) -> Mode:
        """``offline`` or ``streaming``."""

    @property
    def chunk_frames(self) -> int | None:
        """Feature frames that a streaming encoder moves on by per call; None for an offline one."""

    @property
    def files(self) -> Sequence[Path]:
        """The ONNX files in use."""

    def start(self) -> HostStream:
        """A stream at its beginning."""


class BundleHost:
    """What a `Host` says of itself by its bundle.

    Args:
        bundle: its sessions are not used here.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @property
    def mode(self) -> Mode:
        """``offline`` or ``streaming``."""
        return self._bundle.mode

    @property
    def chunk_frames(self) -> int | None:
        """Feature frames per call of a streaming encoder."""
        return self._bundle.streaming.shift if self._bundle.streaming else None

    @property
    def files(self) -> Sequence[Path]:
        """The ONNX files in use."""
        return self._bundle.files


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Where a runtime's code is and what it needs.

    Args:
        module: name within this package.
        packages: what to install, the runtime itself first; imported with ``_`` for ``-``.
    """

    module: str
    packages: tuple[str, ...]


HOSTS = {
    "onnxruntime": Registration(module="ort", packages=("onnxruntime", "kaldi-native-fbank")),
    "sherpa-onnx": Registration(module="sherpa", packages=("sherpa-onnx",)),
    "openvino": Registration(module="vino", packages=("openvino", "kaldi-native-fbank")),
}


def check_host(name: str) -> Registration:
    """Find a runtime without loading it.

    Raises:
        BundleError: no such runtime, or one of its packages is not installed.
    """
    if name not in HOSTS:
        raise BundleError(f"runtime {name}: unknown; take one of {', '.join(HOSTS)}")
    for package in HOSTS[name].packages:
        if importlib.util.find_spec(package.replace("-", "_")) is None:
            raise BundleError(
                f"runtime {name}: the package {package} is not installed; run: pip install {package}"
            )
    return HOSTS[name]


def load_packages(name: str) -> None:
    """Import a runtime's packages.

    Raises:
        BundleError: as for `check_host`, or a package is installed but does not load.
    """
    for package in check_host(name).packages:
        try:
            importlib.import_module(package.replace("-", "_"))
        except (ImportError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BundleError(
                f"runtime {name}: the package {package} does not load ({reason}); install it again"
            ) from None


def open_host(
    name: str, folder: str | Path, *, precision: Precision, method: Method, num_threads: int
) -> Host:
    """Open a model folder in a runtime.

    Args:
        name: a key of `HOSTS`.
        folder: the model folder.
        precision: which files.
        method: ``greedy`` or ``beam``.
        num_threads: of the runtime, at least 1.

    Raises:
        BundleError: the runtime is not there, or it cannot use the folder.
    """
    load_packages(name)
    module = importlib.import_module(f".{HOSTS[name].module}", __name__)
    host: Host = module.open_host(Path(folder), precision=precision, method=method, num_threads=num_threads)
    return host
