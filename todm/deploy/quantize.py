"""int8 files of a bundle: the linear layers in integers, the rest in float.

Two ways. *Dynamic* (the default): weights are integers, the scale of what comes in is found anew in every
call. *Static*: the scales of what comes in are fixed beforehand from real speech, and written as pairs of
QuantizeLinear and DequantizeLinear (QDQ) around the products, the form that NPUs and their tools take.

What stays float: convolutions, norms, and the SSM with its states and its Scan. Its matrices are no stored
weights of a MatMul but come from nodes, and only products with a stored weight are quantised. What goes out
of a product is float as well. Large weights that are no integers are stored in half precision
(`todm.deploy.half`); without that a small net's int8 files take more than a third of its float ones.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from todm.deploy.half import halve_file
from todm.deploy.trace import Feed, feed_parts
from todm.errors import UserError
from todm.runtime.bundle import open_bundle
from todm.runtime.layout import MODEL_NAMES, BundleFiles

_INTEGER_PRODUCTS = {"MatMulInteger", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How weights and inputs become integers.

    Args:
        per_channel: one scale for each output of a weight instead of one for the whole.
        reduce_range: 7-bit weights, for x86 processors without VNNI, where sums of two products of 8 bits
            can overflow 16 bits.
        calibration: utterances, samples (S,) float32 at 16 kHz, whose extremes give the static scales; none
            for dynamic quantisation.
    """

    per_channel: bool = True
    reduce_range: bool = False
    calibration: Sequence[np.ndarray] = ()


def quantize_bundle(
    folder: Path, quantization: Quantization | None = None, *, exclude: Collection[str] = ()
) -> dict[str, int]:
    """Write ``encoder.int8.onnx``, ``decoder.int8.onnx`` and ``joiner.int8.onnx`` beside the float files.

    A decoder or joiner all of whose products are excluded gets no int8 file: its float file is taken then.

    Args:
        folder: a bundle with the float files.
        quantization: dynamic, per channel, 8 bits when None.
        exclude: names of products to leave in float, as in `list_products`.

    Returns:
        number of integer matrix products in each part.

    Raises:
        UserError: a float file is missing, an excluded name is in none of them, nothing is left to quantise,
            or a product did not become an integer one.
    """
    quantization = quantization or Quantization()
    files = BundleFiles(folder)
    for path in files.models("fp32"):
        if not path.is_file():
            raise UserError(f"{path}: missing; export the bundle first (todm export)")
    products = {part: list_products(files.stored(part, "fp32")) for part in MODEL_NAMES}
    known = {name for names in products.values() for name in names}
    for name in exclude:
        if name not in known:
            raise UserError(
                f"{folder}: no matrix product {name!r} to exclude; it has {', '.join(sorted(known))}"
            )
    feeds = calibration_feeds(folder, quantization)
    counts: dict[str, int] = {}
    for part in MODEL_NAMES:
        source, target = files.stored(part, "fp32"), files.stored(part, "int8")
        chosen = [name for name in products[part] if name not in exclude]
        if products[part] and not chosen and part != "encoder":
            target.unlink(missing_ok=True)
            counts[part] = 0
            continue
        if not chosen:
            raise UserError(f"{source}: no matrix product to make an integer one; use the float files")
        quantize_file(source, target, chosen, quantization, feeds.get(part))
        halve_file(target, target)
        counts[part] = count_integer_products(target)
        if counts[part] != len(chosen):
            target.unlink()
            raise UserError(
                f"{source}: {counts[part]} of {len(chosen)} matrix products became integer ones; use the "
                "float files"
            )
    return counts


def calibration_feeds(folder: Path, quantization: Quantization) -> dict[str, Callable[[], Iterator[Feed]]]:
    """What the float files of `folder` are given while they hear the calibration; empty for dynamic."""
    if not len(quantization.calibration):
        return {}
    return feed_parts(open_bundle(folder), quantization.calibration)


def quantize_file(
    source: Path,
    target: Path,
    nodes: Sequence[str],
    quantization: Quantization,
    feeds: Callable[[], Iterator[Feed]] | None,
) -> None:
    """Write `source` to `target` with the products `nodes` in integers; static where there are `feeds`."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    assert nodes, "onnxruntime takes an empty list for all nodes"
    with _quiet():
        if feeds is None:
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=list(nodes),
                weight_type=QuantType.QInt8,
                per_channel=quantization.per_channel,
                reduce_range=quantization.reduce_range,
            )
            return
        quantize_static(
            _hold_biases_apart(onnx.load(source), nodes),
            target,
            _Reader(feeds()),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(nodes),
            activation_type=QuantType.QUInt8,  # the faster partner of signed weights on x86
            weight_type=QuantType.QInt8,
            per_channel=quantization.per_channel,
            reduce_range=quantization.reduce_range,
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
                "CalibMaxIntermediateOutputs": 32,  # outputs of so many calls are in memory at once
            },
        )


def list_products(path: Path) -> list[str]:
    """Names of the nodes of a float ONNX file that multiply with a stored weight."""
    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in stored]


def count_integer_products(path: Path) -> int:
    """Products that run in integers, counted in the graph that onnxruntime makes of an ONNX file.

    A QDQ file only holds float products between conversions: whether they are integer ones is for the runtime
    to see.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # One level further the graph fits this processor alone, and onnxruntime warns of saving it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    return sum(node.op_type in _INTEGER_PRODUCTS for node in model.graph.node)


def _hold_biases_apart(model: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
    """An empty Reshape behind each of `nodes`.

    onnxruntime joins a product of (N, J) with the Add of its bias to a Gemm before it looks for integer
    products, and that one stays float.
    """
    graph = model.graph
    described = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in described}
    places = [i for i, node in enumerate(graph.node) if node.name in nodes and ranks[node.output[0]] == 2]
    for place in reversed(places):
        node = graph.node[place]
        name, product = node.output[0], f"{node.output[0]}.product"
        node.output[0] = product
        graph.node.insert(place + 1, helper.make_node("Reshape", [product, "same_shape"], [name]))
    if places:
        same = np.array([0, -1], dtype=np.int64)
        graph.initializer.append(numpy_helper.from_array(same, "same_shape"))
    return model


class _Reader:
    """The feeds as `onnxruntime.quantization.CalibrationDataReader` gives them."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[Feed]:
        return self._feeds


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to preprocess, which our graphs do not need, on the root logger."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
