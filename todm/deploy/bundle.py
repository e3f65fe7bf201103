"""Everything that belongs into a device folder, in one go."""

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
    net: Transducer, config: Config, lang_dir: Path, folder: Path, *, speech: LabelledAudio | None = None
) -> dict[str, int]:
    """Write the bundle of `net`: ONNX files, tokens, spec, config and the torch-free runtime.

    Args:
        net: a plain net.
        config: its `export` section counts.
        lang_dir: folder with ``tokens.txt`` and ``bpe.vocab``.
        folder: the bundle, made when missing.
        speech: makes the int8 files hold the guard on it (``int8.json``), and calibrates static ones.

    Returns:
        bytes of the three ONNX files together, by precision.

    Raises:
        GuardError: no int8 files are good enough; the rest of the bundle is whole.
        UserError: an impossible setting, or a bundle that the host would not load.
    """
    settings = config.export
    if settings.int8 and settings.quantization == "static" and speech is None:
        raise UserError(
            "export.quantization: static needs speech to take its scales from; give --guard-corpus-dir and "
            "--guard-part, or take dynamic"
        )
    export_bundle(net, config, lang_dir, folder)
    files = BundleFiles(folder)
    files.int8_report.unlink(missing_ok=True)  # of an earlier export, as all that follow
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
        _quantize(folder, settings, speech)
    check_bundle(folder)
    return {precision: files.num_bytes(precision) for precision in precisions}


def _quantize(folder: Path, settings: ExportConfig, speech: LabelledAudio | None) -> None:
    static = settings.quantization == "static"
    quantization = Quantization(
        per_channel=settings.per_channel,
        reduce_range=settings.reduce_range,
        calibration=speech.pick(settings.calibration_utterances) if static and speech else (),
    )
    if speech is None:
        quantize_bundle(folder, quantization, exclude=settings.exclude)
        return
    check_bundle(folder)  # before hours may be spent on measuring it
    allowance = WerTolerance(absolute=settings.guard_absolute, relative=settings.guard_relative)
    guard_bundle(folder, speech, quantization=quantization, allowance=allowance, exclude=settings.exclude)
