"""The command line: help without torch, and one sentence for whatever is the user's to mend."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import yaml

from tests.prepared import CONFIG, finish_run, prepare_run, speak
from todm.cli import COMMANDS, main
from todm.config import load_config

Err = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``corpus`` and a run folder ``exp``, trained a little and extracted; not to be changed."""
    root = tmp_path_factory.mktemp("cli")
    finish_run(prepare_run(root))
    return root


def assert_one_sentence(words: list[str], reason: str, capsys: Err) -> None:
    """Exit code 2, one line on standard error with the reason, no traceback."""
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("todm: ")]
    assert len(lines) == 1 and reason in lines[0], captured.err
    assert "Traceback" not in captured.err + captured.out
    assert captured.err.splitlines()[-1] == lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str, capsys: Err) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: todm {command}" in out and "--help" in out


def test_help_and_config_import_no_torch() -> None:
    code = (
        "import sys, todm.cli\n"
        "from contextlib import suppress\n"
        "for words in (['--help'], ['train', '--help'], ['decode', '--help'], ['config', 'show']):\n"
        "    with suppress(SystemExit):\n"
        "        assert todm.cli.main(words) == 0\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_and_no_command(capsys: Err) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    for words in ([], ["--nope"]):
        assert_one_sentence(words, "missing COMMAND; see 'todm --help'", capsys)


def test_parser_errors_are_one_sentence_with_a_suggestion(capsys: Err) -> None:
    for words, sentence in (
        ("fly", "there is no command fly; choose one of run, synth,"),
        ("trian", "there is no command trian; did you mean train?"),
        ("env --nope", "env: there is no option --nope; see 'todm env --help'"),
        ("env stray", "env: there is no argument stray; see 'todm env --help'"),
        ("decode", "decode: missing --model, --corpus-dir, --part, --out; see 'todm decode --help'"),
        ("average e --lsat 3", "average: there is no option --lsat; did you mean --last?"),
        ("train --exp-dri=e", "train: there is no option --exp-dri; did you mean --exp-dir?"),
        ("train --exp-dir e --until x", "train: --until: must be an integer, got x; see 'todm train --help'"),
        ("train --exp-dir e --lr 3", "command line: there is no setting lr; did you mean train.optim.lr?"),
        ("search --exp-dir e --mode ofline", "search: --mode: there is no ofline; did you mean offline?"),
        ("config explane", "config: there is no action explane; did you mean explain?"),
        ("config show --cnf x", "config show: there is no option --cnf; did you mean --conf?"),
        ("config show --conf", "config show: --conf: expected one argument; see 'todm config show --help'"),
    ):
        assert_one_sentence(words.split(), f"todm: {sentence}", capsys)


WORDS = ("BUDGET", "LIMIT", "MODEL", "NAME", "PART", "RUN")
"""Options that are named after the kind of their value."""


def test_help_names_the_kind_of_every_value(capsys: Err) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        usage = capsys.readouterr().out.split("\n\n")[0]
        for option, metavar in re.findall(r"--([a-z-]+) ([A-Z_]{2,})", usage):
            own = option.replace("-", "_").upper()
            assert metavar != own or own in WORDS, (command, option)


def test_env(capsys: Err) -> None:
    assert main(["env"]) == 0
    assert "torch" in capsys.readouterr().out


def test_config_show(tmp_path: Path, capsys: Err) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("train: {num_epochs: 7}\n")
    assert main(["config", "show", "--conf", str(path), "--train.seed", "5"]) == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert values["train"]["num_epochs"] == 7 and values["train"]["seed"] == 5
    path.write_text(printed)
    assert load_config(path).train.num_epochs == 7
    assert_one_sentence(["config", "show", "--train.epochs", "5"], "train.epochs", capsys)


def with_paths(words: str, finished: Path, tmp_path: Path) -> list[str]:
    places = {"RUN": finished / "exp", "CORPUS": finished / "corpus", "TMP": tmp_path}
    for name, place in places.items():
        words = words.replace(name, str(place))
    return words.split()


BAD = [
    ("prepare --corpus-dir TMP/no --exp-dir TMP/e", "TMP/no: no such corpus folder"),
    ("prepare --corpus-dir TMP --exp-dir TMP/e", "no part in LibriSpeech's layout"),
    (
        "prepare --corpus-dir CORPUS --exp-dir TMP/e",
        "no part 'train-clean-5'; use one of: dev-here, train-here",
    ),
    ("prepare --conf TMP/no.yaml --corpus-dir CORPUS --exp-dir TMP/e", "no.yaml: no such config file"),
    ("prepare --corpus-dir CORPUS --exp-dir TMP/e --data.vocab 3", "data.vocab"),
    ("train --exp-dir TMP/no", "TMP/no/data: missing; run 'todm prepare"),
    ("train", "--exp-dir: missing"),
    ("train --exp-dir RUN --train.epochs 3", "train.epochs"),
    ("train --exp-dir RUN --train.num_epochs three", "train.num_epochs"),
    ("train --exp-dir RUN --space.depths [3,1]", "space.depths"),
    ("train --exp-dir RUN --space.widths.ffn_dim [24,8]", "space.widths.ffn_dim"),
    ("train --exp-dir RUN --model.num_heads 6", "model.num_heads"),
    ("train --exp-dir RUN --model.d_model 24", "its architecture differs from the config"),
    ("train --exp-dir RUN --train.device tpu", "train.device"),
    ("train --exp-dir RUN --train.resume TMP/no.pt", "no.pt: no such checkpoint"),
    ("prepare --corpus-dir TMP --exp-dir RUN --stage bpe", "--stage: bpe is now called tokenizer"),
    ("train --exp-dir RUN --fine-tune huge", "no such subnet"),
    ("average TMP/no", "TMP/no: no such run folder"),
    ("average TMP", "TMP: no training there; run 'todm train --exp-dir TMP' first"),
    ("average RUN --last 0", "--last"),
    ("decode --model TMP/no --corpus-dir CORPUS --part dev-here --out TMP/r.json", "no such model"),
    ("decode --model TMP --corpus-dir CORPUS --part dev-here --out TMP/r.json", "not a model"),
    ("decode --model RUN/supernet --corpus-dir CORPUS --part dev-here --out TMP/r.json", "needs a spec"),
    ("decode --model RUN/subnets/min --corpus-dir CORPUS --part no --out TMP/r.json", "no part 'no'"),
    (
        "decode --model RUN/subnets/min --corpus-dir TMP/no --part no --out TMP/r.json",
        "no such corpus folder",
    ),
    ("decode --model RUN/subnets/min --spec max --corpus-dir CORPUS --part x --out TMP/r.json", "--spec"),
    ("search --exp-dir TMP", "run 'todm average"),
    ("search --exp-dir TMP --search.evaluations 3", "run 'todm average"),
    ("search --exp-dir RUN --search.evaluations 0", "search.evaluations"),
    ("search --exp-dir RUN --search.objectives [wr]", "command line: search.objectives: 'wr' is not an"),
    ("train --exp-dir TMP/no --fine-tune min --conf TMP/no.yaml", "no.yaml: no such config file"),
    ("export --exp-dir TMP --export.opset 18", "no subnets there"),
    ("export --model TMP --out TMP/b", "no subnet there; name a folder of EXP/subnets"),
    ("extract --exp-dir RUN", "nothing to extract"),
    ("extract --exp-dir TMP --ladder", "no averaged supernet there; run 'todm average --exp-dir TMP' first"),
    ("extract --exp-dir RUN --ladder --name x", "--name: belongs to --spec FILE"),
    ("extract --exp-dir RUN --spec TMP/no.json --name ../x", "--name: must be the name of one folder"),
    ("synth --out TMP/s --seed -1", "--seed: must not be negative, got -1"),
    ("synth --out TMP/s --num-jobs 0", "--num-jobs: must be at least 1, got 0"),
    ("extract --exp-dir RUN --pareto", "pareto.json: missing; run 'todm search"),
    ("extract --exp-dir RUN --spec TMP/no.json", "no.json: missing; give the spec.json of a subnet"),
    ("export", "--exp-dir EXP (all its subnets) or --model SUBNET"),
    ("export --exp-dir TMP", "no subnets there"),
    ("export --model RUN/subnets/min", "--out: missing"),
    ("export --model RUN/subnets/min --out TMP/b --export.opset 5", "export.opset"),
    ("export --model RUN/subnets/min-streaming --out TMP/b --export.chunk_ms 50", "export.chunk_ms"),
    ("verify TMP/no --corpus-dir CORPUS --part dev-here", "no such folder"),
    ("bench TMP/no", "TMP/no"),
    ("bench TMP --threads 0", "--threads"),
    ("report TMP/no", "TMP/no"),
    ("transcribe TMP/no TMP/no.wav", "no.wav"),
    ("transcribe TMP/no RUN/../corpus/LibriSpeech/dev-here/10/1/10-1-0000.flac", "no such model"),
    ("transcribe RUN/subnets/min RUN/config.yaml", "config.yaml"),
]


@pytest.mark.parametrize(("words", "reason"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_is_one_sentence(
    words: str, reason: str, finished: Path, tmp_path: Path, capsys: Err
) -> None:
    if words.startswith(("export", "verify", "bench")):
        pytest.importorskip("onnxruntime")
    before = {path for path in finished.rglob("*") if path.suffix != ".log"}
    assert_one_sentence(with_paths(words, finished, tmp_path), reason.replace("TMP", str(tmp_path)), capsys)
    assert {path for path in finished.rglob("*") if path.suffix != ".log"} == before


def test_damaged_models_are_one_sentence(finished: Path, tmp_path: Path, capsys: Err) -> None:
    model = Path(shutil.copytree(finished / "exp" / "subnets" / "min", tmp_path / "min"))
    words = with_paths(
        "decode --corpus-dir CORPUS --part dev-here --out TMP/r.json --model TMP/min", finished, tmp_path
    )
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert_one_sentence(words, "not a readable safetensors file", capsys)
    shutil.copyfile(finished / "exp" / "subnets" / "max" / "model.safetensors", weights)
    assert_one_sentence(words, "model.safetensors: ", capsys)
    (model / "spec.json").write_text("{}")
    assert_one_sentence(words, "spec.json: spec: expected the keys", capsys)


def test_bad_audio_is_one_sentence(finished: Path, tmp_path: Path, capsys: Err) -> None:
    model = str(finished / "exp" / "subnets" / "min")
    (tmp_path / "empty.wav").write_bytes(b"")
    assert_one_sentence(["transcribe", model, str(tmp_path / "empty.wav")], "empty.wav", capsys)
    (tmp_path / "text.flac").write_text("no audio")
    assert_one_sentence(["transcribe", model, str(tmp_path / "text.flac")], "text.flac", capsys)


def test_a_full_disk_is_one_sentence(
    finished: Path, tmp_path: Path, capsys: Err, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = Path(shutil.copytree(finished / "exp", tmp_path / "exp"))
    checkpoints = {path.name for path in (exp / "checkpoints").iterdir()}

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    before = (exp / "supernet" / "model.safetensors").read_bytes()
    assert_one_sentence(["average", str(exp)], "free some space", capsys)
    assert (exp / "supernet" / "model.safetensors").read_bytes() == before
    monkeypatch.undo()

    import torch

    def save(state: object, file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", save)
    assert_one_sentence(["train", "--exp-dir", str(exp), "--train.num_epochs", "4"], "no space left", capsys)
    assert {path.name for path in (exp / "checkpoints").iterdir()} == checkpoints


def test_decode_and_transcribe_any_kind(finished: Path, tmp_path: Path, capsys: Err) -> None:
    import numpy as np

    samples = speak(np.array([0, 2]), np.random.default_rng(0))
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    soundfile.write(tmp_path / "b.flac", samples[::2], 8000)  # another rate
    exp = finished / "exp"
    for words in ([str(exp / "supernet"), "--spec", "mid"], [str(exp / "subnets" / "min-streaming")]):
        capsys.readouterr()
        assert (
            main(["transcribe", words[0], str(tmp_path / "a.wav"), str(tmp_path / "b.flac"), *words[1:]]) == 0
        )
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("\t")[0] for line in lines] == [str(tmp_path / "a.wav"), str(tmp_path / "b.flac")]
    out = tmp_path / "deep" / "r.json"
    words = with_paths(
        f"decode --model RUN/subnets/min --corpus-dir CORPUS --part dev-here --out {out}", finished, tmp_path
    )
    assert main(words) == 0
    result = yaml.safe_load(out.read_text())
    assert {"wer", "errors", "words", "ci95"} <= result.keys() and result["words"] > 4
    assert out.with_suffix(".errors.txt").is_file()


def test_the_run_s_own_config_is_used(finished: Path) -> None:
    assert load_config(finished / "exp" / "config.yaml") == CONFIG
