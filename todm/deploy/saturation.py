"""Whether this processor computes 8-bit products rightly.

x86 without VNNI adds two products of 8 bits in 16 bits, which cut off: 255 x 127 + 255 x 127 does not fit.
What int8 files say there is no measure of what they say on ARM, or on x86 with VNNI; 7-bit weights fit
everywhere.
"""

from __future__ import annotations

import numpy as np

HINT = (
    "this processor cuts off sums of 8-bit products (x86 without VNNI): int8 files are worse here than on "
    "ARM; export.reduce_range (--reduce-range) makes files that are right on both"
)


def saturates() -> bool:
    """Whether onnxruntime gets a product of the largest uint8 and int8 numbers wrong on this processor."""
    import onnxruntime
    from onnx import TensorProto, helper

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
