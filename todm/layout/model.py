"""Files of a tokenizer and of a trained net."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LangFolder:
    """Folder with the files of a tokenizer; every model folder is one too."""

    path: Path

    @property
    def tokens(self) -> Path:
        """Symbol table, one ``symbol id`` per line."""
        return self.path / "tokens.txt"

    @property
    def bpe_model(self) -> Path:
        """SentencePiece model in its serialised form."""
        return self.path / "bpe.model"

    @property
    def bpe_vocab(self) -> Path:
        """Pieces and scores of the SentencePiece model, read by sherpa-onnx for hotwords."""
        return self.path / "bpe.vocab"

    @property
    def language_files(self) -> tuple[Path, ...]:
        """All files of the tokenizer."""
        return self.tokens, self.bpe_model, self.bpe_vocab


@dataclass(frozen=True)
class ModelFolder(LangFolder):
    """Folder of a supernet or, with a ``spec.json``, of a subnet.

    Example:
        >>> ModelFolder(Path("exp/supernet")).weights.as_posix()
        'exp/supernet/model.safetensors'
    """

    @property
    def weights(self) -> Path:
        """State dict of the model."""
        return self.path / "model.safetensors"

    @property
    def config(self) -> Path:
        """Settings of the training."""
        return self.path / "config.yaml"

    @property
    def spec(self) -> Path:
        """Spec of a subnet; a supernet has none."""
        return self.path / "spec.json"
