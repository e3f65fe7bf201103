"""``todm latency``: what is measured, what is not measured twice, and what it says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

from tests.nets import MODEL, SPACE, make_supernet, write_lang
from tests.prepared import CONFIG, prepare_run
from todm.api.device_table import SPEECH_SECONDS
from todm.cli import main
from todm.config import Config, SpaceConfig
from todm.model_dir import save_supernet
from todm.search.device_plan import plan_specs
from todm.search.latency import DeviceTable

# What a device would write: a cost by the layer, and one more line into a list of what was measured.
DEVICE = """
import json, sys
from pathlib import Path
bundle, audio, out = map(Path, sys.argv[1:])
assert audio.stat().st_size > 1000
spec = json.loads((bundle / "spec.json").read_text())
rtf = 0.01 * len(spec["layers"]) + 0.001 * sum(spec["widths"]["ffn_dim"])
entry = {"spec": spec, "mode": spec["mode"], "runtime": "onnxruntime", "precision": "int8",
         "method": "greedy", "num_threads": 2, "chunk_ms": None if spec["mode"] == "offline" else 320.0,
         "rtf": rtf, "latency_ms": {"p95": 100 * rtf}, "machine": {"cpu": "toy"}}
assert (bundle / "encoder.int8.onnx").is_file()
with (out.parent / "measured.txt").open("a") as file:
    print(out.name, file=file)
out.write_text(json.dumps([entry]))
"""


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    config = Config(
        model=MODEL, space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
    )
    config = replace(config, data=CONFIG.data)
    folder = prepare_run(tmp_path, config)
    weights = make_supernet().state_dict()
    save_supernet(folder / "supernet", weights, config, write_lang(tmp_path / "lang"))
    (tmp_path / "device.py").write_text(DEVICE)
    return folder


def words(exp: Path, *more: str) -> list[str]:
    command = f"{sys.executable} {exp.parent / 'device.py'} {{bundle}} {{audio}} {{out}}"
    return ["latency", "pi4", "--exp-dir", str(exp), "--with", command, "--fit", "4", "--repeats", "1", *more]


def test_the_ends_are_fitted_and_others_held_out() -> None:
    fit, held_out = plan_specs(SPACE, None, 5, 4)
    for mode in SPACE.modes:
        mine = [spec for spec in fit if spec.mode == mode]
        assert len(mine) == 5 and {SPACE.min(mode), SPACE.max(mode)} <= set(mine)
        assert sum(spec.mode == mode for spec in held_out) == 4
    assert not set(fit) & set(held_out)
    assert len(set(fit) | set(held_out)) == 2 * (5 + 4)
    assert plan_specs(SPACE, None, 5, 4) == (fit, held_out)
    assert {spec.mode for specs in plan_specs(SPACE, "offline", 5, 4) for spec in specs} == {"offline"}


def test_a_device_is_measured_once_and_fitted(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(exp, "--hold-out", "3")) == 0
    assert "median error 0.0%, largest 0.0% (3 held out)" in capsys.readouterr().out
    table = DeviceTable.load(exp / "devices" / "pi4.json")
    spec = SPACE.mid("streaming")
    rtf = table.predict("rtf", spec, precision="int8")
    assert rtf == pytest.approx(0.01 * spec.depth + 0.001 * sum(spec.width("ffn_dim")))
    measured = exp / "devices" / "pi4" / "measured.txt"
    assert len(measured.read_text().splitlines()) == 2 * (4 + 3)
    # Nothing is measured again; two more are.
    assert main(words(exp, "--hold-out", "4")) == 0
    assert len(measured.read_text().splitlines()) == 2 * (4 + 4)


def test_files_that_are_there_can_be_fitted(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(exp, "--hold-out", "0", "--mode", "offline")) == 0
    files = [str(path) for path in sorted((exp / "devices" / "pi4").glob("*.json"))]
    call = ["latency", "phone", "--exp-dir", str(exp), "--results", *files]
    assert main([*call, "--held-out", files[0]]) == 0
    assert "(1 held out)" in capsys.readouterr().out
    assert DeviceTable.load(exp / "devices" / "phone.json").device == "phone"


def test_this_machine_is_measured(exp: Path) -> None:
    call = ["latency", "here", "--exp-dir", str(exp), "--fit", "3", "--hold-out", "0", "--mode", "offline"]
    assert main([*call, "--repeats", "1", "--rounds", "1", "--precision", "fp32"]) == 0
    (fit,) = DeviceTable.load(exp / "devices" / "here.json").fits
    speech, rate = soundfile.read(exp / "devices" / "here" / "speech.wav")
    assert rate == 16000 and 0.5 < len(speech) / rate <= SPEECH_SECONDS and abs(speech).max() > 0.01
    assert [item.spec for item in fit.fitted] == plan_specs(SPACE, "offline", 3, 0)[0]
    results = json.loads((exp / "devices" / "here" / f"{SPACE.min().name}.1.json").read_text())
    assert [result["spec"] for result in results] == [SPACE.min().to_dict()]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--fit", "2"], "--fit: must be at least 3, got 2"),
        (["--with", "false"], "no figures of"),
        (["--with", "/no/such/tool"], "cannot be run"),
        (["--held-out", "x.json"], "belongs to --results"),
    ],
)
def test_what_cannot_be_done_is_said(
    exp: Path, more: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(exp, *more)) == 2
    assert fault in capsys.readouterr().err
