"""Detect processors whose 8-bit products saturate.

x86 without VNNI adds two 8-bit products in 16 bits, which saturates: 255 x 127 + 255 x 127 does not fit. int8
results on such CPUs do not predict results on ARM or VNNI. 7-bit weights are exact everywhere.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

HINT = (
    "sums of 8-bit products saturate on this processor (x86 without VNNI): int8 files are less accurate here "
    "than on ARM; --export.reduce_range true writes files that are exact on both"
)


def saturates() -> bool:
    """Whether onnxruntime saturates the product of the largest uint8 and int8 values on this processor."""
    import onnxruntime

    length = 64
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["out"])],
        "product",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, [length, length]),
            helper.make_tensor_value_info("b", TensorProto.INT8, [length, length]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.INT32, [length, length])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    large, weight = np.full((length, length), 255, np.uint8), np.full((length, length), 127, np.int8)
    (out,) = session.run(None, {"a": large, "b": weight})
    return bool((out != 255 * 127 * length).any())
