"""todm: train one speech recogniser, ship every size.

>>> import todm
>>> model = todm.load("exp/subnets/min")  # doctest: +SKIP
>>> model.transcribe("recording.wav").text  # doctest: +SKIP

``import todm`` loads neither torch nor numpy: each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from todm.api.run import Run
    from todm.config import Config
    from todm.errors import UserError
    from todm.inference import Model, load
    from todm.runtime.transcript import Transcript
    from todm.space.space import SearchSpace
    from todm.space.spec import SubnetSpec

__version__ = "0.1.0"

__all__ = ["Config", "Model", "Run", "SearchSpace", "SubnetSpec", "Transcript", "UserError", "load"]

_MODULES = {
    "Config": "todm.config",
    "Model": "todm.inference",
    "Run": "todm.api.run",
    "SearchSpace": "todm.space.space",
    "SubnetSpec": "todm.space.spec",
    "Transcript": "todm.runtime.transcript",
    "UserError": "todm.errors",
    "load": "todm.inference",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'todm' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
