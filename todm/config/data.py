"""Settings ``data.*``: splits of the corpus, tokens, batches, shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from todm.config.fields import setting

FOLDER_NAME = (r"(?!\.)[\w.-]+", "the name of one folder (letters, digits, '-', '_', '.')")
"""Regular expression of a name without path separators, and its meaning in words."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Splits of the corpus, and how utterances become batches."""

    train_parts: tuple[str, ...] = setting(
        ("train-clean-5",),
        "Folders of the corpus to train on.",
        min_items=1,
        unique=True,
        pattern=FOLDER_NAME,
    )
    dev_parts: tuple[str, ...] = setting(
        ("dev-clean-2",),
        "Folders for validation, search and the check of quantized files.",
        min_items=1,
        unique=True,
        pattern=FOLDER_NAME,
    )
    test_parts: tuple[str, ...] = setting(
        (), "Folders that only stage 9 (decode) reads. May be empty.", unique=True, pattern=FOLDER_NAME
    )
    token_type: Literal["unigram", "bpe", "word"] = setting(
        "unigram",
        "Sentencepiece model that splits text into tokens. Whole words suit a small closed vocabulary; a "
        "word that training never contained becomes ``<unk>``.",
    )
    vocab_size: int = setting(
        500, "Largest number of tokens, including blank, ``<sos/eos>`` and ``<unk>``.", ge=4, le=100_000
    )
    speed_factors: tuple[float, ...] = setting(
        (0.9, 1.0, 1.1),
        "Copies of the training audio at these speeds; 1.0 is the original.",
        ge=0.1,
        le=10.0,
        min_items=1,
        unique=True,
    )
    store_features: bool = setting(
        True, "Store log-mel features on disk. False computes them while training."
    )
    max_duration: float = setting(
        200.0, "Largest duration of one training batch in seconds, padding included.", ge=1.0, le=1e6
    )
    num_buckets: int = setting(10, "Duration buckets of the sampler.", ge=1, le=10_000)
    sortagrad: bool = setting(
        False,
        "Order the first epoch from the shortest utterances to the longest (SortaGrad, Amodei et al., arXiv "
        "1512.02595). Short utterances teach alignment first.",
    )
    noise_dir: str = setting(
        "",
        "Folder of noise recordings (wav or flac, any depth, any rate) that training mixes in place of "
        "synthetic noise. In MUSAN's layout ``noise`` and ``music`` are used. Empty for synthetic noise.",
    )
    rir_dir: str = setting(
        "",
        "Folder of room impulse responses (wav or flac, any depth, any rate) that reverberate in place of "
        "simulated rooms. Empty for simulated ones.",
    )
    min_utterance: float = setting(
        0.3, "Shorter training utterances, in seconds, are dropped and counted.", ge=0.0, le=3600.0
    )
    max_utterance: float = setting(
        30.0, "Longer training utterances, in seconds, are dropped and counted.", gt=0.0, le=86_400.0
    )
    shar_dir: str = setting(
        "",
        "Train from lhotse Shar shards instead of single files: a folder that ``todm prepare`` fills, a URL, "
        "or ``pipe:`` and a command that writes the file ``{}``. Empty for single files.",
    )
    shar_utterances: int = setting(
        1000,
        "Utterances in one shard. Each loading process of each rank needs a shard of its own.",
        ge=1,
        le=1_000_000,
    )
    shar_buffer: int = setting(
        2000,
        "Utterances that one loading process holds in memory to shuffle them and to form batches of similar "
        "duration.",
        ge=1,
        le=10_000_000,
    )
    num_workers: int = setting(
        1, "Processes that load batches; 0 loads in the training process.", ge=0, le=1024
    )
    num_jobs: int = setting(2, "Processes that compute features in ``todm prepare``.", ge=1, le=1024)

    @property
    def uses_recordings(self) -> bool:
        """Whether training mixes in recorded noise or measured rooms."""
        return bool(self.noise_dir or self.rir_dir)

    @property
    def writes_shards(self) -> bool:
        """Whether `shar_dir` is a local folder, which ``todm prepare`` fills."""
        return bool(self.shar_dir) and not self.shar_dir.startswith("pipe:") and "://" not in self.shar_dir
