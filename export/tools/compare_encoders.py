"""Time the largest encoder of a config, with random weights, against other ONNX encoders and a lower bound.

    python export/tools/compare_encoders.py CONF [--against ENCODER.onnx ...] [--seconds 10] [--chunk-ms 320]

All encoders run in this process on one thread, interleaved so that load affects all equally; medians and
their ratios are printed. Only the encoder is timed: x (1, 100 per second, 80) and, offline, x_lens (1,). An
encoder to compare with takes the same two inputs, as icefall's ``export-onnx.py`` writes them; a file named
``*.int8.onnx`` is compared with our int8.

The lower bound ("floor") is a stack of feed-forward layers with the parameters of our encoder, one frame
per encoder frame: no net that multiplies every frame with all of its parameters is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from todm.config import Config, load_config
from todm.decode.streaming import chunk_frames
from todm.deploy.encoder_graph import build_offline_encoder, build_streaming_encoder
from todm.deploy.graph import Graph
from todm.deploy.quantize import Quantization, list_products, quantize_file
from todm.errors import UserError
from todm.nn.transducer import Transducer
from todm.runtime.constants import NUM_MEL_BINS
from todm.runtime.fbank import DEFAULT_FBANK
from todm.runtime.machine import describe_machine
from todm.space.space import SearchSpace

VOCAB_SIZE = 500
PRECISIONS = ("fp32", "int8")


def main() -> None:
    """Print one table for whole utterances and one for a streaming chunk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("conf", type=Path, help="YAML file; its largest net is measured")
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="FILE", help="offline encoders"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of offline audio (10)")
    parser.add_argument("--chunk-ms", type=int, default=320, help="duration of a streaming chunk (320)")
    parser.add_argument(
        "--rounds", type=int, default=15, help="timed calls per encoder, of which the median is taken (15)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results as JSON")
    args = parser.parse_args()
    if missing := [path for path in (args.conf, *args.against) if not path.is_file()]:
        raise UserError(f"{missing[0]}: no such file")
    config = load_config(args.conf)
    space = SearchSpace.from_config(config)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        results = {"machine": describe_machine("onnxruntime")}
        if "offline" in space.modes:
            net = Transducer(config.model, space.max("offline"), VOCAB_SIZE).eval()
            frames = round(args.seconds * 1000 / DEFAULT_FBANK.frame_shift_ms)
            ours = build_offline_encoder(net).model({}, opset=config.export.opset)
            files = make_files(Path(scratch), config, ours, frames // net.subsampling_factor)
            for path in args.against:
                files[(str(path), "int8" if path.name.endswith(".int8.onnx") else "fp32")] = path
            title = f"{args.seconds:g} s offline, {count_weights(ours) / 1e6:.1f} M parameters in the encoder"
            results["offline"] = compare(title, files, frames, args.rounds)
        if "streaming" in space.modes:
            net = Transducer(config.model, space.max("streaming"), VOCAB_SIZE).eval()
            chunk = chunk_frames(args.chunk_ms, net.subsampling_factor)
            ours = build_streaming_encoder(net, chunk).model({}, opset=config.export.opset)
            files = make_files(Path(scratch), config, ours, chunk)
            state_bytes = sum(part.numel() * part.element_size() for part in net.init_state(1))
            title = (
                f"a chunk of {args.chunk_ms} ms, {count_weights(ours) / 1e6:.1f} M parameters in the "
                f"encoder, state {state_bytes / 1000:.0f} kB"
            )
            results["streaming"] = compare(title, files, 0, args.rounds * 10)
            results["streaming"]["state_bytes"] = state_bytes
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


def make_files(
    folder: Path, config: Config, ours: onnx.ModelProto, num_frames: int
) -> dict[tuple[str, str], Path]:
    """Write our encoder and the lower bound in both precisions; returns files by (name, precision)."""
    width, hidden = config.model.d_model, max(config.space.widths["ffn_dim"])
    floor = build_floor_encoder(width, hidden, count_weights(ours) // (2 * width * hidden), num_frames)
    files = {}
    for name, model in (("ours", ours), ("floor", floor.model({}, opset=config.export.opset))):
        source, target = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
        onnx.save(model, source)
        quantize_file(source, target, list_products(source), Quantization(), None)
        files[(name, "fp32")], files[(name, "int8")] = source, target
    return files


def build_floor_encoder(width: int, hidden: int, num_layers: int, num_frames: int) -> Graph:
    """Build feed-forward layers of `hidden` units with ReLU: x (1, `num_frames`, `width`) -> same shape."""
    rng = np.random.default_rng(0)
    graph = Graph("floor")
    x = graph.input("x", (1, num_frames, width))
    for i in range(num_layers):
        inner = rng.standard_normal((hidden, width), dtype=np.float32) / width**0.5
        outer = rng.standard_normal((width, hidden), dtype=np.float32) / hidden**0.5
        x = graph.linear(graph.op("Relu", graph.linear(x, inner, None, f"in{i}")), outer, None, f"out{i}")
    graph.output(x, "encoder_out", (1, num_frames, width))
    return graph


def count_weights(model: onnx.ModelProto) -> int:
    """Number of stored weights of a model."""
    return sum(numpy_helper.to_array(tensor).size for tensor in model.graph.initializer)


def compare(
    title: str, files: dict[tuple[str, str], Path], num_frames: int, rounds: int
) -> dict[str, object]:
    """Time `files` interleaved; print medians and the ratio of ours to each."""
    sessions = {key: open_session(path) for key, path in files.items()}
    feeds = {key: make_feed(session, num_frames) for key, session in sessions.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in files}
    for number in range(rounds + 2):
        for key, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds[key])
            if number >= 2:  # the first calls allocate
                seconds[key].append(time.perf_counter() - start)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    print(f"\n{title}; medians of {rounds}, one thread\n")
    print(f"{'ms':>9}  {'MB':>6}  ours takes  encoder")
    rows = []
    for precision in PRECISIONS:
        for (name, kind), median in medians.items():
            if kind == precision:
                size = files[name, kind].stat().st_size / 1e6
                ratio = medians["ours", precision] / median
                print(f"{median * 1e3:9.2f}  {size:6.1f}  {ratio:9.2f}x  {name} {kind}")
                rows.append({"name": name, "precision": kind, "ms": median * 1e3, "mb": size, "ratio": ratio})
    return {"encoders": rows, "rounds": rounds}


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open an encoder on one thread; `UserError` if onnxruntime cannot load it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path}: onnxruntime cannot load it ({error}); export it again") from error


def make_feed(session: onnxruntime.InferenceSession, num_frames: int) -> dict[str, np.ndarray]:
    """Random values for x, with `num_frames` frames if its length is dynamic; zeros for states."""
    rng = np.random.default_rng(1)
    feed = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        if value.name == "x":
            shape = [
                size if isinstance(size, int) else free
                for size, free in zip(value.shape, (1, num_frames, NUM_MEL_BINS), strict=True)
            ]
            feed["x"] = rng.standard_normal(shape, dtype=np.float32)
        elif value.name == "x_lens":
            feed["x_lens"] = np.array([num_frames], dtype=np.int64)
        else:
            feed[value.name] = np.zeros(shape, dtype=np.float32)
    return feed


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"compare_encoders.py: {error}", file=sys.stderr)
        sys.exit(2)
