"""A corpus of noise bursts in LibriSpeech's layout, and a run folder prepared from it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from todm.config import Config, DataConfig
from todm.data.prepare import prepare

WORDS = ["ONE", "TWO", "THREE", "FOUR"]


def write_utterance(chapter: Path, utterance_id: str, text: str, seconds: float, rate: int = 16000) -> None:
    """Write one noisy flac and add it to the chapter's transcript."""
    chapter.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(hash_of(utterance_id)))
    samples = 0.1 * rng.standard_normal(round(seconds * rate))
    soundfile.write(str(chapter / f"{utterance_id}.flac"), samples, rate, subtype="PCM_16")
    with (chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt").open("a") as file:
        file.write(f"{utterance_id} {text}\n")


def hash_of(text: str) -> int:
    """A seed from a name; unlike `hash` the same in every process."""
    return sum(index * byte for index, byte in enumerate(text.encode(), 1))


def write_part(root: Path, part: str, num_utterances: int) -> None:
    """Write utterances of 0.5 to 2 s, spread over two speakers."""
    for index in range(num_utterances):
        speaker = str(10 + index % 2)
        text = " ".join(WORDS[(index + word) % 4] for word in range(1 + index % 3))
        seconds = 0.5 + 1.5 * index / max(num_utterances - 1, 1)
        write_utterance(root / part / speaker / "1", f"{speaker}-1-{index:04d}", text, seconds)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "LibriSpeech"
    write_part(root, "train-here", 24)
    write_part(root, "dev-here", 6)
    return root


@pytest.fixture(scope="session")
def config() -> Config:
    return Config(
        data=DataConfig(
            train_parts=("train-here",),
            dev_parts=("dev-here",),
            vocab_size=40,
            max_duration=6.0,
            num_buckets=3,
            num_workers=0,
            num_jobs=1,
        )
    )


@pytest.fixture(scope="session")
def exp_dir(corpus: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared run folder; not to be changed."""
    folder = tmp_path_factory.mktemp("exp")
    prepare(config, corpus, folder)
    return folder


@pytest.fixture(scope="session")
def digits() -> Path:
    """Folder of real speech, if available."""
    default = Path(__file__).parents[3] / "shared/corpora/digits/LibriSpeech"
    folder = Path(os.environ.get("TODM_DIGITS", default))
    if not folder.is_dir():
        pytest.skip("set TODM_DIGITS to the folder of the digits corpus")
    return folder
