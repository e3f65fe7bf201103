"""Quantize a bundle to int8: linear layers in integers, the rest in float.

*Dynamic* quantization (the default): weights are integers, the scales of inputs are computed in every call.
*Static* quantization: the scales of inputs are calibrated on speech and stored as pairs of QuantizeLinear and
DequantizeLinear (QDQ) around the products, the form that NPUs and their tools support.

Convolutions, norms and the SSM with its states and its Scan stay in float: only products with a stored weight
are quantized, and the matrices of an SSM are computed. Outputs of products are float as well. Large weights
that stay float are stored in half precision (`todm.deploy.half`); without it the int8 files of a small net
take more than a third of its float files.
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
    """How weights and inputs are quantized.

    Args:
        per_channel: one scale for each output of a weight instead of one for the whole weight.
        reduce_range: 7-bit weights, for x86 processors without VNNI, where sums of two 8-bit products can
            saturate 16 bits.
        calibration: utterances, samples (S,) float32 at 16 kHz, whose extremes give the static scales; empty
            for dynamic quantization.
    """

    per_channel: bool = True
    reduce_range: bool = False
    calibration: Sequence[np.ndarray] = ()


def quantize_bundle(
    folder: Path, quantization: Quantization | None = None, *, exclude: Collection[str] = ()
) -> dict[str, int]:
    """Write ``encoder.int8.onnx``, ``decoder.int8.onnx`` and ``joiner.int8.onnx`` into a bundle.

    A decoder or joiner whose products are all excluded gets no int8 file; its float file is used instead.

    Args:
        folder: a bundle with its float files.
        quantization: how products are quantized; dynamic, per channel, 8 bits when None.
        exclude: names of products that stay in float, see `list_products`.

    Returns:
        number of integer matrix products in each ONNX file.

    Raises:
        UserError: a float file is missing, an excluded name is unknown, no product of the encoder is left, or
            onnxruntime did not run a product in integers.
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
            raise UserError(f"{source}: no matrix product is left to quantize; use the float files")
        quantize_file(source, target, chosen, quantization, feeds.get(part))
        halve_file(target, target)
        counts[part] = count_integer_products(target)
        if counts[part] != len(chosen):
            target.unlink()
            raise UserError(
                f"{source}: only {counts[part]} of {len(chosen)} matrix products run in integers; use the "
                "float files"
            )
    return counts


def calibration_feeds(folder: Path, quantization: Quantization) -> dict[str, Callable[[], Iterator[Feed]]]:
    """Inputs of the float files during the calibration utterances, by model; empty for dynamic."""
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
    """Quantize the products `nodes` of `source` and write `target`.

    Args:
        source: a float ONNX file.
        target: the int8 file.
        nodes: names of products, at least one.
        quantization: how they are quantized.
        feeds: inputs for the calibration of static quantization; None for dynamic.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    assert nodes, "onnxruntime quantizes all nodes if the list is empty"
    with _suppress_warnings():
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
            _separate_biases(onnx.load(source), nodes),
            target,
            _Reader(feeds()),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(nodes),
            activation_type=QuantType.QUInt8,  # faster with signed weights on x86
            weight_type=QuantType.QInt8,
            per_channel=quantization.per_channel,
            reduce_range=quantization.reduce_range,
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
                "CalibMaxIntermediateOutputs": 32,  # number of calls whose outputs are kept in memory
            },
        )


def list_products(path: Path) -> list[str]:
    """List the matrix products with a stored weight in a float ONNX file, by node name."""
    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in stored]


def count_integer_products(path: Path) -> int:
    """Count the integer products in the graph that onnxruntime optimizes from an ONNX file.

    A QDQ file itself contains float products between conversions; the runtime fuses them.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # The next level is specific to this processor, and onnxruntime warns when such a graph is saved.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    return sum(node.op_type in _INTEGER_PRODUCTS for node in model.graph.node)


def _separate_biases(model: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
    """Insert an identity Reshape after each of `nodes`.

    Otherwise onnxruntime fuses a product of (N, J) and its bias into a Gemm, which is not quantized.
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
    """Feeds with the interface of `onnxruntime.quantization.CalibrationDataReader`."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[Feed]:
        return self._feeds


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Suppress the advice of onnxruntime to preprocess, which these graphs do not need."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
