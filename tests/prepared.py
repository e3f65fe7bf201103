"""A small run folder, prepared from audio files, that many tests train on or search in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from tests.nets import MODEL, SPACE
from todm.config import (
    AugmentConfig,
    Config,
    DataConfig,
    DistillConfig,
    LossConfig,
    OptimConfig,
    SearchConfig,
    SpaceConfig,
    TrainConfig,
    save_config,
)
from todm.data.prepare import prepare
from todm.extract import extract
from todm.model_dir import load_supernet, save_subnet, save_supernet
from todm.train.average import average
from todm.train.loop import train

WORDS = ("ONE", "TWO", "THREE", "FOUR")

CONFIG = Config(
    data=DataConfig(
        train_parts=("train-here",),
        dev_parts=("dev-here",),
        vocab_size=24,
        speed_factors=(1.0,),
        max_duration=5.0,
        num_buckets=2,
        num_workers=0,
        num_jobs=1,
    ),
    augment=AugmentConfig(time_mask_frames=10, freq_mask_bins=10, tail_frames=10),
    model=MODEL,
    space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes),
    train=TrainConfig(
        num_epochs=3,
        device="cpu",
        log_interval=2,
        average_period=2,
        average_from=0.3,
        keep_checkpoints=0,
        loss=LossConfig(warmup_steps=4, prune_range=3),
        distill=DistillConfig(warmup_steps=4),
        optim=OptimConfig(warmup_steps=2, lr_steps=50.0),
    ),
    search=SearchConfig(evaluations=4, population=4, seed=2),
)


def write_corpus(root: Path, *, num_train: int = 16, num_dev: int = 4) -> Path:
    """Words as tones of their own in noise: a corpus that a small net can begin to learn."""
    rng = np.random.default_rng(0)
    for part, count in (("train-here", num_train), ("dev-here", num_dev)):
        for index in range(count):
            speaker = str(10 + index % 2)
            chapter = root / part / speaker / "1"
            chapter.mkdir(parents=True, exist_ok=True)
            words = rng.choice(len(WORDS), size=1 + index % 3)
            name = f"{speaker}-1-{index:04d}"
            soundfile.write(chapter / f"{name}.flac", speak(words, rng), 16000)
            with (chapter / f"{speaker}-1.trans.txt").open("a") as file:
                file.write(f"{name} {' '.join(WORDS[word] for word in words)}\n")
    return root


def speak(words: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0.4 s of two tones for each word, 0.1 s of near silence around it; (S,) float."""
    time = np.arange(6400) / 16000
    pieces = [np.zeros(1600)]
    for word in words:
        low, high = 250.0 * (1 + word), 4000.0 - 600.0 * word
        pieces += [0.2 * np.sin(2 * np.pi * low * time) + 0.1 * np.sin(2 * np.pi * high * time)]
        pieces += [np.zeros(1600)]
    samples = np.concatenate(pieces)
    return samples + 0.003 * rng.standard_normal(len(samples))


def prepare_run(folder: Path, config: Config = CONFIG) -> Path:
    """Corpus and prepared run folder; returns the latter, with its config."""
    prepare(config, write_corpus(folder / "corpus" / "LibriSpeech"), folder / "exp")
    save_config(config, folder / "exp" / "config.yaml")
    return folder / "exp"


def finish_run(exp: Path, config: Config = CONFIG) -> Path:
    """Train, average and extract the ladder: a run folder as it is before decoding."""
    train(config, exp)
    save_supernet(exp / "supernet", average(exp), config, exp / "data" / "lang")
    supernet, _ = load_supernet(exp / "supernet")
    for name, spec in supernet.space.ladder().items():
        save_subnet(exp / "subnets" / name, extract(supernet, spec), config, exp / "supernet")
    return exp
