"""Files of prepared data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFolder:
    """Folder written by ``todm prepare``.

    Example:
        >>> DataFolder(Path("exp/data")).cuts("dev-clean").as_posix()
        'exp/data/manifests/cuts_dev-clean.jsonl.gz'
    """

    path: Path

    @property
    def lang(self) -> Path:
        """Folder of the tokenizer, a `LangFolder`."""
        return self.path / "lang"

    @property
    def stats(self) -> Path:
        """Mean and standard deviation of the features."""
        return self.path / "stats.json"

    @property
    def skipped(self) -> Path:
        """Utterances that were left out, with the reasons."""
        return self.path / "skipped.json"

    @property
    def manifests(self) -> Path:
        """Folder of the lhotse manifests."""
        return self.path / "manifests"

    @property
    def train_manifest(self) -> Path:
        """Cuts of all training parts, in the order of training."""
        return self.manifests / "train.jsonl.gz"

    @property
    def noise_index(self) -> Path:
        """Keys of the recordings of ``data.noise_dir`` in their archive."""
        return self.path / "sounds" / "noise.json"

    @property
    def noise_archive(self) -> Path:
        """Features of the recordings of ``data.noise_dir``."""
        return self.path / "sounds" / "noise.f32"

    @property
    def room_index(self) -> Path:
        """Keys of the rooms of ``data.rir_dir`` in their archive."""
        return self.path / "sounds" / "rooms.json"

    @property
    def room_archive(self) -> Path:
        """Energy decays of the rooms of ``data.rir_dir``."""
        return self.path / "sounds" / "rooms.f32"

    def recordings(self, part: str) -> Path:
        """Recordings of a corpus part."""
        return self.manifests / f"recordings_{part}.jsonl.gz"

    def supervisions(self, part: str) -> Path:
        """Transcripts of a corpus part."""
        return self.manifests / f"supervisions_{part}.jsonl.gz"

    def train_cuts(self, part: str) -> Path:
        """Cuts of a training part, copies of other speeds included."""
        return self.manifests / f"train_{part}.jsonl.gz"

    def cuts(self, part: str) -> Path:
        """Cuts of a dev or test part."""
        return self.manifests / f"cuts_{part}.jsonl.gz"

    def train_features(self, part: str) -> Path:
        """Folder of the features of a training part."""
        return self.path / "feats" / f"train_{part}"

    def features(self, part: str) -> Path:
        """Folder of the features of a dev or test part."""
        return self.path / "feats" / part
