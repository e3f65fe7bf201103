"""Fingerprints of files and corpus parts, by which a stage recognises a changed input."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from todm.errors import UserError
from todm.files import digest_file, read_json, write_json

MAX_HASHED_BYTES = 1 << 28
"""Files above this size are identified by size and time of modification."""
MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class PartListing:
    """Files of one corpus part.

    Args:
        fingerprint: number of files and digest of their names, sizes and times of modification, or `MISSING`.
        newest: latest time of modification, nanoseconds; 0 if there is no file.
    """

    fingerprint: str
    newest: int


class Fingerprints:
    """Compute fingerprints; those of unchanged files are kept between calls, like git's index.

    Args:
        cache: JSON file of the known digests; created by `save`.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, list[int | str]] = {}
        self._parts: dict[Path, PartListing] = {}
        with contextlib.suppress(UserError, TypeError, ValueError):  # no file, or an unreadable one
            self._known = dict(read_json(cache))

    def compute(self, path: Path) -> str:
        """Return the digest of a file's content, of its size and time if it is large, or `MISSING`.

        Compressed files (``.gz``) are read uncompressed, since their header holds the time of writing.
        """
        try:
            stat = path.stat()
        except OSError:
            return MISSING
        key, size, time = str(path.resolve()), stat.st_size, stat.st_mtime_ns
        if size > MAX_HASHED_BYTES:
            return f"{size} bytes, {time}"
        known = self._known.get(key)
        if known is None or known[:2] != [size, time]:
            self._known[key] = known = [size, time, digest_file(path)]
        return str(known[2])

    def list_part(self, folder: Path) -> PartListing:
        """Return the listing of a corpus part; each folder is read once."""
        if folder not in self._parts:
            self._parts[folder] = _list_files(folder)
        return self._parts[folder]

    def forget_parts(self) -> None:
        """Read the corpus again when it is asked for next, because it may have changed."""
        self._parts.clear()

    def save(self) -> None:
        """Write the known digests."""
        write_json(self._cache, self._known)


def _list_files(folder: Path) -> PartListing:
    if not folder.is_dir():
        return PartListing(fingerprint=MISSING, newest=0)
    digest, newest, count = hashlib.sha256(), 0, 0
    for path, stat in sorted(_walk(folder), key=lambda item: item[0]):
        name = os.path.relpath(path, folder)
        digest.update(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        newest = max(newest, stat.st_mtime_ns)
        count += 1
    return PartListing(fingerprint=f"{count} files, {digest.hexdigest()[:16]}", newest=newest)


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(Path(entry.path))
            elif not entry.name.startswith("."):
                yield entry.path, entry.stat()
