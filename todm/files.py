"""Reading and writing of result files.

Writing is atomic: the content goes to a temporary file in the same folder, is flushed to disk and renamed.
A process that is killed in between leaves the previous file unchanged, and a temporary file whose name begins
with ``.tmp`` (see `find_leftovers`).
"""

from __future__ import annotations

import contextlib
import errno
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
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # some systems cannot flush a folder
            _sync(path.parent)
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise UserError(
                f"{path}: no space left on the disk; free some space and run the same command again "
                "(older files are unchanged)"
            ) from error
        if not _concerns(error, (temporary, path, path.parent)):
            raise
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the folder") from error
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
