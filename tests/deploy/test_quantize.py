"""int8 and fp16 files: which products become integers, which stay float, and accuracy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tests.nets import SPACE, make_noise, make_supernet, make_talkative, write_lang  # noqa: E402
from todm.config import Config, ExportConfig, ModelConfig  # noqa: E402
from todm.decode.wer import compute_wer, make_utterances  # noqa: E402
from todm.deploy.bundle import write_bundle  # noqa: E402
from todm.deploy.contract import check_bundle  # noqa: E402
from todm.deploy.guard import LabelledAudio  # noqa: E402
from todm.deploy.half import halve_file, halve_weights  # noqa: E402
from todm.deploy.onnx_export import export_bundle  # noqa: E402
from todm.deploy.quantize import (  # noqa: E402
    Quantization,
    count_integer_products,
    list_products,
    quantize_bundle,
)
from todm.deploy.saturation import saturates  # noqa: E402
from todm.deploy.trace import feed_parts, trace_bundle  # noqa: E402
from todm.deploy.verify import sherpa_transcribe  # noqa: E402
from todm.errors import UserError  # noqa: E402
from todm.extract import extract  # noqa: E402
from todm.runtime.bundle import open_bundle  # noqa: E402
from todm.runtime.fbank import compute_fbank  # noqa: E402
from todm.runtime.layout import MODEL_NAMES, Precision  # noqa: E402
from todm.runtime.recognizer import open_recognizer  # noqa: E402

Mode = Literal["offline", "streaming"]
MODES: tuple[Mode, ...] = ("offline", "streaming")
WIDE = ModelConfig(num_layers=2, subsampling_channels=16, d_model=128, head_dim=32, joiner_dim=128)
WIDE_SPACE = replace(SPACE, num_layers=2, depths=(2,), widths={"ffn_dim": (512,)})
SPEECH = make_noise([32000, 16000, 24000], seed=2)
IN_PROJ = "layer0.ffn.in_proj.matmul"


@pytest.fixture(scope="module", params=MODES)
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float bundle of ordinary widths."""
    folder = tmp_path_factory.mktemp("wide")
    net = extract(make_supernet(space=WIDE_SPACE, model=WIDE), WIDE_SPACE.max(request.param))
    export_bundle(net, Config(model=WIDE), write_lang(folder / "lang"), folder / "bundle")
    return folder / "bundle"


def encoder_error(folder: Path, precision: Precision, samples: np.ndarray) -> float:
    """Largest difference from the float encoder on `samples`, relative to its largest output."""
    one, other = (
        trace_bundle(open_bundle(folder, precision=name), [samples]).encoder_out
        for name in ("fp32", precision)
    )
    return float(np.abs(one - other).max() / np.abs(one).max())


@pytest.mark.parametrize("static", [False, True])
def test_every_product_with_a_stored_weight_is_quantized(static: bool, wide: Path) -> None:
    quantization = Quantization(calibration=SPEECH if static else (), reduce_range=saturates())
    counts = quantize_bundle(wide, quantization)
    # In, gate-out, two of the feed-forward, for two layers; the subsampling's; the projection.
    assert counts == {"encoder": 2 * 4 + 2, "decoder": 1, "joiner": 1}
    check_bundle(wide)
    for part in MODEL_NAMES:
        assert count_integer_products(wide / f"{part}.onnx") == 0
        assert count_integer_products(wide / f"{part}.int8.onnx") == counts[part]
        kinds = [node.op_type for node in onnx.load(wide / f"{part}.int8.onnx").graph.node]
        assert kinds.count("QuantizeLinear") == (counts[part] if static else 0)
        assert kinds.count("DequantizeLinear") == (2 * counts[part] if static else 0)
    files = [[wide / f"{part}{suffix}" for part in MODEL_NAMES] for suffix in (".onnx", ".int8.onnx")]
    whole, small = (sum(path.stat().st_size for path in paths) for paths in files)
    assert 3 * small < whole
    assert 0 < encoder_error(wide, "int8", SPEECH[0]) < 0.1


@pytest.mark.parametrize("static", [False, True])
def test_the_ssm_stays_float(static: bool, wide: Path) -> None:
    quantize_bundle(wide, Quantization(calibration=SPEECH if static else ()))
    exact, rough = (onnx.load(wide / f"encoder{suffix}.onnx").graph for suffix in ("", ".int8"))
    bodies = [
        [list(node.attribute[0].g.node) for node in graph.node if node.op_type == "Scan"]
        for graph in (exact, rough)
    ]
    streaming = any(entry.name == "state0" for entry in exact.input)
    assert bodies[0] == bodies[1] and len(bodies[0]) == (0 if streaming else 2)
    products = list_products(wide / "encoder.onnx")
    free = {n.name: list(n.input) for n in exact.node if n.op_type == "MatMul" and n.name not in products}
    assert free  # of the SSM, with what they read unchanged
    assert free == {n.name: list(n.input) for n in rough.node if n.name in free}
    kinds = {tensor.name: tensor.data_type for tensor in rough.initializer}
    for name in (
        "layer0.ssm.log_decay",
        "layer1.ssm.angle",
        "layer0.ssm_norm.weight",
        "layer1.ffn.in_proj.bias",
    ):
        assert kinds[name] == TensorProto.FLOAT


def test_static_scales_come_from_the_calibration(wide: Path) -> None:
    """After calibration on quieter audio, louder audio is clipped."""
    errors = []
    for calibration in ([SPEECH[0]], [np.full(16000, 1e-4, dtype=np.float32)]):
        quantize_bundle(wide, Quantization(calibration=calibration, reduce_range=saturates()))
        errors.append(encoder_error(wide, "int8", SPEECH[0]))
    assert errors[0] < 0.1 and errors[1] > 2 * errors[0]


def test_calibration_uses_the_frames_of_the_recognizer(wide: Path) -> None:
    """The feeds of the encoder give the frames that the search uses."""
    bundle = open_bundle(wide)
    feeds = feed_parts(bundle, SPEECH[:2])
    (joined,) = list(feeds["joiner"]())
    outputs = [bundle.encoder.run(None, feed)[0][0] for feed in feeds["encoder"]()]
    if bundle.mode == "offline":  # which takes the shorter one first
        outputs.reverse()
    np.testing.assert_allclose(np.concatenate(outputs), joined["encoder_out"], atol=1e-5)
    (contexts,) = list(feeds["decoder"]())
    np.testing.assert_allclose(bundle.predict(contexts["y"]), joined["decoder_out"], atol=1e-5)


def weights_of(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Integer weights and scales of an encoder's product."""
    tensors = {tensor.name: tensor for tensor in onnx.load(folder / "encoder.int8.onnx").graph.initializer}
    weight = name.replace("matmul", "weight")
    return tuple(numpy_helper.to_array(tensors[f"{weight}_{kind}"]) for kind in ("quantized", "scale"))  # type: ignore[return-value]


@pytest.mark.parametrize("static", [False, True])
def test_switches(static: bool, wide: Path) -> None:
    calibration = SPEECH[:1] if static else []
    quantize_bundle(wide, Quantization(calibration=calibration))
    weight, scale = weights_of(wide, IN_PROJ)
    assert weight.dtype == np.int8 and scale.shape == (512,) and np.abs(weight).max() == 127
    quantize_bundle(wide, Quantization(calibration=calibration, per_channel=False, reduce_range=True))
    weight, scale = weights_of(wide, IN_PROJ)
    assert scale.size == 1 and np.abs(weight.astype(int)).max() <= 64


def test_excluded_products_stay_float(wide: Path) -> None:
    counts = quantize_bundle(wide, exclude=[IN_PROJ, "proj.matmul"])
    assert counts == {"encoder": 9, "decoder": 0, "joiner": 1}
    nodes = {node.name: node.op_type for node in onnx.load(wide / "encoder.int8.onnx").graph.node}
    assert nodes[IN_PROJ] == "MatMul" and "layer1.ffn.in_proj.matmul" not in nodes
    assert not (wide / "decoder.int8.onnx").exists()
    check_bundle(wide)
    assert open_bundle(wide, precision="int8").files[1] == wide / "decoder.onnx"
    with pytest.raises(
        UserError, match=r"no matrix product 'layer9' to exclude; it has .*layer0\.ffn\.in_proj"
    ):
        quantize_bundle(wide, exclude=["layer9"])
    with pytest.raises(UserError, match=r"encoder\.onnx: no matrix product"):
        quantize_bundle(wide, exclude=list_products(wide / "encoder.onnx"))


def test_a_product_that_stays_float_is_an_error(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "todm.deploy.quantize.quantize_file",
        lambda source, target, *_: target.write_bytes(source.read_bytes()),
    )
    with pytest.raises(UserError, match="only 0 of 10 matrix products run in integers"):
        quantize_bundle(wide)
    assert not (wide / "encoder.int8.onnx").exists()


@pytest.mark.parametrize("mode", MODES)
def test_the_runtime_reads_every_precision(mode: Mode, tmp_path: Path) -> None:
    feats = torch.from_numpy(compute_fbank(np.concatenate(SPEECH)))[None]
    net = make_talkative(SPACE.max(mode), feats=feats)
    speech = LabelledAudio(part="noise", texts=["A"] * len(SPEECH), samples=SPEECH)
    settings = ExportConfig(quantization="static", fp16=True, guard_absolute=1e9)
    sizes = write_bundle(
        net, Config(export=settings), write_lang(tmp_path / "lang"), tmp_path / "b", guard_audio=speech
    )
    assert list(sizes) == ["fp32", "fp16", "int8"]
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    transcripts = {
        name: [result.text for result in open_recognizer(tmp_path / "b", precision=name).transcribe(SPEECH)]
        for name in precisions
    }
    assert all(all(texts) for texts in transcripts.values())
    assert open_bundle(tmp_path / "b", precision="fp16").files[2].name == "joiner.fp16.onnx"
    # Exported again without them, they are gone.
    write_bundle(net, Config(export=ExportConfig(int8=False)), tmp_path / "lang", tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b").glob("*.onnx")) == [
        f"{p}.onnx" for p in sorted(MODEL_NAMES)
    ]
    assert not (tmp_path / "b" / "int8.json").exists()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_sherpa_onnx_opens_static_and_half_precision_files(
    mode: Mode, kind: Precision, tmp_path: Path
) -> None:
    pytest.importorskip("sherpa_onnx")
    feats = torch.from_numpy(compute_fbank(np.concatenate(SPEECH)))[None]
    export_bundle(
        make_talkative(SPACE.max(mode), feats=feats), Config(), write_lang(tmp_path / "lang"), tmp_path / "b"
    )
    quantize_bundle(tmp_path / "b", Quantization(calibration=SPEECH))
    for part in MODEL_NAMES:
        halve_file(tmp_path / "b" / f"{part}.onnx", tmp_path / "b" / f"{part}.fp16.onnx")
    ours = [result.text for result in open_recognizer(tmp_path / "b", precision=kind).transcribe(SPEECH)]
    for part in MODEL_NAMES:  # under the names that this test's host is given
        shutil.copy(tmp_path / "b" / f"{part}.{kind}.onnx", tmp_path / "b" / f"{part}.onnx")
    theirs = sherpa_transcribe(tmp_path / "b", SPEECH)
    if kind == "fp16":
        assert theirs == ours
    else:  # integer kernels of two versions of onnxruntime round differently
        letters = [[" ".join(text) for text in texts] for texts in (ours, theirs)]
        found = compute_wer(make_utterances(["a"] * len(ours), *letters), replications=1)
        assert found.words > 10 and found.wer < 20.0


@torch.no_grad()
def test_half_precision_files(wide: Path, tmp_path: Path) -> None:
    for part in MODEL_NAMES:
        names = halve_file(wide / f"{part}.onnx", wide / f"{part}.fp16.onnx")
        assert names and (part != "encoder" or {"conv1.weight", "layer0.ssm.out_re"} <= set(names))
    whole, half = (onnx.load(wide / f"encoder{suffix}.onnx") for suffix in ("", ".fp16"))
    onnx.checker.check_model(half)
    assert whole.graph.input == half.graph.input and whole.graph.output == half.graph.output
    assert whole.metadata_props == half.metadata_props
    ratio = (wide / "encoder.fp16.onnx").stat().st_size / (wide / "encoder.onnx").stat().st_size
    assert 0.5 < ratio < 0.6
    assert 0 < encoder_error(wide, "fp16", SPEECH[0]) < 2e-3
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds["layer0.ssm.log_decay"] == kinds["layer0.ssm.angle"] == TensorProto.FLOAT


def test_numbers_too_large_for_half_precision_are_clipped() -> None:
    values = np.full((16, 16), 1e6, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [], [], [numpy_helper.from_array(values, "w")]
    )
    assert halve_weights(graph) == ["w"]
    stored = numpy_helper.to_array(graph.initializer[0])
    assert stored.dtype == np.float16 and (stored == 65504).all()
    assert halve_weights(graph) == []  # already done


def test_static_needs_speech(tmp_path: Path) -> None:
    net = extract(make_supernet(), SPACE.max())
    config = Config(export=ExportConfig(quantization="static"))
    with pytest.raises(UserError, match=r"export\.quantization: static needs speech"):
        write_bundle(net, config, write_lang(tmp_path / "lang"), tmp_path / "b")
    assert not (tmp_path / "b").exists()
