"""Export a plain net as an ONNX folder for stock runtimes: encoder, decoder, joiner, tokens, spec, config.

Order and shapes of tensors and the metadata follow sherpa-onnx: ``OfflineRecognizer.from_transducer`` for
offline nets, model type ``lstm`` for streaming nets, where the two states hold the real and imaginary parts.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from todm import __version__
from todm.config import Config, save_config
from todm.decode.streaming import make_configured_view
from todm.deploy.encoder_graph import build_offline_encoder, build_streaming_encoder
from todm.deploy.graph import Graph
from todm.errors import UserError
from todm.layout import LangFolder
from todm.nn.transducer import Transducer
from todm.runtime.layout import BundleFiles


def export_bundle(net: Transducer, config: Config, lang_dir: Path, folder: Path) -> None:
    """Write the fp32 bundle of `net`.

    Args:
        net: an extracted or loaded subnet.
        config: its `export` section gives chunk length and operator set; written to ``config.yaml``.
        lang_dir: folder with ``tokens.txt`` and ``bpe.vocab``.
        folder: the bundle, created if missing.

    Raises:
        UserError: an impossible chunk length or operator set, or missing language files.
    """
    opset = config.export.opset
    if not 18 <= opset <= 26:
        raise UserError(f"export.opset: {opset} is outside 18 to 26, the range that device runtimes support")
    common: dict[str, str | int] = {
        "version": 1,
        "model_author": f"todm {__version__}",
        "subsampling_factor": net.subsampling_factor,
        "todm_spec": net.spec.to_json(),
    }
    chunks = make_configured_view(net, config)
    if chunks is None:
        encoder = build_offline_encoder(net).model({"model_type": "zipformer2", **common}, opset=opset)
    else:
        metadata: dict[str, str | int] = {
            "model_type": "lstm",
            **common,
            "T": chunks.window,
            "decode_chunk_len": chunks.shift,
            "tail_frames": chunks.tail_frames,
            "num_encoder_layers": len(net.layers),
            "d_model": net.state_dim,
            "rnn_hidden_size": net.state_dim,
        }
        encoder = build_streaming_encoder(net, chunks.shift // net.subsampling_factor).model(
            metadata, opset=opset
        )
    decoder = build_decoder(net).model(
        {"vocab_size": net.vocab_size, "context_size": net.context_size}, opset=opset
    )
    joiner = build_joiner(net).model({"joiner_dim": net.joiner_dim}, opset=opset)

    folder.mkdir(parents=True, exist_ok=True)
    files, lang = BundleFiles(folder), LangFolder(lang_dir)
    for source, target in ((lang.tokens, files.tokens), (lang.bpe_vocab, files.bpe_vocab)):
        if not source.is_file():
            raise UserError(f"{source}: missing; a model folder must contain it")
        shutil.copyfile(source, target)
    save_config(config, files.config)
    net.spec.save(files.spec)
    for path, model in zip(files.models(), (encoder, decoder, joiner), strict=True):
        onnx.save(model, path)


def build_decoder(net: Transducer) -> Graph:
    """Build the predictor: y (N, K) int64, negative for no label -> decoder_out (N, J)."""
    predictor = net.predictor
    graph = Graph("decoder")
    y = graph.input("y", ("N", net.context_size), TensorProto.INT64)
    zero = graph.constant(np.int64(0))
    table = graph.constant(predictor.embedding.weight.detach().numpy(), "embedding")
    embedded = graph.op("Gather", table, graph.op("Max", y, zero), axis=0)
    present = graph.op("Cast", graph.op("GreaterOrEqual", y, zero), to=TensorProto.FLOAT)
    embedded = graph.op("Mul", embedded, graph.op("Unsqueeze", present, graph.ints(2)))
    # A depthwise convolution over exactly K labels is their weighted sum.
    kernel = graph.constant(predictor.conv.weight.detach().numpy()[:, 0].T, "conv.weight")
    mixed = graph.op("ReduceSum", graph.op("Mul", embedded, kernel), graph.ints(1), keepdims=0)
    proj = predictor.proj
    out = graph.linear(
        graph.op("Relu", mixed), proj.weight.detach().numpy(), proj.bias.detach().numpy(), "proj"
    )
    graph.output(out, "decoder_out", ("N", net.joiner_dim))
    return graph


def build_joiner(net: Transducer) -> Graph:
    """Build the joiner: encoder_out (N, J), decoder_out (N, J) -> logit (N, V)."""
    graph = Graph("joiner")
    encoder_out = graph.input("encoder_out", ("N", net.joiner_dim))
    decoder_out = graph.input("decoder_out", ("N", net.joiner_dim))
    hidden = graph.op("Tanh", graph.op("Add", encoder_out, decoder_out))
    output = net.joiner.output
    logit = graph.linear(hidden, output.weight.detach().numpy(), output.bias.detach().numpy(), "output")
    graph.output(logit, "logit", ("N", net.vocab_size))
    return graph
