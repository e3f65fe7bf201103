"""Dynamic int8 quantisation of a bundle: weights of the linear layers as integers, the rest in float.

What stays float: convolutions, norms, and the SSM with its states. Its matrices are no stored weights of a
MatMul but come from nodes, and only products with a stored weight are quantised.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from todm.errors import UserError

PARTS = ("encoder", "decoder", "joiner")


def quantize_bundle(folder: Path, *, per_channel: bool = True, reduce_range: bool = False) -> dict[str, int]:
    """Write ``encoder.int8.onnx``, ``decoder.int8.onnx`` and ``joiner.int8.onnx`` beside the float files.

    Args:
        folder: a bundle with the float files.
        per_channel: one scale for each output of a weight instead of one for the whole.
        reduce_range: 7-bit weights, for x86 processors without VNNI, where 8 bits can overflow.

    Returns:
        number of integer matrix products in each file.

    Raises:
        UserError: a float file is missing, or nothing in a file could be quantised.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    counts = {}
    for part in PARTS:
        source, target = folder / f"{part}.onnx", folder / f"{part}.int8.onnx"
        if not source.is_file():
            raise UserError(f"{source}: missing; export the bundle first (todm export)")
        with _quiet():
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul"],
                weight_type=QuantType.QInt8,
                per_channel=per_channel,
                reduce_range=reduce_range,
            )
        counts[part] = count_integer_products(target)
        if counts[part] == 0:
            raise UserError(f"{target}: no matrix product became an integer one; use the float file")
    return counts


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to preprocess, which our graphs do not need, on the root logger."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def count_integer_products(path: Path) -> int:
    """Nodes of an ONNX file that multiply integer matrices."""
    model = onnx.load(path, load_external_data=False)
    kinds = {"MatMulInteger", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
    return sum(node.op_type in kinds for node in model.graph.node)
