"""A small spoken corpus in LibriSpeech's layout, synthesised; the same settings give the same bytes."""

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
from todm.files import write_json
from todm.runtime.constants import SAMPLE_RATE

SETTINGS_FILE = "synth.json"

TRAIN_VARIANTS = (
    *("m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f5"),
    *("Alex", "Andy", "Annie", "Denis", "Gene", "linda", "Mario", "Michael", "adam"),
    *("edward", "max", "michel", "pablo", "quincy", "steph", "travis", "victor"),
)
DEV_VARIANTS = ("m8", "f3", "Lee", "aunty", "benjamin", "john")
TEST_VARIANTS = ("m5", "f4", "belinda", "grandma", "rob", "robert")
"""Voices of one part are heard in no other."""


@dataclass(frozen=True, kw_only=True)
class SynthSettings:
    """What is written; everything in the corpus follows from these numbers.

    Args:
        seed: of sentences, voices, noise and levels.
        train_utterances: in ``train-clean-5``; 9,000 last about 3.5 hours.
        dev_utterances: in ``dev-clean-2``; 120 last about 3 minutes.
        test_utterances: in ``test-clean``.
        train_speakers: voices in training, at most 104.
        eval_speakers: voices in each of the other parts, at most 24.
        snr_db: signal-to-noise ratio, uniform between the two, decibels.
        level_db: mean level of the speech against full scale, uniform between the two, decibels.
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
    """One speaker's share of the work, done in a process of its own."""

    part: str
    number: int
    voice: str
    num_utterances: int
    seed: tuple[int, ...]


def synthesise(out_dir: Path, settings: SynthSettings, *, num_jobs: int = 2) -> Path:
    """Write ``out_dir/LibriSpeech/{train-clean-5,dev-clean-2,test-clean}``.

    A finished corpus of the same settings is left as it is, one of other settings replaced.

    Args:
        out_dir: created if need be.
        settings: what to write.
        num_jobs: processes; does not change a byte.

    Returns:
        The ``LibriSpeech`` folder.

    Raises:
        UserError: if the folder holds a corpus that was not written by this function, or a number is
            out of range.
    """
    root = out_dir / "LibriSpeech"
    marker = root / SETTINGS_FILE
    wanted = json.loads(json.dumps(asdict(settings)))
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == wanted:
        return root
    if root.exists() and not (marker.is_file() or (out_dir / f".unfinished.{SETTINGS_FILE}").is_file()):
        raise UserError(
            f"{root}: holds a corpus that 'todm synth' did not write; choose another --out folder"
        )
    speakers = _cast(settings)
    # the note says that what lies here is ours even if we are stopped before the end
    unfinished = out_dir / f".unfinished.{SETTINGS_FILE}"
    write_json(unfinished, wanted)
    shutil.rmtree(root, ignore_errors=True)
    # A new process for each speaker: espeak-ng's samples depend on all that its process said before.
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


def _cast(settings: SynthSettings) -> list[_Speaker]:
    """Voices and numbers of utterances for each part."""
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
        voices = _pair(variants, rng)
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


def _pair(variants: Sequence[str], rng: np.random.Generator) -> list[str]:
    """All accents x variants, ordered so that any first few of them differ as much as possible."""
    variants = [variants[index] for index in rng.permutation(len(variants))]
    accents = [ACCENTS[index] for index in rng.permutation(len(ACCENTS))]
    return [
        f"{accents[(index + shift) % len(accents)]}+{variant}"
        for shift in range(len(accents))
        for index, variant in enumerate(variants)
    ]


def _speak(task: tuple[_Speaker, Path, tuple[float, float], tuple[float, float]]) -> None:
    """Write all utterances of one speaker: ``part/number/1/``."""
    speaker, root, snr_db, level_db = task
    rng = np.random.default_rng((*speaker.seed, 7))
    engine = Espeak()
    own_rate, own_pitch = rng.uniform(160, 215), rng.uniform(30, 70)
    folder = root / speaker.part / str(speaker.number) / "1"
    folder.mkdir(parents=True)
    transcript = []
    for index in range(speaker.num_utterances):
        text = draw_sentence(rng)
        voiced = engine.say(
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
    path = folder / f"{speaker.number}-1.trans.txt"
    path.write_text("".join(transcript), encoding="utf-8", newline="\n")


def _resample(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Samples (S,) at `SAMPLE_RATE`, by cutting or padding the spectrum: exact, and fast on short sounds."""
    divisor = math.gcd(sample_rate, SAMPLE_RATE)
    # whole periods of both rates, in a number of small factors: a prime length makes the FFT slow
    blocks = _smooth(-(-len(samples) * divisor // sample_rate))
    old, new = blocks * sample_rate // divisor, blocks * SAMPLE_RATE // divisor
    spectrum = np.fft.rfft(samples.astype(np.float64), old)
    return np.asarray(np.fft.irfft(spectrum[: new // 2 + 1], new) * (new / old))


def _smooth(number: int) -> int:
    """The next number whose size is at most a sixteenth above, with a power of two in it."""
    step = 1 << max(0, number.bit_length() - 5)
    return -(-number // step) * step


def _trim(samples: np.ndarray, threshold: float = 1e-3) -> np.ndarray:
    """Without the silence that espeak-ng puts around a text."""
    loud = np.flatnonzero(np.abs(samples) > threshold)
    assert len(loud), "espeak-ng said nothing"
    return samples[loud[0] : loud[-1] + 1]


def _record(
    clean: np.ndarray, rng: np.random.Generator, *, snr_db: tuple[float, float], level_db: tuple[float, float]
) -> np.ndarray:
    """Put speech (S,) into a noisy room: pauses around it, coloured noise, a random level; int16."""
    before, after = (int(rng.uniform(0.1, 0.3) * SAMPLE_RATE) for _ in range(2))
    speech = np.pad(clean.astype(np.float64), (before, after))
    speech_rms = np.sqrt(np.mean(clean.astype(np.float64) ** 2))
    noise = _coloured_noise(len(speech), rng)
    noise *= speech_rms * 10 ** (-rng.uniform(*snr_db) / 20)
    mixed = (speech + noise) * (10 ** (rng.uniform(*level_db) / 20) / speech_rms)
    pcm: np.ndarray = np.clip(np.round(mixed * 32768), -32768, 32767).astype(np.int16)
    return pcm


def _coloured_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """Stationary Gaussian noise (length,) of mean square 1, its spectrum falling by up to 9 dB an octave."""
    total = _smooth(length)
    spectrum = np.fft.rfft(rng.standard_normal(total))
    hertz = np.fft.rfftfreq(total, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(hertz, 50.0) ** (-rng.uniform(0, 1.5))
    noise = np.fft.irfft(spectrum, total)[:length]
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))
