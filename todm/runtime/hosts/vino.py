"""Host that runs the three graphs in OpenVINO, with features, streaming and decoding of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bundle import describe_bundle
from ..decoding import Method, make_search
from ..errors import BundleError
from ..fbank import FloatArray
from ..layout import Precision
from ..offline import OfflineRecognizer
from ..streaming import StreamingRecognizer
from .ort import RecognizerHost


@dataclass(frozen=True, kw_only=True)
class _Input:
    name: str


class _Session:
    """Compiled model with the part of onnxruntime's interface that `Bundle` uses."""

    def __init__(self, core: Any, path: Path, num_threads: int) -> None:
        # Without the hint, processors with matrix units compute in bfloat16.
        settings = {"INFERENCE_NUM_THREADS": num_threads, "INFERENCE_PRECISION_HINT": "f32"}
        try:
            model = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except RuntimeError as error:
            # The report lists unsupported operators in lines that begin with dashes.
            lines = [line.strip(" -") for line in str(error).splitlines() if line.startswith("-- ")]
            reason = (
                lines[0].removesuffix(" with a message:") if lines else " ".join(str(error).split())[:200]
            )
            raise BundleError(
                f"{path}: OpenVINO cannot compile it ({reason}); use another runtime for this model"
            ) from None
        self._inputs = [_Input(name=port.get_any_name()) for port in model.inputs]
        self._outputs = list(model.outputs)
        self._request = model.create_infer_request()

    def get_inputs(self) -> Sequence[_Input]:
        return self._inputs

    def run(self, _: None, feeds: Mapping[str, Any]) -> list[FloatArray]:
        results = self._request.infer(dict(feeds))  # copies, which the next call does not overwrite
        return [results[port] for port in self._outputs]


def open_host(folder: Path, *, precision: Precision, method: Method, num_threads: int) -> RecognizerHost:
    """Open a model folder with OpenVINO; see `todm.runtime.hosts.open_host`."""
    import openvino  # type: ignore[import-not-found, unused-ignore]

    core = openvino.Core()
    bundle = describe_bundle(folder, precision)
    encoder, decoder, joiner = (_Session(core, file, num_threads) for file in bundle.files)
    bundle = replace(bundle, encoder=encoder, decoder=decoder, joiner=joiner)
    search = make_search(bundle, method)
    if bundle.mode == "streaming":
        return RecognizerHost(StreamingRecognizer(bundle, search))
    return RecognizerHost(OfflineRecognizer(bundle, search))
