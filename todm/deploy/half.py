"""Weights stored in half precision; everything that is computed stays in float32.

A weight takes 16 bits in the file and has a Cast to float32 behind it, which a runtime folds into a constant
when it loads the file. So the file shrinks while inputs, outputs, states and arithmetic are those of the
float file: onnxruntime has next to no half precision arithmetic for CPUs, and the powers of an SSM's decay
would be noise in it. Rounding to float16 is some 70 dB below a weight, to int8 some 40 dB. A runtime that
computes in half precision by itself, on a phone's GPU, takes these files like the float ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST_NUMBERS = 256  # below that a Cast takes as much as it saves
LARGEST = float(np.finfo(np.float16).max)
_WEIGHTS = {"MatMul": 1, "Conv": 1, "Gather": 0}  # kinds of nodes with a weight, and where it goes in
_SSM = (".ssm.out_re", ".ssm.out_im")  # not the decay and the angle: their powers multiply an error


def halve_file(source: Path, target: Path) -> list[str]:
    """Write `source` to `target` (may be the same) with large weights in float16; returns their names."""
    model = onnx.load(source)
    names = halve_weights(model.graph)
    onnx.save(model, target)
    return names


def halve_weights(graph: onnx.GraphProto) -> list[str]:
    """Store weights of products, convolutions, embedding and SSM read-outs in float16; returns their names.

    Numbers beyond 65504, the largest of float16, become that.
    """
    weights = {node.input[_WEIGHTS[node.op_type]] for node in graph.node if node.op_type in _WEIGHTS}
    names = []
    for tensor in graph.initializer:
        name = tensor.name
        if name not in weights and not name.endswith(_SSM):
            continue
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < LEAST_NUMBERS:
            continue
        rounded = np.clip(values, -LARGEST, LARGEST).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(rounded, f"{name}.fp16"))
        cast = helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
        graph.node.insert(0, cast)
        names.append(name)
    return names
