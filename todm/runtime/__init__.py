"""What runs on the device: features, ONNX sessions, search. No torch, nothing else of todm.

The folder can be copied as it is beside an ONNX folder; it needs numpy, onnxruntime and
kaldi-native-fbank (and soundfile for anything but wav files).
"""

from __future__ import annotations
