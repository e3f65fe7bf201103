"""Reading and writing of result files.

Whole files are written atomically: the content goes to a temporary file in the same folder, is flushed to
disk and renamed. A process that is killed in between leaves the previous file unchanged, and a temporary file
whose name begins with ``.tmp`` (see `find_leftovers`). Logs and caches grow line by line (`append_line`).
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from todm.errors import UserError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` and rename it to `path` if the block raises nothing.

    The temporary name ends with the name of `path`, since some writers choose the format by the suffixes.
    The folder is created if needed.

    Raises:
        UserError: the disk is full or the folder is not writable; an older file at `path` is unchanged.
    """
    temporary = path.with_name(f".tmp{os.getpid()}.{path.name}")
    try:
        with _explained_errors(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            with contextlib.suppress(OSError):  # some systems cannot flush a folder
                _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that appears at `path` if the block raises nothing; see `atomic_path`.

    The file has ``write`` and ``flush`` only. Its errors are reported even if the writer replaces them by
    errors of its own, as ``torch.save`` does.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        guarded = _GuardedFile(file)
        try:
            yield cast(BinaryIO, guarded)
            guarded.flush()
            os.fsync(file.fileno())
        except Exception as error:
            if guarded.error is not None and error is not guarded.error:
                raise guarded.error from error
            raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_file(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, in UTF-8 and with its line ends unchanged."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically as indented JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def append_line(path: Path, text: str, *, sync: bool = True) -> None:
    """Append one line to a text file in UTF-8; the file and its folder are created if needed.

    Args:
        path: the file.
        text: line without its end.
        sync: return when the line is on the disk, not only in the system's cache.

    Raises:
        UserError: the disk is full or the file is not writable.
    """
    with _explained_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(f"{text}\n".encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())


def digest_file(path: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a file's content.

    A compressed file (``.gz``) is read uncompressed, since its header holds the time of writing.
    """
    digest = hashlib.sha256()
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def read_json(path: Path, *, hint: str = "create it again") -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        hint: how to create it, the end of the error message.

    Raises:
        UserError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; {hint}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error}); {hint}") from error


def find_leftovers(folder: Path, pattern: str) -> list[Path]:
    """Temporary files of killed writers whose final name matches the glob `pattern`."""
    return sorted(folder.glob(f".tmp*.{pattern}"))


@contextmanager
def _explained_errors(path: Path, *more: Path) -> Iterator[None]:
    """Turn errors in writing `path`, its folder or `more` into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise UserError(
                f"{path}: no space left on the disk; free some space and run the same command again "
                "(older files are unchanged)"
            ) from error
        if not _concerns(error, (path, path.parent, *more)):
            raise
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the folder") from error


class _GuardedFile:
    """Binary file that remembers the OSError of a failed write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        with self._remembering():
            return self._file.write(data)

    def flush(self) -> None:
        with self._remembering():
            self._file.flush()

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error
            raise


def _concerns(error: OSError, paths: tuple[Path, ...]) -> bool:
    """Whether the system reported `error` about one of `paths`, or about an open file."""
    return error.errno is not None and (error.filename is None or Path(error.filename) in paths)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
