"""File names in a bundle, the folder that a device runs, and which file each precision opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Precision = Literal["fp32", "int8", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

ModelName = Literal["encoder", "decoder", "joiner"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)


@dataclass(frozen=True)
class BundleFiles:
    """Paths of the files in a bundle; none of them needs to exist.

    Args:
        folder: the bundle.
    """

    folder: Path

    def stored(self, name: ModelName, precision: Precision) -> Path:
        """Path at which a model of exactly this precision is stored."""
        return self.folder / (f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx")

    def opened(self, name: ModelName, precision: Precision) -> Path:
        """Path that is opened for a precision: the stored one, or fp32 for a missing decoder or joiner."""
        path = self.stored(name, precision)
        # Quantizing the small decoder and joiner gains little, so bundles may leave them out.
        return path if name == "encoder" or path.is_file() else self.stored(name, "fp32")

    def encoder(self, precision: Precision = "fp32") -> Path:
        """Encoder that is opened for a precision."""
        return self.opened("encoder", precision)

    def decoder(self, precision: Precision = "fp32") -> Path:
        """Decoder that is opened for a precision."""
        return self.opened("decoder", precision)

    def joiner(self, precision: Precision = "fp32") -> Path:
        """Joiner that is opened for a precision."""
        return self.opened("joiner", precision)

    def models(self, precision: Precision = "fp32") -> tuple[Path, Path, Path]:
        """Encoder, decoder and joiner that are opened for a precision."""
        return self.encoder(precision), self.decoder(precision), self.joiner(precision)

    def num_bytes(self, precision: Precision = "fp32") -> int:
        """Bytes of the files that are opened for a precision; missing files count 0."""
        return sum(path.stat().st_size for path in self.models(precision) if path.is_file())

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions of which the bundle holds an encoder."""
        return tuple(precision for precision in PRECISIONS if self.encoder(precision).is_file())

    @property
    def tokens(self) -> Path:
        """Symbols by id, ``tokens.txt``."""
        return self.folder / "tokens.txt"

    @property
    def bpe_vocab(self) -> Path:
        """Scores of the pieces for hotwords, ``bpe.vocab``."""
        return self.folder / "bpe.vocab"

    @property
    def spec(self) -> Path:
        """Spec of the exported subnet, ``spec.json``."""
        return self.folder / "spec.json"

    @property
    def config(self) -> Path:
        """Config of the run, ``config.yaml``."""
        return self.folder / "config.yaml"

    @property
    def int8_report(self) -> Path:
        """Accuracy check of the int8 files, ``int8.json``."""
        return self.folder / "int8.json"

    @property
    def parity_report(self) -> Path:
        """Comparison of all forms of the net, ``parity.json``."""
        return self.folder / "parity.json"

    @property
    def runtime(self) -> Path:
        """Copy of this package, ``runtime``."""
        return self.folder / "runtime"

    @property
    def transcribe_script(self) -> Path:
        """Launcher of `todm.runtime.transcribe`, ``transcribe.py``."""
        return self.folder / "transcribe.py"

    @property
    def bench_script(self) -> Path:
        """Launcher of `todm.runtime.benchmark`, ``bench.py``."""
        return self.folder / "bench.py"

    @property
    def requirements(self) -> Path:
        """Packages of the runtime, ``requirements.txt``."""
        return self.folder / "requirements.txt"

    @property
    def card(self) -> Path:
        """Model card of the bundle, ``README.md``."""
        return self.folder / "README.md"
