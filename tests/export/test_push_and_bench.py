"""push_and_bench.sh with substitutes for ssh and adb, and with an ssh server where asyncssh is installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("onnxruntime")
if sys.platform == "win32" or not shutil.which("bash"):
    pytest.skip("needs bash", allow_module_level=True)

from tests.runtime.conftest import make_utterances, save_bundle
from todm.deploy.device_profile import load_device_profile
from todm.runtime.standalone import add_runtime

EXPORT = Path(__file__).parents[2] / "export"
SCRIPT = EXPORT / "tools" / "push_and_bench.sh"
Push = Callable[..., "subprocess.CompletedProcess[str]"]

# Each logs its arguments, one call per line, and runs on this machine instead of the device.
LOG = 'printf "%q " "$(basename "$0")" "$@" >>"$FAKE_LOG"; echo >>"$FAKE_LOG"\n'
FAKES = {
    "ssh": LOG + '[ -z "$FAKE_DOWN" ] || { echo "no route to host" >&2; exit 255; }\nsh -c "${@: -1}"',
    "adb": LOG
    + '[ "$1" != -s ] || shift 2\n'
    + 'case $1 in\n  get-state) [ -z "$FAKE_DOWN" ] || { echo "no devices" >&2; exit 1; } ;;\n'
    + '  shell) sh -c "$2" ;;\n  *) cp -r "$2" "$3" ;;\nesac',
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = save_bundle(tmp_path / "my bundle's", "streaming")
    add_runtime(folder)
    return folder


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "some sound.wav"
    soundfile.write(path, 0.5 * make_utterances([40000])[0], 16000)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Folder for temporary files of the device."""
    folder = tmp_path / "device"
    folder.mkdir()
    return folder


@pytest.fixture
def push(tmp_path: Path, device: Path) -> Push:
    """Run the script with ssh and adb replaced; the file ``log`` contains their arguments."""
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name, text in FAKES.items():
        (fakes / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (fakes / name).chmod(0o755)

    def call(*words: object, down: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{fakes}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(device),
            "FAKE_LOG": str(tmp_path / "log"),
            "FAKE_DOWN": "1" if down else "",
        }
        command = ["bash", str(SCRIPT), *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return call


def read_log(folder: Path) -> list[list[str]]:
    return [shlex.split(line) for line in (folder / "log").read_text().splitlines()]


def test_over_ssh(bundle: Path, wav: Path, device: Path, tmp_path: Path, push: Push) -> None:
    key = tmp_path / "key"
    key.touch()
    options = ("--port", 2222, "--identity", key, "--ssh-option", "User=me", "--python", sys.executable)
    done = push(*options, "--threads", "1 2", "--rounds", 1, "--audio", wav, bundle, "pi@board.local")
    assert (done.returncode, done.stderr) == (0, "")
    # The name of the folder is made harmless on the device: it goes through shells there.
    assert done.stdout == "my-bundle-s.pi-board.local.json\n"
    results = json.loads((tmp_path / done.stdout.strip()).read_text())
    assert [(r["name"], r["num_threads"], r["audio_seconds"]) for r in results] == [
        ("my-bundle-s", 1, 2.5), ("my-bundle-s", 2, 2.5)
    ]  # fmt: skip
    assert results[0]["texts"][0] and results[0]["texts"] == results[1]["texts"]
    assert list(device.glob("todm*")) == []  # no files are left on the device
    log = read_log(tmp_path)
    common = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-i", str(key), "-o", "User=me"]
    start = ["ssh", *common, "-p", "2222", "--", "pi@board.local"]
    assert all(words[:-1] == start for words in log)
    assert any(re.fullmatch(r"mkdir \S*/my-bundle-s +&& tar -C \S*/my-bundle-s +-xf -", w[-1]) for w in log)
    measure = next(words[-1] for words in log if "bench.py" in words[-1])
    program = shlex.split(measure)[1]
    work = str(Path(program).parents[1])
    assert Path(work).parent == device
    assert shlex.split(measure) == [
        sys.executable, f"{work}/my-bundle-s/bench.py", "--rounds", "1", "--out", f"{work}/bench.json",
        "--threads", "1", "2", "--runtime", "onnxruntime", "--", f"{work}/audio0.wav",
    ]  # fmt: skip


def test_a_relative_python_counts_from_home(bundle: Path, tmp_path: Path, push: Push) -> None:
    python = tmp_path / "asr" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    done = push("--python", "asr/bin/python3", "--rounds", 1, bundle, "pi@board")
    assert (done.returncode, done.stderr) == (0, "")


def test_over_adb(bundle: Path, tmp_path: Path, device: Path, push: Push) -> None:
    words = ("--python", sys.executable, "--rounds", 1, "--folder", device, "--precision", "fp32")
    done = push("--adb", *words, "--out", "figures.json", bundle, "SERIAL1")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "figures.json\n")
    (result,) = json.loads((tmp_path / "figures.json").read_text())
    assert result["precision"] == "fp32" and result["rtf"] > 0
    log = read_log(tmp_path)
    assert all(call[:3] == ["adb", "-s", "SERIAL1"] for call in log)
    kinds = [call[3] for call in log]
    assert kinds[0] == "get-state" and kinds.count("push") == kinds.count("pull") == 1
    (tmp_path / "log").unlink()
    assert push(bundle, "--adb", *words).returncode == 0  # the only device: no serial
    assert all(
        call[:2] in (["adb", word] for word in ("get-state", "shell", "push", "pull"))
        for call in read_log(tmp_path)
    )
    assert list(device.glob("todm*")) == []


@pytest.mark.parametrize("path", sorted((EXPORT / "devices").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_script_reads_profiles_like_todm(
    path: Path, bundle: Path, device: Path, tmp_path: Path, push: Push
) -> None:
    profile = load_device_profile(path)
    shutil.copyfile(bundle / "encoder.onnx", bundle / "encoder.int8.onnx")
    target = ["me@board"] if profile.reach == "ssh" else []
    done = push(
        "--device", path, "--folder", device, "--rounds", 1, "--python", sys.executable, bundle, *target
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads((tmp_path / done.stdout.strip()).read_text())
    expected = [(precision, threads) for precision in profile.precision for threads in profile.threads]
    assert [(r["precision"], r["num_threads"]) for r in results] == expected
    assert {call[0] for call in read_log(tmp_path)} == {"ssh" if target else "adb"}
    assert profile.python == "python3"  # given above as the one with the packages


def test_each_failure_is_one_sentence(
    bundle: Path, wav: Path, device: Path, tmp_path: Path, push: Push
) -> None:
    def reason(*words: object, down: bool = False) -> str:
        done = push(*words, down=down)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
        return done.stderr

    python = ("--python", sys.executable)
    assert "BUNDLE: missing" in reason()
    assert f"{tmp_path}: not a bundle" in reason(tmp_path, "me@board")
    assert "USER@HOST: missing" in reason(bundle)
    assert "--port: needs a value" in reason(bundle, "me@board", "--port")
    assert "--fast: no such option" in reason("--fast", bundle, "me@board")
    assert "third: one bundle and one device" in reason(bundle, "me@board", "third")
    assert "no such key" in reason("--identity", tmp_path / "no", bundle, "me@board")
    assert "no such audio file" in reason("--audio", tmp_path / "no", bundle, "me@board")
    assert "no such device profile" in reason("--device", tmp_path / "no", bundle, "me@board")
    (tmp_path / "board.yaml").write_text("reach: usb\n")
    assert "reach: must be ssh or adb, not 'usb'" in reason("--device", tmp_path / "board.yaml", bundle, "x")
    assert not (tmp_path / "log").exists()  # nothing of this needed the device

    assert "me@board: not reachable over ssh (no route to host)" in reason(bundle, "me@board", down=True)
    assert "adb: not reachable over adb (no devices)" in reason("--adb", bundle, down=True)
    assert "has no python9; install Python" in reason("--python", "python9", bundle, "me@board")
    sentence = reason(*python, "--runtime", "onnxruntime no-such-package", bundle, "me@board")
    assert f"run on the device: {sys.executable} -m pip install no-such-package" in sentence
    missing = reason(*python, "--folder", "/nowhere", bundle, "me@board")
    assert "cannot make a folder in /nowhere" in missing
    sentence = reason(*python, "--precision", "int8", bundle, "me@board")
    assert "benchmark failed: " in sentence and "encoder.int8.onnx: no such file" in sentence
    (bundle / "bench.py").unlink()
    assert "has no bench.py; export the model again" in reason(bundle, "me@board")
    assert list(device.glob("todm*")) == [] and list(tmp_path.glob("*.json")) == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Port and client key of an ssh server on the loopback address."""
    for tool in ("ssh", "ssh-keygen"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    # asyncssh may live in an environment of its own.
    python = os.environ.get("TODM_ASYNCSSH_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import asyncssh"], capture_output=True, check=False).returncode:
        pytest.skip("no asyncssh; install it, or name a Python that has it in TODM_ASYNCSSH_PYTHON")
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    script = Path(__file__).with_name("ssh_server.py")
    command = [python, str(script), str(tmp_path / "host"), str(tmp_path / "client.pub")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), tmp_path / "client"
        finally:
            process.terminate()


def test_over_a_real_ssh_server(server: tuple[str, Path], bundle: Path, wav: Path, tmp_path: Path) -> None:
    port, key = server
    trust = ("--ssh-option", "StrictHostKeyChecking=no", "--ssh-option", "UserKnownHostsFile=/dev/null")
    quiet = ("--ssh-option", "LogLevel=ERROR")
    place = tmp_path / "device's folder"
    place.mkdir()

    def push(*words: object, to_port: str = port) -> subprocess.CompletedProcess[str]:
        command = ["bash", SCRIPT, "--port", to_port, "--identity", key, *trust, *quiet, "--folder", place]
        command += ["--python", sys.executable, *words, bundle, "me@127.0.0.1"]
        return subprocess.run(
            [str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = push("--audio", wav, "--rounds", "1", "--out", "a b.json")
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads((tmp_path / "a b.json").read_text())
    assert result["name"] == "my-bundle-s" and result["texts"][0] and np.isfinite(result["rtf"])
    assert list(place.iterdir()) == []

    done = push("--runtime", "no-such-package")
    assert done.returncode == 2 and "pip install no-such-package" in done.stderr
    done = push(to_port="1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "me@127.0.0.1: not reachable over ssh" in done.stderr and "refused" in done.stderr
