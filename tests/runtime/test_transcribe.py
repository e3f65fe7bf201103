from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import todm.runtime
from todm.runtime import transcribe
from todm.runtime.audio import read_audio
from todm.runtime.recognizer import open_recognizer
from todm.runtime.standalone import add_runtime

MakeUtterances = Callable[..., list[np.ndarray]]


def write_wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.clip(samples * 32767, -32768, 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def wav(tmp_path: Path, make_utterances: MakeUtterances) -> Path:
    return write_wav(tmp_path / "a.wav", make_utterances([40000])[0] * 0.5)


def test_the_copied_folder_runs_alone(tmp_path: Path, wav: Path, offline_bundle: Path) -> None:
    folder = shutil.copytree(offline_bundle, tmp_path / "bundle")
    files = add_runtime(folder)
    assert folder / "runtime" / "decoding" / "greedy.py" in files
    assert all(file.is_file() for file in files)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, str(folder / "transcribe.py"), "a.wav", "a.wav"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    text = open_recognizer(offline_bundle).transcribe([read_audio(wav).samples])[0].text
    assert text
    assert done.stdout == f"a.wav\t{text}\n" * 2
    add_runtime(folder)  # again, over the old copy


def test_the_package_imports_only_itself_and_the_device_s_libraries() -> None:
    allowed = {"numpy", "onnxruntime", "kaldi_native_fbank", "soundfile", *sys.stdlib_module_names}
    for path in Path(todm.runtime.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                # Relative ones survive copying; two dots would leave the package.
                assert node.level == 1 or (node.level == 0 and str(node.module).split(".")[0] in allowed), (
                    path
                )


def test_beam_and_streaming_options(
    wav: Path, offline_bundle: Path, streaming_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for arguments in ([], ["--streaming"], ["--chunk-ms", "7"], ["--beam", "--streaming"], ["--beam", "4"]):
        assert transcribe.main([str(wav), *arguments], folder=streaming_bundle) == 0
        captured = capsys.readouterr()
        outputs.append(captured.out)
        partial = [line.split("s  ")[1] for line in captured.err.splitlines()]
        assert bool(partial) == ("--streaming" in arguments)
        assert not partial or partial[-1] == captured.out.rstrip("\n").split("\t")[1]
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[3] == outputs[4] != outputs[0]
    assert transcribe.main([str(wav), "--streaming"], folder=offline_bundle) == 2
    assert "offline model" in capsys.readouterr().err


def test_segments_are_the_text_cut_at_endpoints(
    tmp_path: Path,
    offline_bundle: Path,
    streaming_bundle: Path,
    make_utterances: MakeUtterances,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The toy model is hardly silent: it is the rule for long utterances, 20 s, that cuts.
    wav = write_wav(tmp_path / "long.wav", make_utterances([16000 * 45])[0] * 0.5)
    assert transcribe.main([str(wav)], folder=streaming_bundle) == 0
    whole = capsys.readouterr().out.rstrip("\n").split("\t")[1]
    assert transcribe.main([str(wav), "--segments"], folder=streaming_bundle) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) >= 3
    assert {row[0] for row in rows} == {str(wav)}
    starts = [float(row[1]) for row in rows]
    assert starts == sorted(starts)
    assert 20.0 < starts[1] < 23.0
    assert "".join(row[2] for row in rows).replace(" ", "") == whole.replace(" ", "")
    assert transcribe.main([str(wav), "--segments"], folder=offline_bundle) == 2
    assert "drop --segments" in capsys.readouterr().err


def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, wav: Path, offline_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.wav"
    assert transcribe.main([str(missing), str(wav)], folder=offline_bundle) == 2
    captured = capsys.readouterr()
    assert captured.err == f"{missing}: no such file; check the path\n"
    assert captured.out.startswith(f"{wav}\t")  # the good file is still transcribed
    assert transcribe.main([str(wav), "--bundle", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        transcribe.main([str(wav), "--threads", "0"], folder=offline_bundle)


def test_files_with_unusable_samples_are_refused(
    tmp_path: Path, wav: Path, streaming_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other files have the text that they have alone."""
    soundfile = pytest.importorskip("soundfile")
    assert transcribe.main([str(wav)], folder=streaming_bundle) == 0
    alone = capsys.readouterr().out
    bad = tmp_path / "bad.wav"
    for value, fault in (
        (np.nan, "contain NaN or infinity"),
        (np.inf, "contain NaN"),
        (1e18, "largest sample"),
    ):
        samples = np.zeros(4000)
        samples[1000] = value
        soundfile.write(bad, samples, 16000, subtype="DOUBLE")
        for options in ([], ["--segments"]):
            assert transcribe.main([str(wav), str(bad), str(wav), *options], folder=streaming_bundle) == 2
            captured = capsys.readouterr()
            assert captured.err.startswith(f"{bad}: its ") and fault in captured.err
            assert captured.err.count("\n") == 1
            assert options or captured.out == 2 * alone
