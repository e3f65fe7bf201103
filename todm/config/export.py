"""Settings ``export.*``: ONNX bundles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from todm.config.fields import setting


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export to ONNX folders and quantization."""

    chunk_ms: int = setting(
        320,
        "Audio per call of a streaming encoder in milliseconds, a multiple of the encoder's frame period.",
        ge=10,
        le=60_000,
    )
    opset: int = setting(18, "ONNX operator set.", ge=18, le=26)
    int8: bool = setting(True, "Write quantized files too.")
    quantization: Literal["dynamic", "static"] = setting(
        "dynamic",
        "``dynamic`` computes the scales of a layer's input in every call; ``static`` fixes them beforehand "
        "from speech (QDQ), which must be given.",
    )
    per_channel: bool = setting(True, "One scale per output of a weight instead of one per weight.")
    reduce_range: bool = setting(False, "7-bit weights, for x86 processors without VNNI.")
    exclude: tuple[str, ...] = setting(
        (), "Matrix products to leave in float, such as ``layer0.ffn.in_proj.matmul``.", unique=True
    )
    calibration_utterances: int = setting(
        16, "Utterances from which static scales are computed.", ge=1, le=1_000_000
    )
    guard_absolute: float = setting(
        0.2, "Points of WER by which int8 may be worse than float on the guard's data.", ge=0.0, le=100.0
    )
    guard_relative: float = setting(
        3.0, "The same in percent of float's WER; the larger of the two counts.", ge=0.0, le=1000.0
    )
    fp16: bool = setting(False, "Write files with weights in half precision too.")
