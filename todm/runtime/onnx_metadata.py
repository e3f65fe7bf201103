"""Metadata of an ONNX file, read without onnx or onnxruntime: an open session would cost memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from .errors import BundleError

_METADATA_FIELD = 14  # ModelProto.metadata_props of onnx.proto: messages with a key (1) and a value (2)


def read_metadata(path: Path) -> dict[str, str]:
    """Read ``metadata_props`` of an ONNX file and skip all other fields of its protobuf message.

    Raises:
        BundleError: the file is missing, truncated or not an ONNX file.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file; export the model again")
    try:
        # Mapped instead of read: nearly all of the file is weights, which are not needed.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            entries = [_fields(entry) for number, entry in _walk(raw) if number == _METADATA_FIELD]
        return {entry[1].decode(): entry[2].decode() for entry in entries}
    except (IndexError, KeyError, ValueError):
        raise BundleError(
            f"{path}: cannot be read, it is damaged or not an ONNX file; copy it again"
        ) from None


def _fields(raw: bytes) -> dict[int, bytes]:
    return {1: b"", 2: b"", **dict(_walk(raw))}


def _walk(raw: bytes | mmap.mmap) -> list[tuple[int, bytes]]:
    """Numbers and contents of the length-delimited fields of a message."""
    found = []
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == 2:
            size, at = _varint(raw, at)
            if at + size > len(raw):
                raise ValueError("truncated")
            if size < 2**16:  # larger fields belong to the graph
                found.append((number, raw[at : at + size]))
            at += size
        elif wire == 0:
            _, at = _varint(raw, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("unknown wire type")
    return found


def _varint(raw: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """Value of a variable-length integer and the position after it."""
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
