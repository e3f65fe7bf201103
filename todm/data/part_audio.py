"""Audio and transcripts of a corpus part, for decoding and parity checks."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from todm.data.corpus import read_part
from todm.data.features import load_audio
from todm.errors import UserError


def load_part_audio(
    corpus_dir: Path, part: str, *, limit: int = 0
) -> tuple[list[str], list[str], list[np.ndarray]]:
    """Read a corpus part, sorted by utterance id; unusable utterances are skipped with a warning.

    Args:
        corpus_dir: folder of the parts, or its parent.
        part: name of a folder in it.
        limit: maximum number of utterances; 0 reads all.

    Returns:
        Ids, transcripts and samples (S,) float32 at 16 kHz, one each per utterance.

    Raises:
        UserError: the folder or the part is missing, or no utterance is usable.
    """
    if limit < 0:
        raise UserError(f"number of utterances: must not be negative, got {limit}; 0 takes all")
    found = read_part(corpus_dir, part, num_jobs=2)
    for skipped in found.skipped:
        logging.getLogger(__name__).warning("%s skipped: %s %s", skipped.id, skipped.reason, skipped.detail)
    texts = {segment.recording_id: segment.text or "" for segment in found.supervisions}
    recordings = sorted(found.recordings, key=lambda recording: str(recording.id))
    if limit:
        recordings = recordings[:limit]
    ids = [str(recording.id) for recording in recordings]
    samples = [load_audio(recording.sources[0].source) for recording in recordings]
    return ids, [texts[name] for name in ids], samples
