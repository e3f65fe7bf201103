"""Opening of model folders of any kind: a supernet at a spec, a subnet, or an ONNX bundle.

`load` is the only way to open a model for transcription. Torch is imported when a supernet or subnet is
opened, never for a bundle.
"""

from __future__ import annotations

from todm.inference.model import InferenceOptions, Model, Stream, load

__all__ = ["InferenceOptions", "Model", "Stream", "load"]
