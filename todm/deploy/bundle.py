"""Write a complete device folder: export, int8 and fp16 files, runtime and checks."""

from __future__ import annotations

from pathlib import Path

from todm.config import Config, ExportConfig
from todm.deploy.contract import check_bundle
from todm.deploy.guard import LabelledAudio, WerTolerance, guard_bundle
from todm.deploy.half import halve_file
from todm.deploy.onnx_export import export_bundle
from todm.deploy.quantize import Quantization, quantize_bundle
from todm.errors import UserError
from todm.nn.transducer import Transducer
from todm.runtime.layout import MODEL_NAMES, BundleFiles, Precision
from todm.runtime.standalone import add_runtime


def write_bundle(
    net: Transducer, config: Config, lang_dir: Path, folder: Path, *, guard_audio: LabelledAudio | None = None
) -> dict[str, int]:
    """Write the bundle of `net`: ONNX files, tokens, spec, config and the torch-free runtime.

    Args:
        net: a plain net.
        config: its `export` section gives the settings.
        lang_dir: folder with ``tokens.txt`` and ``bpe.vocab``.
        folder: the bundle, created if missing.
        guard_audio: utterances for the accuracy check of int8 files (``int8.json``) and for static
            calibration; None skips the check.

    Returns:
        bytes of the three ONNX files together, by precision.

    Raises:
        GuardError: no int8 files are accurate enough; the rest of the bundle is complete.
        UserError: an impossible setting, or a bundle that sherpa-onnx would not load.
    """
    settings = config.export
    if settings.int8 and settings.quantization == "static" and guard_audio is None:
        raise UserError(
            "export.quantization: static needs speech for its scales; give --guard-corpus-dir and "
            "--guard-part, or set it to dynamic"
        )
    export_bundle(net, config, lang_dir, folder)
    files = BundleFiles(folder)
    files.int8_report.unlink(missing_ok=True)  # left by an earlier export, as the next files
    for name in MODEL_NAMES:
        files.stored(name, "int8").unlink(missing_ok=True)
        files.stored(name, "fp16").unlink(missing_ok=True)
    add_runtime(folder)
    precisions: list[Precision] = ["fp32"]
    if settings.fp16:
        precisions.append("fp16")
        for name in MODEL_NAMES:
            halve_file(files.stored(name, "fp32"), files.stored(name, "fp16"))
    if settings.int8:
        precisions.append("int8")
        _quantize(folder, settings, guard_audio)
    check_bundle(folder)
    return {precision: files.num_bytes(precision) for precision in precisions}


def _quantize(folder: Path, settings: ExportConfig, guard_audio: LabelledAudio | None) -> None:
    static = settings.quantization == "static"
    quantization = Quantization(
        per_channel=settings.per_channel,
        reduce_range=settings.reduce_range,
        calibration=guard_audio.pick(settings.calibration_utterances) if static and guard_audio else (),
    )
    if guard_audio is None:
        quantize_bundle(folder, quantization, exclude=settings.exclude)
        return
    check_bundle(folder)  # first, because the accuracy check may take hours
    tolerance = WerTolerance(absolute=settings.guard_absolute, relative=settings.guard_relative)
    guard_bundle(
        folder, guard_audio, quantization=quantization, tolerance=tolerance, exclude=settings.exclude
    )
