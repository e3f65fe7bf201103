"""Sensitivity of a bundle to quantizing each of its matrix products.

The cost of a product is measured along the greedy path of the float net through some utterances,

    cost = mean over frames of KL(p || q),  p, q = softmax of the joiner's logits in float,
                                                   with only this product in integers,

in nats per frame, one scale for the products of encoder, decoder and joiner. The encoder's states come from
its own quantized pass, so that accumulating errors are included. The ranking treats costs as independent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from todm.deploy.quantize import Quantization, calibration_feeds, list_products, quantize_file
from todm.deploy.trace import Trace, trace_bundle
from todm.runtime.bundle import Bundle, open_bundle, open_session
from todm.runtime.fbank import FloatArray
from todm.runtime.layout import MODEL_NAMES, BundleFiles, ModelName

NUM_CALIBRATION = 4  # calibration utterances here, as the calibration is repeated for every product


def rank_products(
    folder: Path,
    utterances: Sequence[np.ndarray],
    quantization: Quantization,
    *,
    exclude: Sequence[str] = (),
) -> dict[str, float]:
    """Measure the cost of each matrix product in integers, nats per frame, largest first.

    Args:
        folder: the bundle.
        utterances: samples (S,) float32 at 16 kHz to measure on.
        quantization: how a product is quantized.
        exclude: names of products to skip.
    """
    bundle = open_bundle(folder)
    trace = trace_bundle(bundle, utterances)
    logits = bundle.join(trace.encoder_out, trace.predictor_out)
    quantization = replace(quantization, calibration=quantization.calibration[:NUM_CALIBRATION])
    feeds = calibration_feeds(folder, quantization)
    costs = {}
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "one.onnx"
        for model in MODEL_NAMES:
            source = BundleFiles(folder).stored(model, "fp32")
            for name in list_products(source):
                if name in exclude:
                    continue
                quantize_file(source, target, [name], quantization, feeds.get(model))
                quantized = replace(bundle, **{model: open_session(target, 1)})
                costs[name] = mean_kl_divergence(logits, _trace_logits(quantized, model, trace, utterances))
    return dict(sorted(costs.items(), key=lambda item: (-item[1], item[0])))


def _trace_logits(
    bundle: Bundle, model: ModelName, trace: Trace, utterances: Sequence[np.ndarray]
) -> FloatArray:
    """Logits (M, V) of a bundle whose `model` was replaced, along the path of `trace`."""
    if model == "encoder":
        return bundle.join(trace_bundle(bundle, utterances).encoder_out, trace.predictor_out)
    if model == "decoder":
        return bundle.join(trace.encoder_out, bundle.predict(trace.contexts))
    return bundle.join(trace.encoder_out, trace.predictor_out)


def mean_kl_divergence(exact: FloatArray, approximate: FloatArray) -> float:
    """Mean KL(softmax exact || softmax approximate) over rows (M, V), nats; infinite if not finite."""
    log_p, log_q = _log_softmax(exact), _log_softmax(approximate)
    value = float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
    return value if np.isfinite(value) else float("inf")


def _log_softmax(logits: FloatArray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
