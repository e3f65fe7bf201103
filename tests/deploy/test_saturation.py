"""Detection of processors that saturate sums of 8-bit products, and the note of `todm export`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.nets import CONFIG, SPACE, make_supernet, write_lang
from todm.cli import main
from todm.deploy import saturation
from todm.extract import extract
from todm.model_dir import save_subnet


class Session:
    """Multiply like a processor that adds pairs of products in 16 bits, or like one that does not."""

    def __init__(self, *, saturating: bool) -> None:
        self.saturating = saturating

    def run(self, _names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        a, b = feeds["a"].astype(np.int32), feeds["b"].astype(np.int32)
        pairs = a[:, 0::2, None] * b[None, 0::2] + a[:, 1::2, None] * b[None, 1::2]
        if self.saturating:
            pairs = pairs.clip(-(2**15), 2**15 - 1)
        return [pairs.sum(1).astype(np.int32)]


@pytest.mark.parametrize("saturating", [False, True])
def test_saturating_processors_are_detected(saturating: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(saturating=saturating)
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
    assert saturation.saturates() is saturating


def test_detection_on_this_processor_is_deterministic() -> None:
    assert saturation.saturates() == saturation.saturates()


@pytest.mark.parametrize(
    ("saturating", "words", "hint"),
    [
        (True, [], True),
        (True, ["--export.reduce_range", "true"], False),
        (True, ["--export.int8", "false"], False),
        (False, [], False),
    ],
)
def test_export_prints_the_note_once(
    saturating: bool,
    words: list[str],
    hint: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(saturation, "saturates", lambda: saturating)
    lang = write_lang(tmp_path / "lang")
    for name in ("min", "max"):
        net = extract(make_supernet(), getattr(SPACE, name)())
        save_subnet(tmp_path / "subnets" / name, net, CONFIG, lang)
    assert main(["export", "--exp-dir", str(tmp_path), *words]) == 0
    assert capsys.readouterr().err.count("reduce_range") == int(hint)
