"""File names of a bundle and the file that each precision opens."""

from __future__ import annotations

from pathlib import Path

from todm.errors import UserError
from todm.runtime import constants
from todm.runtime.errors import BundleError
from todm.runtime.fbank import DEFAULT_FBANK
from todm.runtime.layout import MODEL_NAMES, PRECISIONS, BundleFiles


def test_a_missing_decoder_or_joiner_is_opened_in_fp32(tmp_path: Path) -> None:
    files = BundleFiles(tmp_path)
    assert not files.precisions and files.num_bytes("int8") == 0
    for index, name in enumerate(("encoder.onnx", "decoder.onnx", "joiner.onnx", "encoder.int8.onnx")):
        (tmp_path / name).write_bytes(b"x" * 10**index)
    (tmp_path / "joiner.int8.onnx").write_bytes(b"x" * 10**4)
    assert files.precisions == ("fp32", "int8")
    assert [path.name for path in files.models("fp32")] == ["encoder.onnx", "decoder.onnx", "joiner.onnx"]
    assert [path.name for path in files.models("int8")] == [
        "encoder.int8.onnx", "decoder.onnx", "joiner.int8.onnx"
    ]  # fmt: skip
    # A missing encoder is named in its own precision: fp32 would be another model.
    assert files.encoder("fp16").name == "encoder.fp16.onnx"
    assert (files.num_bytes("fp32"), files.num_bytes("int8")) == (111, 11010)


def test_stored_names_are_unique(tmp_path: Path) -> None:
    files = BundleFiles(tmp_path)
    stored = {files.stored(name, precision) for name in MODEL_NAMES for precision in PRECISIONS}
    assert len(stored) == len(MODEL_NAMES) * len(PRECISIONS)
    assert {path.parent for path in stored} == {tmp_path}


def test_constants_agree_with_each_other_and_with_the_filter_bank() -> None:
    assert constants.FRAME_SECONDS == constants.FRAME_SHIFT_MS / 1000 == 1 / constants.FRAMES_PER_SECOND
    assert DEFAULT_FBANK.sample_rate * constants.FRAME_SECONDS == DEFAULT_FBANK.frame_shift
    assert DEFAULT_FBANK.num_mel_bins == constants.NUM_MEL_BINS


def test_errors_of_the_runtime_are_user_errors() -> None:
    assert issubclass(BundleError, UserError)
