"""Everything that belongs into a device folder, in one go."""

from __future__ import annotations

from pathlib import Path

from todm.config import Config
from todm.deploy.contract import check_bundle
from todm.deploy.onnx_export import export_bundle
from todm.deploy.quantize import PARTS, quantize_bundle
from todm.nn.transducer import Transducer
from todm.runtime.standalone import add_runtime


def write_bundle(net: Transducer, config: Config, lang_dir: Path, folder: Path) -> dict[str, int]:
    """Write the bundle of `net`: ONNX files, tokens, spec, config and the torch-free runtime.

    Args:
        net: a plain net.
        config: its `export` section counts.
        lang_dir: folder with ``tokens.txt`` and ``bpe.vocab``.
        folder: the bundle, made when missing.

    Returns:
        bytes of the three ONNX files together, by precision.

    Raises:
        UserError: an impossible setting, or a bundle that the host would not load.
    """
    export_bundle(net, config, lang_dir, folder)
    suffixes = {"fp32": ".onnx"}
    if config.export.int8:
        quantize_bundle(folder)
        suffixes["int8"] = ".int8.onnx"
    else:
        for part in PARTS:  # of an earlier export
            (folder / f"{part}.int8.onnx").unlink(missing_ok=True)
    add_runtime(folder)
    check_bundle(folder)
    return {
        precision: sum((folder / f"{part}{suffix}").stat().st_size for part in PARTS)
        for precision, suffix in suffixes.items()
    }
