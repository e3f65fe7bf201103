"""Small synthetic corpus in LibriSpeech's layout; the same settings give the same bytes."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from todm.data.espeak import ACCENTS, Espeak
from todm.data.grammar import draw_sentence
from todm.errors import UserError
from todm.files import read_json, write_json, write_text
from todm.runtime.constants import SAMPLE_RATE

SETTINGS_FILE = "synth.json"

TRAIN_VARIANTS = (
    *("m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f5"),
    *("Alex", "Andy", "Annie", "Denis", "Gene", "linda", "Mario", "Michael", "adam"),
    *("edward", "max", "michel", "pablo", "quincy", "steph", "travis", "victor"),
)
DEV_VARIANTS = ("m8", "f3", "Lee", "aunty", "benjamin", "john")
TEST_VARIANTS = ("m5", "f4", "belinda", "grandma", "rob", "robert")
"""Voices; no two parts share one."""


@dataclass(frozen=True, kw_only=True)
class SynthSettings:
    """Settings of a synthetic corpus, which they determine completely.

    Args:
        seed: seed of sentences, voices, noise and levels.
        train_utterances: utterances of ``train-clean-5``; 9,000 last about 3.5 hours.
        dev_utterances: utterances of ``dev-clean-2``; 120 last about 3 minutes.
        test_utterances: utterances of ``test-clean``.
        train_speakers: voices of the training part, at most 104.
        eval_speakers: voices of each other part, at most 24.
        snr_db: range of the signal-to-noise ratio, decibels; uniform.
        level_db: range of the mean level of the speech relative to full scale, decibels; uniform.
    """

    seed: int = 1
    train_utterances: int = 9000
    dev_utterances: int = 120
    test_utterances: int = 120
    train_speakers: int = 104
    eval_speakers: int = 8
    snr_db: tuple[float, float] = (10.0, 40.0)
    level_db: tuple[float, float] = (-35.0, -18.0)


@dataclass(frozen=True, kw_only=True)
class _Speaker:
    """Utterances of one speaker, synthesised in one process."""

    part: str
    number: int
    voice: str
    num_utterances: int
    seed: tuple[int, ...]


def synthesise(out_dir: Path, settings: SynthSettings, *, num_jobs: int = 2) -> Path:
    """Write ``out_dir/LibriSpeech/{train-clean-5,dev-clean-2,test-clean}``.

    A complete corpus with the same settings is kept; one with other settings is replaced.

    Args:
        out_dir: folder of the corpus, created if needed.
        settings: settings of the corpus.
        num_jobs: number of processes; has no effect on the corpus.

    Returns:
        The ``LibriSpeech`` folder.

    Raises:
        UserError: the folder holds a corpus that this function did not write, or a number is out of range.
    """
    root = out_dir / "LibriSpeech"
    marker = root / SETTINGS_FILE
    wanted = json.loads(json.dumps(asdict(settings)))
    if marker.is_file() and read_json(marker) == wanted:
        return root
    if root.exists() and not (marker.is_file() or (out_dir / f".unfinished.{SETTINGS_FILE}").is_file()):
        raise UserError(
            f"{root}: holds a corpus that 'todm synth' did not write; choose another --out folder"
        )
    speakers = _plan_speakers(settings)
    # Marks an incomplete corpus as written by this function.
    unfinished = out_dir / f".unfinished.{SETTINGS_FILE}"
    write_json(unfinished, wanted)
    shutil.rmtree(root, ignore_errors=True)
    # One process per speaker, since samples depend on the earlier texts of a process.
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload([__name__])
    with context.Pool(max(1, num_jobs), maxtasksperchild=1) as pool:
        tasks = ((speaker, root, settings.snr_db, settings.level_db) for speaker in speakers)
        for _ in pool.imap_unordered(_speak, tasks, chunksize=1):
            pass
    write_json(marker, wanted)
    unfinished.unlink()
    return root


def _plan_speakers(settings: SynthSettings) -> list[_Speaker]:
    """Choose voices and numbers of utterances for each part."""
    plan = (
        ("train-clean-5", TRAIN_VARIANTS, settings.train_utterances, settings.train_speakers),
        ("dev-clean-2", DEV_VARIANTS, settings.dev_utterances, settings.eval_speakers),
        ("test-clean", TEST_VARIANTS, settings.test_utterances, settings.eval_speakers),
    )
    speakers = []
    for part_index, (part, variants, num_utterances, num_speakers) in enumerate(plan):
        if num_utterances < 1 or num_speakers < 1:
            raise UserError(
                f"{part}: {num_utterances} utterances of {num_speakers} speakers; give at least 1"
            )
        rng = np.random.default_rng((settings.seed, part_index))
        voices = _list_voices(variants, rng)
        if num_speakers > len(voices):
            raise UserError(f"{part}: {num_speakers} speakers; there are only {len(voices)} voices")
        num_speakers = min(num_speakers, num_utterances)
        for index in range(num_speakers):
            share = num_utterances // num_speakers + (index < num_utterances % num_speakers)
            number = 1001 + 1000 * part_index + index
            seed = (settings.seed, part_index, index)
            speakers.append(
                _Speaker(part=part, number=number, voice=voices[index], num_utterances=share, seed=seed)
            )
    return speakers


def _list_voices(variants: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Combine accents and variants, in an order in which the first few differ most."""
    variants = [variants[index] for index in rng.permutation(len(variants))]
    accents = [ACCENTS[index] for index in rng.permutation(len(ACCENTS))]
    return [
        f"{accents[(index + shift) % len(accents)]}+{variant}"
        for shift in range(len(accents))
        for index, variant in enumerate(variants)
    ]


def _speak(task: tuple[_Speaker, Path, tuple[float, float], tuple[float, float]]) -> None:
    """Write all utterances of one speaker to ``part/number/1/``."""
    speaker, root, snr_db, level_db = task
    rng = np.random.default_rng((*speaker.seed, 7))
    engine = Espeak()
    own_rate, own_pitch = rng.uniform(160, 215), rng.uniform(30, 70)
    folder = root / speaker.part / str(speaker.number) / "1"
    folder.mkdir(parents=True)
    transcript = []
    for index in range(speaker.num_utterances):
        text = draw_sentence(rng)
        voiced = engine.synthesise(
            text.lower(),
            voice=speaker.voice,
            rate=round(own_rate * rng.uniform(0.92, 1.08)),
            pitch=round(own_pitch + rng.uniform(-8, 8)),
            pitch_range=int(rng.integers(35, 65)),
        )
        clean = _trim(_resample(voiced, engine.sample_rate))
        samples = _record(clean, rng, snr_db=snr_db, level_db=level_db)
        utterance_id = f"{speaker.number}-1-{index:04d}"
        soundfile.write(str(folder / f"{utterance_id}.flac"), samples, SAMPLE_RATE, subtype="PCM_16")
        transcript.append(f"{utterance_id} {text}\n")
    write_text(folder / f"{speaker.number}-1.trans.txt", "".join(transcript))


def _resample(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample (S,) to `SAMPLE_RATE` by cutting or padding the spectrum; fast for short signals.

    Exact, unlike the short filter of `todm.runtime.resample`, which would cost synthesised speech its highest
    frequencies: no device resamples this audio again, so that the two need not agree.
    """
    divisor = math.gcd(sample_rate, SAMPLE_RATE)
    # A multiple of the periods of both rates without large prime factors, which would slow down the FFT.
    blocks = _round_up(-(-len(samples) * divisor // sample_rate))
    old, new = blocks * sample_rate // divisor, blocks * SAMPLE_RATE // divisor
    spectrum = np.fft.rfft(samples.astype(np.float64), old)
    return np.asarray(np.fft.irfft(spectrum[: new // 2 + 1], new) * (new / old))


def _round_up(number: int) -> int:
    """Round up, by at most a sixteenth, to a multiple of a power of two."""
    step = 1 << max(0, number.bit_length() - 5)
    return -(-number // step) * step


def _trim(samples: np.ndarray, threshold: float = 1e-3) -> np.ndarray:
    """Remove the silence that espeak-ng adds at both ends."""
    loud = np.flatnonzero(np.abs(samples) > threshold)
    assert len(loud), "espeak-ng returned silence"
    return samples[loud[0] : loud[-1] + 1]


def _record(
    clean: np.ndarray, rng: np.random.Generator, *, snr_db: tuple[float, float], level_db: tuple[float, float]
) -> np.ndarray:
    """Add pauses, coloured noise and a random level to speech (S,); returns int16."""
    before, after = (int(rng.uniform(0.1, 0.3) * SAMPLE_RATE) for _ in range(2))
    speech = np.pad(clean.astype(np.float64), (before, after))
    speech_rms = np.sqrt(np.mean(clean.astype(np.float64) ** 2))
    noise = _coloured_noise(len(speech), rng)
    noise *= speech_rms * 10 ** (-rng.uniform(*snr_db) / 20)
    mixed = (speech + noise) * (10 ** (rng.uniform(*level_db) / 20) / speech_rms)
    pcm: np.ndarray = np.clip(np.round(mixed * 32768), -32768, 32767).astype(np.int16)
    return pcm


def _coloured_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw Gaussian noise (length,) of mean square 1 whose spectrum falls by up to 9 dB per octave."""
    total = _round_up(length)
    spectrum = np.fft.rfft(rng.standard_normal(total))
    hertz = np.fft.rfftfreq(total, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(hertz, 50.0) ** (-rng.uniform(0, 1.5))
    noise = np.fft.irfft(spectrum, total)[:length]
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))
