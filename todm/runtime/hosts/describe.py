"""What the files of a model folder say, read without any runtime: its sessions would cost memory."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from ..bundle import Bundle, StreamingShape
from ..errors import BundleError
from ..layout import BundleFiles, Precision
from ..tokens import read_tokens

_METADATA_FIELD = 14  # ModelProto.metadata_props of onnx.proto: messages with a key (1) and a value (2)


def describe_bundle(folder: Path, precision: Precision) -> Bundle:
    """A `Bundle` whose sessions are None.

    Args:
        folder: the model folder.
        precision: which files; a decoder or joiner that lacks it is taken in fp32.

    Raises:
        BundleError: a file or a metadata key is missing.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; give the folder that holds encoder.onnx")
    tokens = read_tokens(BundleFiles(folder).tokens)
    encoder, decoder, joiner = BundleFiles(folder).models(precision)
    metadata, decoder_metadata = read_metadata(encoder), read_metadata(decoder)
    streaming = None
    if metadata.get("model_type") == "lstm":
        streaming = StreamingShape(
            window=_int(metadata, "T", encoder),
            shift=_int(metadata, "decode_chunk_len", encoder),
            num_layers=_int(metadata, "num_encoder_layers", encoder),
            state_dims=(_int(metadata, "d_model", encoder), _int(metadata, "rnn_hidden_size", encoder)),
        )
    return Bundle(
        folder=folder,
        mode="streaming" if streaming else "offline",
        precision=precision,
        tokens=tokens,
        context_size=_int(decoder_metadata, "context_size", decoder),
        vocab_size=_int(decoder_metadata, "vocab_size", decoder),
        subsampling_factor=int(metadata.get("subsampling_factor", "4")),
        spec={},
        streaming=streaming,
        files=(encoder, decoder, joiner),
        encoder=None,
        decoder=None,
        joiner=None,
    )


def read_metadata(path: Path) -> dict[str, str]:
    """``metadata_props`` of an ONNX file: its protobuf message, all other fields skipped.

    Raises:
        BundleError: the file is missing, cut short or no ONNX.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file; export the model again")
    try:
        # Mapped, not read: nearly all of the file is weights, which nobody looks at here.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            entries = [_fields(entry) for number, entry in _walk(raw) if number == _METADATA_FIELD]
        return {entry[1].decode(): entry[2].decode() for entry in entries}
    except (IndexError, KeyError, ValueError):
        raise BundleError(f"{path}: cannot be read, it is damaged or no ONNX file; copy it again") from None


def _fields(raw: bytes) -> dict[int, bytes]:
    return {1: b"", 2: b"", **dict(_walk(raw))}


def _walk(raw: bytes | mmap.mmap) -> list[tuple[int, bytes]]:
    """Numbers and contents of a message's length-delimited fields."""
    found = []
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == 2:
            size, at = _varint(raw, at)
            if at + size > len(raw):
                raise ValueError("cut short")
            if size < 2**16:  # else the graph itself
                found.append((number, raw[at : at + size]))
            at += size
        elif wire == 0:
            _, at = _varint(raw, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("no such wire type")
    return found


def _varint(raw: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _int(metadata: Mapping[str, str], key: str, path: Path) -> int:
    text = metadata.get(key, "")
    if not text.isdecimal() or int(text) < 1:
        raise BundleError(
            f"{path}: metadata {key} must be a positive number, not {text!r}; export the model again"
        )
    return int(text)
