"""Store weights in half precision; all computation stays in float32.

A weight takes 16 bits in the file and is followed by a Cast to float32, which a runtime folds into a constant
when it loads the file. The file is smaller; inputs, outputs, states and arithmetic are those of the float
file: onnxruntime has hardly any half precision arithmetic for CPUs, and half precision is too coarse for the
powers of an SSM's decay. The rounding error of float16 is about 70 dB below a weight, that of int8 about
40 dB. A runtime that computes in half precision, such as the GPU of a phone, can load these files as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MIN_SIZE = 256  # for smaller weights a Cast takes as much as it saves
LARGEST = float(np.finfo(np.float16).max)
_WEIGHTS = {"MatMul": 1, "Conv": 1, "Gather": 0}  # operators with a weight: index of that input
_SSM = (".ssm.out_re", ".ssm.out_im")  # not decay and angle, whose powers amplify an error


def halve_file(source: Path, target: Path) -> list[str]:
    """Write `source` to `target` (may be the same file) with large weights in float16.

    Returns:
        names of these weights.
    """
    model = onnx.load(source)
    names = halve_weights(model.graph)
    onnx.save(model, target)
    return names


def halve_weights(graph: onnx.GraphProto) -> list[str]:
    """Store weights of products, convolutions, embedding and SSM outputs in float16, in place.

    Values are clipped to 65504, the largest number of float16.

    Returns:
        names of these weights.
    """
    weights = {node.input[_WEIGHTS[node.op_type]] for node in graph.node if node.op_type in _WEIGHTS}
    names = []
    for tensor in graph.initializer:
        name = tensor.name
        if name not in weights and not name.endswith(_SSM):
            continue
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < MIN_SIZE:
            continue
        rounded = np.clip(values, -LARGEST, LARGEST).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(rounded, f"{name}.fp16"))
        cast = helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
        graph.node.insert(0, cast)
        names.append(name)
    return names
