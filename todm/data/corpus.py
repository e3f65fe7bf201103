"""lhotse manifests of a folder in LibriSpeech's layout: ``part/speaker/chapter/{*.flac, *.trans.txt}``.

lhotse's own recipe stops at the first unreadable file and skips a missing part without an error, so the
folder is scanned here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from lhotse.recipes import librispeech

from todm.errors import UserError
from todm.runtime.fbank import FbankSettings

AUDIO_SUFFIXES = (".flac", ".wav")
MIN_ENCODABLE = 0.16
"""Shortest utterance in seconds: one frame of an encoder with subsampling 8."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """One utterance that is not used.

    Args:
        stage: stage that found it: ``manifests``, ``features`` or ``tokenizer``.
        part: corpus part.
        id: utterance id.
        reason: category, identical for all utterances with the same problem.
        detail: file or figures.
    """

    stage: str
    part: str
    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Manifests of one corpus part, sorted by utterance id, and the utterances that were skipped."""

    name: str
    recordings: RecordingSet
    supervisions: SupervisionSet
    skipped: tuple[Skipped, ...]

    def cuts(self) -> CutSet:
        """Return one cut per utterance, with the utterance's id."""
        return make_cuts(self.recordings, self.supervisions)


def make_cuts(recordings: RecordingSet, supervisions: SupervisionSet) -> CutSet:
    """Make one cut per recording, with its id (lhotse would number them)."""
    cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    return CutSet.from_cuts(cut.with_id(cut.recording.id) for cut in cuts)


@dataclass(frozen=True)
class _Line:
    """Line of a transcript file; `audio` is None if the file is missing."""

    id: str
    text: str
    audio: Path | None
    folder: Path


def find_corpus(corpus_dir: Path) -> Path:
    """Find the folder that holds the parts: ``corpus_dir`` or the ``LibriSpeech`` folder in it.

    Raises:
        UserError: the folder is missing or holds no part.
    """
    if not corpus_dir.is_dir():
        raise UserError(f"{corpus_dir}: no such corpus folder; give --corpus-dir a folder that exists")
    nested = corpus_dir / "LibriSpeech"
    root = nested if nested.is_dir() else corpus_dir
    if not list_parts(root):
        raise UserError(
            f"{root}: no part in LibriSpeech's layout (part/speaker/chapter/*.trans.txt); "
            "give --corpus-dir the folder that holds the parts"
        )
    return root


def list_parts(root: Path) -> list[str]:
    """List the folders in ``root`` that hold transcripts, sorted by name."""
    return sorted(
        folder.name for folder in root.iterdir() if folder.is_dir() and any(folder.glob("*/*/*.trans.txt"))
    )


def read_part(corpus_dir: Path, part: str, *, num_jobs: int = 1) -> Part:
    """Scan one corpus part and decode every audio file once, to find damaged ones.

    Args:
        corpus_dir: folder of the parts, or its parent.
        part: name of a folder in it.
        num_jobs: number of decoding threads.

    Raises:
        UserError: the folder or the part is missing, or no utterance is usable.
    """
    root = find_corpus(corpus_dir)
    parts = list_parts(root)
    if part not in parts:
        raise UserError(f"{root}: no part '{part}'; use one of: {', '.join(parts)}")
    skipped: list[Skipped] = []

    def skip(utterance_id: str, reason: str, detail: str | Path = "") -> None:
        skipped.append(
            Skipped(stage="manifests", part=part, id=utterance_id, reason=reason, detail=str(detail))
        )

    lines: dict[str, _Line] = {}
    transcribed: set[Path | None] = set()
    for line in _read_transcripts(root / part):
        transcribed.add(line.audio)
        if line.id in lines:
            skip(line.id, "id used twice", line.folder)
        elif not line.text:
            skip(line.id, "no text", line.folder)
        elif line.audio is None:
            skip(line.id, "transcript without audio", line.folder)
        else:
            lines[line.id] = line
    for audio in sorted((root / part).glob("*/*/*")):
        if audio.suffix in AUDIO_SUFFIXES and audio not in transcribed:
            skip(audio.stem, "audio without transcript", audio)

    recordings: list[Recording] = []
    supervisions: list[SupervisionSegment] = []
    ordered = [lines[key] for key in sorted(lines)]
    with ThreadPoolExecutor(max(1, num_jobs)) as pool:
        for line, result in zip(ordered, pool.map(_open_recording, ordered), strict=True):
            if isinstance(result, Recording):
                recordings.append(result)
                supervisions.append(_supervision(line, result))
            else:
                skip(line.id, result, line.audio or "")
    if not recordings:
        raise UserError(
            f"{root / part}: none of its {len(skipped)} utterances is usable "
            f"(the first: {skipped[0].id}, {skipped[0].reason}); repair the corpus or choose another part"
        )
    return Part(
        name=part,
        recordings=RecordingSet.from_recordings(recordings),
        supervisions=SupervisionSet.from_segments(supervisions),
        skipped=tuple(skipped),
    )


def download(target_dir: Path, parts: Sequence[str]) -> Path:
    """Download and unpack parts of LibriSpeech or Mini LibriSpeech; existing parts are kept.

    Returns:
        The ``LibriSpeech`` folder.

    Raises:
        UserError: openslr.org has no such part, or the network fails.
    """
    known = (*librispeech.LIBRISPEECH, *librispeech.MINI_LIBRISPEECH)
    for part in parts:
        if part not in known:
            raise UserError(f"{part}: no such part to download; use one of: {', '.join(known)}")
    try:
        root = librispeech.download_librispeech(target_dir, dataset_parts=list(parts))
    except OSError as error:
        raise UserError(
            f"{target_dir}: the download failed ({error}); run again to continue where it stopped"
        ) from error
    return Path(root)


def _read_transcripts(part_dir: Path) -> Iterator[_Line]:
    for path in sorted(part_dir.glob("*/*/*.trans.txt")):
        for raw in path.read_text(encoding="utf-8", errors="replace").splitlines():
            utterance_id, _, text = raw.strip().partition(" ")
            if not utterance_id:
                continue
            candidates = (path.parent / f"{utterance_id}{suffix}" for suffix in AUDIO_SUFFIXES)
            audio = next((candidate for candidate in candidates if candidate.is_file()), None)
            yield _Line(utterance_id, " ".join(text.split()), audio, path.parent)


def _open_recording(line: _Line) -> Recording | str:
    """Decode a file completely.

    Returns:
        A `Recording` at 16 kHz (resampled on load if needed), or the reason why it is unusable.
    """
    assert line.audio is not None
    try:
        with soundfile.SoundFile(str(line.audio)) as file:
            sample_rate, num_channels, num_samples = file.samplerate, file.channels, file.frames
            decoded = sum(len(block) for block in file.blocks(blocksize=1 << 20, dtype="int16"))
    except (soundfile.SoundFileError, OSError, RuntimeError):
        return "empty audio file" if line.audio.stat().st_size == 0 else "unreadable audio"
    if num_samples == 0:
        return "zero-length audio"
    if decoded != num_samples:
        return "audio cut short"
    if num_channels != 1:
        return "more than one channel"
    if num_samples < MIN_ENCODABLE * sample_rate:
        return "too short to encode"
    recording = Recording(
        id=line.id,
        sources=[AudioSource(type="file", channels=[0], source=str(line.audio.resolve()))],
        sampling_rate=sample_rate,
        num_samples=num_samples,
        duration=num_samples / sample_rate,
    )
    target = FbankSettings().sample_rate
    return recording if sample_rate == target else recording.resample(target)


def _supervision(line: _Line, recording: Recording) -> SupervisionSegment:
    return SupervisionSegment(
        id=line.id,
        recording_id=recording.id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        language="English",
        speaker=line.folder.parent.name,
        text=line.text,
    )
