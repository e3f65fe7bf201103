"""Stage 0: which parts of the corpus are missing, and their download.

``python -m todm.recipe.corpus TARGET PART...`` downloads parts of LibriSpeech.
"""

from __future__ import annotations

import http.client
import sys
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from todm.errors import UserError
from todm.files import write_text

INCOMPLETE = ".incomplete"
"""File in the corpus folder that lists the parts whose download has begun."""
NUM_UTTERANCES = {
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean-2": 1089,
    "train-clean-5": 1519,
}
"""Utterances of the parts that openslr.org offers (LibriSpeech and Mini LibriSpeech)."""
SYNTHETIC_PARTS = ("train-clean-5", "dev-clean-2", "test-clean")
"""Parts that ``todm synth`` writes."""


def find_root(corpus_dir: Path) -> Path:
    """Return the folder of the parts: `corpus_dir` or the ``LibriSpeech`` folder in it."""
    nested = corpus_dir / "LibriSpeech"
    return nested if nested.is_dir() else corpus_dir


def list_missing(corpus_dir: Path, parts: Iterable[str]) -> list[str]:
    """List the parts that are missing or were only downloaded in part.

    A part named in ``.incomplete`` counts as present if lhotse has marked it as completed or if it has all
    of its utterances, for example because it was copied there by hand.
    """
    root, marker = find_root(corpus_dir), corpus_dir / INCOMPLETE
    begun = marker.read_text(encoding="utf-8").split() if marker.is_file() else []
    return [
        part
        for part in dict.fromkeys(parts)
        if not (root / part).is_dir() or (part in begun and not _is_whole(root / part))
    ]


def start_download(corpus_dir: Path, parts: Sequence[str]) -> Path:
    """Record that the download of `parts` begins; returns the folder in which they are unpacked.

    Raises:
        UserError: openslr.org does not offer one of the parts.
    """
    for part in parts:
        if part not in NUM_UTTERANCES:
            raise UserError(
                f"{find_root(corpus_dir)}: no part {part}, and LibriSpeech has none of that name; "
                "correct data.train_parts, data.dev_parts or data.test_parts"
            )
    write_text(corpus_dir / INCOMPLETE, "".join(f"{part}\n" for part in parts))
    return corpus_dir.parent if corpus_dir.name == "LibriSpeech" else corpus_dir


def end_download(corpus_dir: Path) -> None:
    """Record that all parts are there."""
    (corpus_dir / INCOMPLETE).unlink(missing_ok=True)


def download_parts(target: Path, parts: Sequence[str]) -> None:
    """Download and unpack parts of LibriSpeech with lhotse.

    Raises:
        UserError: the network or an archive fails.
    """
    from todm.data.corpus import download  # lhotse takes two seconds to load

    try:
        download(target, parts)
    except (tarfile.TarError, http.client.HTTPException, EOFError, zlib.error) as error:
        raise UserError(
            f"{target}: the download failed ({error}); run again to continue, or delete the archive "
            "if it is damaged"
        ) from error


def main(words: Sequence[str]) -> int:
    """Download parts; returns the exit code."""
    try:
        download_parts(Path(words[0]), words[1:])
    except UserError as error:
        print(f"todm: {error}", file=sys.stderr)
        return 2
    return 0


def _is_whole(part_dir: Path) -> bool:
    if (part_dir / ".completed").is_file():
        return True
    count = 0
    for transcripts in part_dir.glob("*/*/*.trans.txt"):
        for line in transcripts.read_text(encoding="utf-8", errors="replace").splitlines():
            name = line.partition(" ")[0]
            count += any((transcripts.parent / f"{name}{suffix}").is_file() for suffix in (".flac", ".wav"))
    return count > 0 and count == NUM_UTTERANCES.get(part_dir.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
