"""Python API: `Run` performs the steps of a training run, `load` opens trained models.

``import todm.api`` loads neither torch nor numpy: each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from todm.api.benchmark import BenchFailure, BenchOptions, BenchResult, bench_bundles
    from todm.api.decoding import decode_part
    from todm.api.device_table import DeviceOptions, DeviceResult, fit_results, measure_device
    from todm.api.exporting import export_subnets, load_guard_audio
    from todm.api.extracting import extract_subnets
    from todm.api.run import Run
    from todm.api.searching import SearchOptions, SearchSession
    from todm.api.settings import read_overrides
    from todm.api.train_benchmark import benchmark_training
    from todm.api.training import average_run, check_data, check_until, fine_tune_run, train_run
    from todm.deploy.verify import require_in_use, verify_bundle
    from todm.inference import InferenceOptions, Model, Stream, load
    from todm.runtime.transcript import Transcript
    from todm.train.step_benchmark import BatchShape, LossBenchmark, StepBenchmark

_NAMES = {
    "benchmark": ("BenchFailure", "BenchOptions", "BenchResult", "bench_bundles"),
    "decoding": ("decode_part",),
    "device_table": ("DeviceOptions", "DeviceResult", "fit_results", "measure_device"),
    "exporting": ("export_subnets", "load_guard_audio"),
    "extracting": ("extract_subnets",),
    "run": ("Run",),
    "searching": ("SearchOptions", "SearchSession"),
    "settings": ("read_overrides",),
    "train_benchmark": ("benchmark_training",),
    "training": ("average_run", "check_data", "check_until", "fine_tune_run", "train_run"),
}
_MODULES = {name: f"todm.api.{module}" for module, names in _NAMES.items() for name in names}
_MODULES |= dict.fromkeys(("BatchShape", "LossBenchmark", "StepBenchmark"), "todm.train.step_benchmark")
_MODULES |= dict.fromkeys(("verify_bundle", "require_in_use"), "todm.deploy.verify")
_MODULES |= dict.fromkeys(("InferenceOptions", "Model", "Stream", "load"), "todm.inference")
_MODULES["Transcript"] = "todm.runtime.transcript"

__all__ = [
    "BatchShape",
    "BenchFailure",
    "BenchOptions",
    "BenchResult",
    "DeviceOptions",
    "DeviceResult",
    "InferenceOptions",
    "LossBenchmark",
    "Model",
    "Run",
    "SearchOptions",
    "SearchSession",
    "StepBenchmark",
    "Stream",
    "Transcript",
    "average_run",
    "bench_bundles",
    "benchmark_training",
    "check_data",
    "check_until",
    "decode_part",
    "export_subnets",
    "extract_subnets",
    "fine_tune_run",
    "fit_results",
    "load",
    "load_guard_audio",
    "measure_device",
    "read_overrides",
    "require_in_use",
    "train_run",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'todm.api' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value
