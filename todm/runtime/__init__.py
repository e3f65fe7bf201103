"""Inference without torch: features, ONNX sessions, greedy and beam search, benchmarks.

Nothing else of todm is imported, so that `todm export` can copy this folder into a bundle. It needs numpy,
onnxruntime and kaldi-native-fbank, and soundfile for audio other than wav.
"""

from __future__ import annotations
