"""Toy models with the real interface: small enough to build in a test, rich enough to disagree on.

The encoder subsamples 4x with two convolutions and runs linear recurrences whose values are the
streaming states, so that chunked and full passes agree exactly in theory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Tensors = dict[str, tuple[str, list[Any]]]  # element type f or i, and shape

CHANNELS, CHANNELS1, JOINER, LAYERS, VOCAB, CONTEXT = 12, 7, 16, 2, 40, 2
DECAYS = ((0.5, 0.8), (-0.6, 0.3))  # of state 0 and 1, one per layer


class Graph:
    """Collects nodes and constants; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def save(self, path: Path, inputs: Tensors, outputs: Tensors, metadata: dict[str, Any]) -> None:
        def infos(tensors: Tensors) -> list[Any]:
            return [
                helper.make_tensor_value_info(
                    name, TensorProto.INT64 if kind == "i" else TensorProto.FLOAT, shape
                )
                for name, (kind, shape) in tensors.items()
            ]

        graph = helper.make_graph(self.nodes, path.stem, infos(inputs), infos(outputs), self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        onnx.save(model, path)


def subsample(g: Graph, rng: np.random.Generator) -> str:
    # Filters without a mean: the output moves with the signal instead of sitting at one value.
    x = g.op("Mul", g.op("Add", "x", g.const(2.3)), g.const(0.6))
    x = g.op("Transpose", x, perm=[0, 2, 1])
    w1 = rng.standard_normal((CHANNELS, 80, 3)) / np.sqrt(240)
    w1 -= w1.mean(axis=(1, 2), keepdims=True)
    x = g.op("Relu", g.op("Conv", x, g.const(w1), strides=[2]))
    w2 = 2 * rng.standard_normal((CHANNELS, CHANNELS, 3)) / np.sqrt(3 * CHANNELS)
    w2 -= w2.mean(axis=2, keepdims=True)
    return g.op("Transpose", g.op("Conv", x, g.const(w2), strides=[2]), perm=[0, 2, 1])


def layer_inputs(g: Graph, u: str) -> tuple[str, str]:
    """State 1 is narrower than state 0, so that mixing them up fails."""
    narrow = g.op("Slice", u, g.const([0], np.int64), g.const([CHANNELS1], np.int64), g.const([2], np.int64))
    return u, narrow


def project(g: Graph, hidden: list[tuple[str, int]], rng: np.random.Generator) -> str:
    parts = [
        g.op("MatMul", h, g.const(rng.standard_normal((dim, JOINER)) / np.sqrt(2 * dim))) for h, dim in hidden
    ]
    return g.op("Sum", *parts, out="encoder_out")


def save_offline_encoder(path: Path, rng: np.random.Generator, metadata: dict[str, Any]) -> None:
    g = Graph()
    u = subsample(g, rng)
    num = g.op("Gather", g.op("Shape", u), g.const(1, np.int64))
    steps = g.op("Range", g.const(0, np.int64), num, g.const(1, np.int64))
    steps = g.op("Cast", steps, to=TensorProto.FLOAT)
    axis0, axis1 = g.const([0], np.int64), g.const([1], np.int64)
    gap = g.op("Sub", g.op("Unsqueeze", steps, axis1), g.op("Unsqueeze", steps, axis0))
    past = g.op("GreaterOrEqual", gap, g.const(0.0))
    gap = g.op("Max", gap, g.const(0.0))
    hidden = []
    for source, dim, decays in zip(layer_inputs(g, u), (CHANNELS, CHANNELS1), DECAYS, strict=True):
        for decay in decays:
            kernel = g.op("Where", past, g.op("Pow", g.const(decay), gap), g.const(0.0))
            hidden.append((g.op("MatMul", kernel, source), dim))
    project(g, hidden, rng)
    one, two = g.const(1, np.int64), g.const(2, np.int64)
    lens = g.op("Div", g.op("Sub", "x_lens", one), two)
    g.op("Div", g.op("Sub", lens, one), two, out="encoder_out_lens")
    g.save(
        path,
        {"x": ("f", ["N", "T", 80]), "x_lens": ("i", ["N"])},
        {"encoder_out": ("f", ["N", "T2", JOINER]), "encoder_out_lens": ("i", ["N"])},
        {"model_type": "zipformer2", **metadata},
    )


def save_streaming_encoder(
    path: Path, rng: np.random.Generator, metadata: dict[str, Any], chunk: int
) -> None:
    g = Graph()
    u = subsample(g, rng)
    window, steps = 4 * chunk + 3, np.arange(chunk)
    hidden = []
    dims = (CHANNELS, CHANNELS1)
    for number, (source, dim, decays) in enumerate(zip(layer_inputs(g, u), dims, DECAYS, strict=True)):
        finals = []
        for layer, decay in enumerate(decays):
            gap = steps[:, None] - steps[None, :]
            kernel = np.where(gap >= 0, decay ** np.maximum(gap, 0).astype(float), 0.0)
            old = g.op("Gather", f"state{number}", g.const([layer], np.int64))  # (1, N, dim)
            old = g.op("Transpose", old, perm=[1, 0, 2])
            carried = g.op("Mul", old, g.const(decay ** (steps + 1.0)[None, :, None]))
            h = g.op("Add", carried, g.op("MatMul", g.const(kernel), source))
            hidden.append((h, dim))
            finals.append(
                g.op("Transpose", g.op("Gather", h, g.const([chunk - 1], np.int64), axis=1), perm=[1, 0, 2])
            )
        g.op("Concat", *finals, out=f"new_state{number}", axis=0)
    project(g, hidden, rng)
    states = {f"state{i}": ("f", [LAYERS, "N", dim]) for i, dim in enumerate(dims)}
    g.save(
        path,
        {"x": ("f", ["N", window, 80]), **states},
        {
            "encoder_out": ("f", ["N", chunk, JOINER]),
            **{f"new_{name}": shape for name, shape in states.items()},
        },
        {
            "model_type": "lstm",
            "T": window,
            "decode_chunk_len": 4 * chunk,
            "num_encoder_layers": LAYERS,
            "d_model": CHANNELS,
            "rnn_hidden_size": CHANNELS1,
            **metadata,
        },
    )


def save_decoder(path: Path, rng: np.random.Generator, metadata: dict[str, Any], context: int) -> None:
    g = Graph()
    known = g.op("Cast", g.op("GreaterOrEqual", "y", g.const(0, np.int64)), to=TensorProto.FLOAT)
    known = g.op("Unsqueeze", known, g.const([2], np.int64))
    table = g.const(rng.standard_normal((VOCAB, 8)))
    embedded = g.op("Mul", g.op("Gather", table, g.op("Max", "y", g.const(0, np.int64))), known)
    flat = g.op("Reshape", embedded, g.const([0, 8 * context], np.int64))
    weight = 0.4 * rng.standard_normal((8 * context, JOINER))
    g.op("MatMul", flat, g.const(weight), out="decoder_out")
    g.save(
        path,
        {"y": ("i", ["N", context])},
        {"decoder_out": ("f", ["N", JOINER])},
        {"vocab_size": VOCAB, "context_size": context, **metadata},
    )


def save_joiner(path: Path, rng: np.random.Generator) -> None:
    g = Graph()
    hidden = g.op("Tanh", g.op("Add", "encoder_in", "decoder_in"))
    bias = np.zeros(VOCAB)
    bias[0], bias[2] = 8.0, 4.0  # mostly blank, now and then <unk>
    weight = 1.2 * rng.standard_normal((JOINER, VOCAB))
    g.op("Add", g.op("MatMul", hidden, g.const(weight)), g.const(bias), out="logit")
    shape = ("f", ["N", JOINER])
    g.save(
        path,
        {"encoder_in": shape, "decoder_in": shape},
        {"logit": ("f", ["N", VOCAB])},
        {"joiner_dim": JOINER},
    )


def save_bundle(
    folder: Path,
    mode: str,
    *,
    seed: int = 0,
    chunk: int = 8,
    context: int = CONTEXT,
    encoder_metadata: dict[str, Any] | None = None,
    decoder_metadata: dict[str, Any] | None = None,
) -> Path:
    """Write a toy model folder; offline and streaming ones of one seed have the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    rngs = np.random.default_rng(seed).spawn(3)
    if mode == "offline":
        save_offline_encoder(folder / "encoder.onnx", rngs[0], encoder_metadata or {})
    else:
        save_streaming_encoder(folder / "encoder.onnx", rngs[0], encoder_metadata or {}, chunk)
    save_decoder(folder / "decoder.onnx", rngs[1], decoder_metadata or {}, context)
    save_joiner(folder / "joiner.onnx", rngs[2])
    pieces = [
        f"\u2581{c}" if i % 3 == 0 else c for i, c in enumerate("abcdefghijklmnopqrstuvwxyzABCDEFGHIJK")
    ]
    symbols = ["<blk>", "<sos/eos>", "<unk>", *pieces]
    assert len(symbols) == VOCAB
    lines = [f"{symbol} {i}\n" for i, symbol in enumerate(symbols)]
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    spec = {"layers": [0, 1], "widths": {"ffn_dim": [4, 4]}, "mode": mode}
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def make_utterances(lengths: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Audio whose spectrum changes all the time: noise and gliding tones with pauses."""
    rng = np.random.default_rng(seed)
    out = []
    for length in lengths:
        t = np.arange(length) / 16000
        wave = 0.02 * rng.standard_normal(length)
        for _ in range(4):
            rate = 400 * rng.random() + 100 * rng.standard_normal() * np.sin(7 * rng.random() * t)
            wave += 0.2 * np.sin(2 * np.pi * (rate * 5) * t) * (np.sin(2 * np.pi * 3 * rng.random() * t) > 0)
        out.append(wave.astype(np.float32))
    return out


@pytest.fixture(name="save_bundle")
def _save_bundle() -> Callable[..., Path]:
    return save_bundle


@pytest.fixture(name="make_utterances")
def _make_utterances() -> Callable[..., list[np.ndarray]]:
    return make_utterances


@pytest.fixture(scope="session")
def offline_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("toy") / "offline", "offline")


@pytest.fixture(scope="session")
def streaming_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("toy") / "streaming", "streaming")
