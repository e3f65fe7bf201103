"""The whole path, every part real and every command called: from a folder of audio to a report."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.prepared import CONFIG, speak, write_corpus
from todm.cli import main
from todm.config import (
    AugmentConfig,
    Config,
    DistillConfig,
    DropoutConfig,
    LossConfig,
    OptimConfig,
    load_config,
    save_config,
)
from todm.space.cost import count_params
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

for needed in ("onnx", "onnxruntime", "kaldi_native_fbank", "pymoo"):
    pytest.importorskip(needed)

from todm.deploy.saturation import saturates  # noqa: E402

LADDER = ("min", "mid", "max", "min-streaming", "mid-streaming", "max-streaming")
ONE_THREAD = ("--threads", "1")  # several slow nets of this size down


def todm(*words: str | Path) -> None:
    """One command, as in a shell; it must succeed."""
    assert main([str(word) for word in words]) == 0, words


def read(path: Path) -> dict[str, float]:
    values: dict[str, float] = json.loads(path.read_text())
    return values


def run_recipe(corpus: Path, conf: Path, exp: Path, *, dev: str, limit: int = 0) -> None:
    """The recipe's commands, stage by stage, in this process."""
    for stage in ("manifests", "features", "tokenizer"):
        todm("prepare", "--conf", conf, "--corpus-dir", corpus, "--exp-dir", exp, "--stage", stage)
    todm("train", "--conf", conf, "--exp-dir", exp)
    todm("average", exp)
    part = ("--corpus-dir", corpus, "--part", dev)
    out = exp / "decode" / "supernet-max" / f"{dev}.json"
    todm("decode", "--model", exp / "supernet", "--spec", "max", *part, "--out", out, *ONE_THREAD)
    todm("search", "--exp-dir", exp)
    todm("extract", "--exp-dir", exp, "--ladder", "--pareto")
    for folder in sorted((exp / "subnets").iterdir()):
        out = exp / "decode" / folder.name / f"{dev}.json"
        todm("decode", "--model", folder, *part, "--out", out, *ONE_THREAD)
    todm("export", "--exp-dir", exp)
    for name in LADDER:
        todm("verify", exp / "bundles" / name, *part, "--num-utterances", str(limit))
    bundles = [exp / "bundles" / name for name in (*LADDER, "manifest.json")]  # as a shell's * gives them
    audio = sorted((corpus / "LibriSpeech" / dev).glob("*/*/*.flac"))[0]
    todm("bench", *bundles, "--out", exp / "bench", "--rounds", "1", "--audio", audio)
    todm("report", exp)


def check_run(exp: Path, dev: str) -> None:
    """What every run must leave behind."""
    config = load_config(exp / "config.yaml")
    space = SearchSpace.from_config(config)
    vocab_size = len((exp / "data" / "lang" / "tokens.txt").read_text().splitlines())
    ladder = {entry["name"]: entry for entry in json.loads((exp / "report" / "ladder.json").read_text())}
    assert set(LADDER) <= set(ladder)
    for name, spec in space.ladder().items():
        entry = ladder[name]
        assert SubnetSpec.from_dict(entry["spec"]) == spec and entry["mode"] == spec.mode
        assert entry["params"] == count_params(config.model, spec, vocab_size)
        assert entry["wer"][dev] == pytest.approx(read(exp / "decode" / name / f"{dev}.json")["wer"])
        bundle = exp / "bundles" / name
        files = {"encoder", "decoder", "joiner"}
        assert {path.name for path in bundle.glob("*.onnx")} == {
            f"{part}{suffix}" for part in files for suffix in (".onnx", ".int8.onnx")
        }
        for file in ("tokens.txt", "bpe.vocab", "spec.json", "config.yaml"):
            assert (bundle / file).is_file()
        assert load_config(bundle / "config.yaml") == config
        assert (bundle / "parity.json").is_file()
        assert json.loads((exp / "bench" / f"{name}.json").read_text())[0]["rtf"] > 0
    page = (exp / "report" / "index.html").read_text()
    assert all(name in page for name in LADDER) and "not in the report" not in page
    assert (exp / "search" / "pareto.json").is_file()
    sizes = json.loads((exp / "bundles" / "manifest.json").read_text())["sizes"]
    manifest = {entry["name"]: entry for entry in sizes}
    assert set(LADDER) <= set(manifest)
    for name in LADDER:
        assert manifest[name]["wer"] == ladder[name]["wer"] and manifest[name]["measured"]
        assert f"# {name}" in (exp / "bundles" / name / "README.md").read_text()


def test_spoken_words_from_synthesis_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader")
    few = ("--train-utterances", "16", "--dev-utterances", "4", "--test-utterances", "2")
    voices = ("--train-speakers", "2", "--eval-speakers", "1", "--num-jobs", "1")
    todm("synth", "--out", tmp_path, *few, *voices)
    config = replace(
        CONFIG,
        data=replace(
            CONFIG.data,
            train_parts=("train-clean-5",),
            dev_parts=("dev-clean-2",),
            test_parts=("test-clean",),
            vocab_size=60,
            max_duration=20.0,
        ),
        train=replace(CONFIG.train, num_epochs=2),
    )
    save_config(config, tmp_path / "conf.yaml")
    exp = tmp_path / "exp"
    run_recipe(tmp_path, tmp_path / "conf.yaml", exp, dev="dev-clean-2", limit=3)
    check_run(exp, "dev-clean-2")

    audio = sorted((tmp_path / "LibriSpeech" / "test-clean").glob("*/*/*.flac"))[0]
    capsys.readouterr()
    todm("transcribe", exp / "bundles" / "min-streaming", audio)
    path, text = capsys.readouterr().out.rstrip("\n").split("\t")
    assert path == str(audio) and isinstance(text, str)


def learning_config() -> Config:
    """Small enough for half a minute, large enough to tell four tones apart."""
    return replace(
        CONFIG,
        data=replace(CONFIG.data, max_duration=6.0),
        export=replace(CONFIG.export, reduce_range=saturates()),  # what int8 says is compared
        augment=AugmentConfig(
            freq_warp=0.0, tilt_db=0.0, gain_db=3.0, noise_prob=0.0, time_masks=0, freq_masks=0
        ),
        model=replace(CONFIG.model, d_model=32, head_dim=8, predictor_dim=16, joiner_dim=32),
        train=replace(
            CONFIG.train,
            num_epochs=26,  # another processor's rounding trains another net: it needs some room
            log_interval=100,
            keep_checkpoints=1,
            average_from=0.8,
            average_period=5,
            loss=LossConfig(warmup_steps=20, alignment_warmup_steps=100, prune_range=4),
            distill=DistillConfig(warmup_steps=20),
            dropout=DropoutConfig(rate=0.0),
            optim=OptimConfig(name="adamw", lr=0.01, warmup_steps=5, lr_steps=100.0, lr_epochs=1000.0),
        ),
    )


def test_a_net_that_learns_keeps_what_it_knows_on_every_step_of_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words are tones, so that every size really recognises them on both sides of the export."""
    write_corpus(tmp_path / "LibriSpeech", num_train=96, num_dev=16)
    save_config(learning_config(), tmp_path / "conf.yaml")
    exp = tmp_path / "exp"
    run_recipe(tmp_path, tmp_path / "conf.yaml", exp, dev="dev-here")
    check_run(exp, "dev-here")
    for name in LADDER:
        wer = read(exp / "decode" / name / "dev-here.json")["wer"]
        parity = json.loads((exp / "bundles" / name / "parity.json").read_text())["wer"]
        assert wer < 70.0  # nothing but blank has 100
        assert parity["torch"] == pytest.approx(wer, abs=1e-3)
        assert abs(parity["onnx fp32"] - parity["torch"]) <= 0.1
        assert parity.get("sherpa-onnx", parity["onnx fp32"]) == parity["onnx fp32"]
        assert abs(parity["onnx int8"] - parity["torch"]) < 25.0

    soundfile.write(tmp_path / "new.wav", speak(np.array([1, 1, 0]), np.random.default_rng(9)), 16000)
    capsys.readouterr()
    for model in ("subnets", "bundles"):
        todm("transcribe", exp / model / "max", tmp_path / "new.wav")
    of_torch, of_onnx = (line.split("\t")[1].split() for line in capsys.readouterr().out.splitlines())
    assert of_torch == of_onnx != []

    todm("train", "--exp-dir", exp, "--fine-tune", "min")
    out = tmp_path / "tuned.json"
    part = ("--corpus-dir", tmp_path, "--part", "dev-here")
    todm("decode", "--model", exp / "subnets" / "min-tuned", *part, "--out", out, *ONE_THREAD)
    assert read(out)["wer"] < 70.0
    todm("export", "--model", exp / "subnets" / "min-tuned", "--out", exp / "bundles" / "min-tuned")
    todm("verify", exp / "bundles" / "min-tuned", *part)
    todm("report", exp)
    assert "min-tuned" in (exp / "report" / "ladder.json").read_text()


def test_real_recordings(tmp_path: Path) -> None:
    """A corner of the digits corpus, where it is at hand: real files through training and decoding."""
    beside = Path(__file__).parents[2] / "shared/corpora/digits/LibriSpeech"
    digits = Path(os.environ.get("TODM_DIGITS", beside))
    if not digits.is_dir():
        pytest.skip("set TODM_DIGITS to the folder of the digits corpus")
    for part in ("train-clean-5", "dev-clean-2"):
        speaker = min((digits / part).iterdir())
        (tmp_path / "LibriSpeech" / part).mkdir(parents=True)
        (tmp_path / "LibriSpeech" / part / speaker.name).symlink_to(speaker, target_is_directory=True)
    config = replace(
        CONFIG,
        data=replace(
            CONFIG.data,
            train_parts=("train-clean-5",),
            dev_parts=("dev-clean-2",),
            vocab_size=64,
            max_duration=60.0,
            store_features=False,
        ),
        train=replace(CONFIG.train, max_steps=3),
    )
    save_config(config, tmp_path / "conf.yaml")
    exp = tmp_path / "exp"
    todm("prepare", "--conf", tmp_path / "conf.yaml", "--corpus-dir", tmp_path, "--exp-dir", exp)
    assert read(exp / "data" / "skipped.json")["total"] == 0
    todm("train", "--exp-dir", exp, "--conf", tmp_path / "conf.yaml")
    todm("average", exp)
    where = ("--corpus-dir", tmp_path, "--part", "dev-clean-2")
    out = tmp_path / "r.json"
    todm("decode", "--model", exp / "supernet", "--spec", "min-streaming", *where, "--out", out, *ONE_THREAD)
    assert read(out)["words"] >= 100
