"""Two hosts with an address each, made of network namespaces, train as one machine does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.train.runs import NewRun, assert_identical, newest, settings
from todm.config import Config, save_config
from todm.train.sync import find_interface

ADDRESSES = ("10.203.77.1", "10.203.77.2")
PORT = "29511"  # of the first host, which nothing else uses


@dataclass(frozen=True)
class Hosts:
    """Names of the two namespaces; the first host is the one that the other calls."""

    names: tuple[str, str]

    def start(self, rank: int, exp: Path, *words: str) -> subprocess.Popen[str]:
        """`todm train` under torchrun, as in the recipe, without the name of any interface."""
        environ = {
            key: value for key, value in os.environ.items() if key not in ("RANK", "GLOO_SOCKET_IFNAME")
        }
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        command += ["--node-rank", str(rank), "--master-addr", ADDRESSES[0], "--master-port", PORT]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[rank], *command, "-m", "todm", "train", "--exp-dir", str(exp)],
            env={**environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Two namespaces joined by a cable."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2)")
    mine = os.getpid()
    names = (f"todm-a-{mine}", f"todm-b-{mine}")
    links = ("eth7", "eth8")
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip(
                "link",
                "add",
                links[0],
                "netns",
                names[0],
                "type",
                "veth",
                "peer",
                links[1],
                "netns",
                names[1],
            )
            for name, link, address in zip(names, links, ADDRESSES, strict=True):
                ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "link", "set", link, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not permitted here ({error.stderr.strip()})")
        yield Hosts(names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)


def write_config(exp: Path, config: Config) -> Path:
    save_config(config, exp / "config.yaml")
    return exp


def test_two_hosts_train_as_one_machine_and_go_on_after_one_is_lost(hosts: Hosts, new_run: NewRun) -> None:
    one = write_config(new_run("one"), settings(num_processes=2, num_epochs=4))
    two = write_config(new_run("two"), settings(num_epochs=4, log_interval=1))
    command = [sys.executable, "-m", "todm", "train", "--exp-dir", str(one)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=600)

    first, second = (hosts.start(rank, two) for rank in range(2))
    assert first.stderr is not None
    lines = []
    for line in first.stderr:
        lines.append(line)
        if "step 3 " in line:
            kill_all(hosts.names[1])  # torchrun and its process: the host is gone
            break
    lines += first.communicate(timeout=600)[1].splitlines()
    second.communicate(timeout=600)
    assert first.returncode != 0, lines
    sentences = [line for line in lines if line.startswith("todm: ")]
    assert len(sentences) == 1 and "another of the 2 processes has ended" in sentences[0], lines
    left = newest(two)["step"]
    assert 2 <= left < 12

    for process in [hosts.start(rank, two) for rank in range(2)]:
        errors = process.communicate(timeout=600)[1]
        assert process.returncode == 0, errors
        if f"resumed {two}" in errors:
            assert f"step {left}" in errors
    for part in ("model", "optimizer", "average", "step"):
        assert_identical(newest(two)[part], newest(one)[part], part)


def kill_all(name: str) -> None:
    found = subprocess.run(["ip", "netns", "pids", name], check=True, capture_output=True, text=True)
    for number in found.stdout.split():
        os.kill(int(number), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_find_interface_a_host() -> None:
    assert find_interface("127.0.0.1") is None  # nobody else comes that way
    assert find_interface("a..b") is None
