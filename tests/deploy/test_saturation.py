"""The probe for processors that cut off sums of 8-bit products, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.nets import MODEL, SPACE, make_supernet, write_lang
from todm.cli import main
from todm.config import Config
from todm.deploy import saturation
from todm.extract import extract
from todm.model_dir import save_subnet


class Session:
    """Multiplies as a processor does that adds pairs of products in 16 bits, or as one that does not."""

    def __init__(self, *, cuts_off: bool) -> None:
        self.cuts_off = cuts_off

    def run(self, _names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        a, b = feeds["a"].astype(np.int32), feeds["b"].astype(np.int32)
        pairs = a[:, 0::2, None] * b[None, 0::2] + a[:, 1::2, None] * b[None, 1::2]
        if self.cuts_off:
            pairs = pairs.clip(-(2**15), 2**15 - 1)
        return [pairs.sum(1).astype(np.int32)]


@pytest.mark.parametrize("cuts_off", [False, True])
def test_the_probe_tells_such_processors(cuts_off: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(cuts_off=cuts_off)
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
    assert saturation.saturates() is cuts_off


def test_the_probe_runs_here_and_always_says_the_same() -> None:
    assert saturation.saturates() == saturation.saturates()


@pytest.mark.parametrize(
    ("cuts_off", "words", "told"),
    [
        (True, [], True),
        (True, ["--export.reduce_range", "true"], False),
        (True, ["--export.int8", "false"], False),
        (False, [], False),
    ],
)
def test_export_tells_once_what_int8_is_worth_here(
    cuts_off: bool,
    words: list[str],
    told: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(saturation, "saturates", lambda: cuts_off)
    lang = write_lang(tmp_path / "lang")
    for name in ("min", "max"):
        net = extract(make_supernet(), getattr(SPACE, name)())
        save_subnet(tmp_path / "subnets" / name, net, Config(model=MODEL), lang)
    assert main(["export", "--exp-dir", str(tmp_path), *words]) == 0
    assert capsys.readouterr().err.count("reduce_range") == int(told)
