"""Feature storage for lhotse: float32 frames of many utterances, concatenated in one file.

Without further packages, lhotse itself stores one file per utterance (slow on network disks) or compresses
with loss (training features would then differ from the device's).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lhotse.features.io import FeaturesReader, FeaturesWriter, register_reader, register_writer


@register_writer
class ArchiveWriter(FeaturesWriter):  # type: ignore[misc]
    """Append arrays (T, C) to one file; a storage key is ``offset in bytes,T,C``."""

    name = "todm_float32"

    def __init__(self, storage_path: str | Path, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.path = Path(storage_path).with_suffix(".f32")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("wb")
        self.offset = 0

    @property
    def storage_path(self) -> str:
        return str(self.path)

    def write(self, key: str, value: np.ndarray) -> str:
        key = f"{self.offset},{value.shape[0]},{value.shape[1]}"
        self.offset += self.file.write(np.ascontiguousarray(value, dtype="<f4").tobytes())
        return key

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@register_reader
class ArchiveReader(FeaturesReader):  # type: ignore[misc]
    """Read arrays (T, C) by the storage keys of `ArchiveWriter`."""

    name = "todm_float32"

    def __init__(self, storage_path: str | Path, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.path = storage_path

    def read(
        self, key: str, left_offset_frames: int = 0, right_offset_frames: int | None = None
    ) -> np.ndarray:
        offset, frames, bins = map(int, key.split(","))
        end = frames if right_offset_frames is None else min(right_offset_frames, frames)
        start = min(left_offset_frames, end)
        array = np.fromfile(
            self.path, dtype="<f4", count=(end - start) * bins, offset=offset + 4 * start * bins
        )
        return array.reshape(end - start, bins)
