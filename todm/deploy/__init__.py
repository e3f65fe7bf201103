"""Export of plain nets as device bundles: ONNX files, quantization, accuracy and parity checks."""

from __future__ import annotations
