"""The examples for sherpa-onnx run from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("sherpa_onnx")
pytest.importorskip("onnxruntime")

from tests.runtime.conftest import make_utterances, save_bundle
from todm.runtime.recognizer import open_recognizer

EXAMPLES = Path(__file__).parents[2] / "export" / "examples"
MODES = ("offline", "streaming")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.wav"
    soundfile.write(path, 0.5 * make_utterances([48000], seed=4)[0], 16000, subtype="FLOAT")
    return path


def make_bundle(folder: Path, mode: str) -> Path:
    save_bundle(folder, mode, encoder_metadata={"tail_frames": 67})
    pieces = [line.split()[0] for line in (folder / "tokens.txt").read_text(encoding="utf-8").splitlines()]
    lines = [f"{piece}\t{0 if index < 3 else -index}\n" for index, piece in enumerate(pieces)]
    (folder / "bpe.vocab").write_text("".join(lines), encoding="utf-8")
    return folder


def run_unchecked(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def run(*words: object) -> str:
    done = run_unchecked(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_transcribing(mode: str, sound: Path, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / mode, mode)
    samples = soundfile.read(sound, dtype="float32")[0]
    expected = open_recognizer(folder).transcribe([samples])[0].text
    assert len(expected) > 3
    shown = run(EXAMPLES / f"{mode}.py", folder, sound)
    last = shown.rstrip("\n").split("\r" if "\r" in shown else "\n")[-1]
    # Universal newlines make a line of each partial result.
    assert last.strip() == expected


@pytest.mark.parametrize("mode", MODES)
def test_hotwords_change_the_result(mode: str, sound: Path, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / mode, mode)
    samples = np.asarray(soundfile.read(sound, dtype="float32")[0])
    plain = open_recognizer(folder, method="beam").transcribe([samples])[0].text
    example = EXAMPLES / "hotwords.py"
    # A word of two of the model's pieces.
    favoured = run(example, folder, sound, "dA :5.0").strip()
    assert plain.count("dA") < favoured.count("dA")
    unmoved = run(example, folder, sound, "dA :0.001").strip()
    assert unmoved.replace(" ", "") == plain.replace(" ", "")


@pytest.mark.parametrize("mode", MODES)
def test_unusable_input_is_one_sentence(mode: str, sound: Path, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / mode, mode)
    other = MODES[1 - MODES.index(mode)]
    bad = tmp_path / "bad.wav"
    samples = np.zeros(4000, np.float32)
    for value in (np.nan, 1e18):
        samples[100] = value
        soundfile.write(bad, samples, 16000, subtype="FLOAT")
        for words in ([EXAMPLES / f"{mode}.py", folder, bad], [EXAMPLES / "hotwords.py", folder, bad, "dA"]):
            done = run_unchecked(*words)
            assert done.returncode == 1 and done.stdout == ""
            fault = "its samples are not finite or far above full scale; write the file again"
            assert done.stderr.splitlines()[-1] == f"{bad}: {fault}"
    done = run_unchecked(EXAMPLES / f"{other}.py", folder, sound)
    assert done.returncode == 1
    model = {"offline": "an offline model", "streaming": "a streaming model"}[mode]
    assert done.stderr.splitlines()[-1] == f"{folder}: is {model}; use {mode}.py"
