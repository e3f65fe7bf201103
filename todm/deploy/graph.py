"""A small builder of ONNX graphs: nodes in order, constants by value, names after the module they come from.

The device graphs are written node by node instead of traced, so that shapes, constants and names are
explicit and independent of an exporter's version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 10  # hosts with older runtimes refuse newer ones

LOWEST = int(np.iinfo(np.int64).min)  # end of a backward slice that includes the first element
Shape = Sequence[int | str]


class Graph:
    """One graph under construction. Tensors are names; every method that adds a node returns its output's.

    Args:
        name: name of the graph; not a prefix of its nodes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._names: dict[str, int] = {}
        self._unnamed: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> str:
        """Declare the next input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, tensor: str, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> None:
        """Declare `tensor` as the next output, called `name`."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name], name=f"output/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def result(self, tensor: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> None:
        """Declare a node's output under its own name as the next output: saves a copy in inner graphs."""
        self._outputs.append(helper.make_tensor_value_info(tensor, dtype, shape))

    def constant(self, value: Any, name: str | None = None) -> str:
        """Add an initialiser: float32 for floats, else the given dtype. Equal unnamed ones are shared."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        key = (str(array.dtype), array.shape, array.tobytes())
        if name is None and key in self._unnamed:
            return self._unnamed[key]
        unique = self._unique(name or "const")
        if name is None:
            self._unnamed[key] = unique
        self._constants.append(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), unique)
        )
        return unique

    def ints(self, *values: int) -> str:
        """A 1-D int64 constant."""
        return self.constant(np.array(values, dtype=np.int64))

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.ops(kind, *inputs, num_outputs=1, name=name, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, num_outputs: int, name: str | None = None, **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs."""
        unique = self._unique(name or kind)
        outputs = [unique] if num_outputs == 1 else [f"{unique}.{i}" for i in range(num_outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, name=unique, **attributes))
        return outputs

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None, name: str) -> str:
        """``x @ weight.T + bias`` over the last axis; `weight` is (out, in) as in torch."""
        out = self.op("MatMul", x, self.constant(weight.T, f"{name}.weight"), name=f"{name}.matmul")
        return out if bias is None else self.op("Add", out, self.constant(bias, f"{name}.bias"))

    def silu(self, x: str) -> str:
        """SiLU activation: x sigmoid(x)."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape; 0 copies an axis, -1 infers one."""
        return self.op("Reshape", x, self.ints(*shape))

    def transpose(self, x: str, *order: int) -> str:
        """Permute the axes of `x`."""
        return self.op("Transpose", x, perm=list(order))

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        """Elements start to stop along `axis`."""
        return self.op("Slice", x, self.ints(start), self.ints(stop), self.ints(axis))

    def split(self, x: str, count: int, axis: int) -> list[str]:
        """Split into `count` equal parts along `axis`."""
        name = self._unique("Split")
        outputs = [f"{name}.{i}" for i in range(count)]
        self._nodes.append(helper.make_node("Split", [x], outputs, name=name, axis=axis, num_outputs=count))
        return outputs

    def flip(self, x: str, axis: int) -> str:
        """Reverse `x` along `axis`."""
        return self.op("Slice", x, self.ints(-1), self.ints(LOWEST), self.ints(axis), self.ints(-1))

    def body(self) -> onnx.GraphProto:
        """Finish the graph as the body of a Scan."""
        return helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, initializer=self._constants
        )

    def model(self, metadata: Mapping[str, str | int], *, opset: int) -> onnx.ModelProto:
        """Finish the graph as a checked model; metadata values are written as text."""
        model = helper.make_model(
            self.body(), opset_imports=[helper.make_opsetid("", opset)], producer_name="todm"
        )
        model.ir_version = IR_VERSION
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        onnx.checker.check_model(model)
        return model

    def _unique(self, name: str) -> str:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return f"{name}_{count}" if count else name
