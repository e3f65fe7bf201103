from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from todm.commands import prepare as command
from todm.config import Config, ModelConfig
from todm.data.features import load_features, make_extractor
from todm.data.loader import load_cuts, load_train_cuts
from todm.data.prepare import prepare
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError
from todm.space.lengths import subsample_length


def _skipped(exp_dir: Path) -> dict[str, str]:
    content = json.loads((exp_dir / "data" / "skipped.json").read_text())
    assert content["total"] == len(content["utterances"]) == sum(content["reasons"].values())
    return {entry["id"]: entry["reason"] for entry in content["utterances"]}


def test_all_files_of_training_are_written(exp_dir: Path) -> None:
    data = exp_dir / "data"
    assert len(load_train_cuts(data)) == 72
    assert len(load_cuts(data, "dev-here")) == 6
    assert Tokenizer.load(data / "lang").vocab_size > 6
    stats = json.loads((data / "stats.json").read_text())
    assert len(stats["mean"]) == len(stats["std"]) == 80
    frames = np.concatenate([cut.load_features() for cut in load_train_cuts(data)])
    np.testing.assert_allclose(stats["mean"], frames.mean(0, dtype=np.float64), rtol=1e-4)
    assert _skipped(exp_dir) == {}


def test_run_folder_can_be_moved(exp_dir: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(exp_dir, moved)
    cut = next(iter(load_train_cuts(moved / "data")))
    assert str(moved) in cut.features.storage_path
    assert cut.load_features().shape == (cut.num_frames, 80)


def test_stages_one_by_one_and_again_give_the_same(
    exp_dir: Path, corpus: Path, config: Config, tmp_path: Path
) -> None:
    for stages in (("manifests",), ("features",), ("tokenizer",), ("manifests", "features", "tokenizer")):
        prepare(config, corpus, tmp_path, stages)
        for other in tmp_path.rglob(".tmp*"):
            raise AssertionError(other)
    expected = [cut.id for cut in load_train_cuts(exp_dir / "data")]
    assert [cut.id for cut in load_train_cuts(tmp_path / "data")] == expected
    for name in ("lang/tokens.txt", "lang/bpe.vocab", "stats.json"):
        assert (tmp_path / "data" / name).read_bytes() == (exp_dir / "data" / name).read_bytes()


def test_stage_without_its_predecessor_names_it(corpus: Path, config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--stage manifests' first"):
        prepare(config, corpus, tmp_path, ("features",))
    prepare(config, corpus, tmp_path, ("manifests",))
    with pytest.raises(UserError, match="--stage features' first"):
        prepare(config, corpus, tmp_path, ("tokenizer",))
    with pytest.raises(UserError, match="no such stage"):
        prepare(config, corpus, tmp_path, ("fetures",))
    with pytest.raises(UserError, match="--stage bpe: this stage is now called tokenizer"):
        prepare(config, corpus, tmp_path, ("bpe",))


def test_features_on_the_fly_equal_stored_ones(
    exp_dir: Path, corpus: Path, config: Config, tmp_path: Path
) -> None:
    data = replace(config.data, store_features=False, speed_factors=(1.0, 1.1))
    prepare(replace(config, data=data), corpus, tmp_path)
    assert not (tmp_path / "data" / "feats").exists()
    stored = {cut.id: cut for cut in load_train_cuts(exp_dir / "data")}
    live = list(load_train_cuts(tmp_path / "data"))
    assert len(live) == 48
    extractor = make_extractor()
    for cut in live:
        assert not cut.has_features
        np.testing.assert_allclose(
            load_features(cut, extractor), load_features(stored[cut.id], extractor), atol=1e-4
        )


def test_unusable_training_utterances_are_skipped_and_listed(
    corpus: Path, config: Config, tmp_path: Path
) -> None:
    root = tmp_path / "LibriSpeech"
    shutil.copytree(corpus, root)
    chapter = root / "train-here" / "10" / "1"
    shutil.copy(chapter / "10-1-0000.flac", chapter / "10-1-9000.flac")
    with (chapter / "10-1.trans.txt").open("a") as file:
        file.write(f"10-1-9000 {'ONE TWO ' * 20}\n10-1-9001 GONE\n")
    data = replace(config.data, min_utterance=0.6, max_utterance=1.8, speed_factors=(1.0,))
    config = replace(config, data=data)
    with pytest.raises(UserError, match="widen the range"):
        narrow = replace(config, data=replace(data, min_utterance=5.0, max_utterance=6.0))
        prepare(narrow, root, tmp_path / "narrow")

    config = replace(config, data=replace(data, min_utterance=0.4))
    prepare(config, root, tmp_path / "exp")
    reasons = _skipped(tmp_path / "exp")
    assert reasons["10-1-9001"] == "transcript without audio"
    by_text = [key for key, reason in reasons.items() if reason == "text longer than its frames allow"]
    assert by_text == ["10-1-9000"]
    by_length = [key for key, reason in reasons.items() if reason == "longer than data.max_utterance"]
    durations = {cut.id: cut.duration for cut in load_train_cuts(tmp_path / "exp" / "data")}
    assert by_length
    assert max(durations.values()) <= 1.8
    assert len(durations) + len(by_length) + 1 == 25
    # dev utterances are judged as they are
    assert max(cut.duration for cut in load_cuts(tmp_path / "exp" / "data", "dev-here")) == 2.0

    # features again: what the tokenizer stage had found is stale until it runs again
    path = tmp_path / "exp" / "data" / "skipped.json"
    path.write_text(path.read_text().replace('"stage": "tokenizer"', '"stage": "bpe"'))  # its earlier name
    prepare(config, root, tmp_path / "exp", ("features",))
    assert "text longer than its frames allow" not in _skipped(tmp_path / "exp").values()


def test_the_subsampling_factor_of_the_model_is_used(corpus: Path, config: Config, tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    shutil.copytree(corpus, root)
    chapter = root / "train-here" / "10" / "1"
    shutil.copy(chapter / "10-1-0000.flac", chapter / "10-1-9000.flac")  # 50 frames: 11 at 4x, 5 at 8x
    with (chapter / "10-1.trans.txt").open("a") as file:
        file.write("10-1-9000 ONE TWO THREE FOUR ONE TWO THREE\n")
    data = replace(config.data, speed_factors=(1.0,))
    for factor in (4, 8):
        model = ModelConfig(subsampling_factor=8 if factor == 8 else 4)
        prepare(replace(config, data=data, model=model), root, tmp_path / str(factor))
    assert _skipped(tmp_path / "4") == {}
    assert list(_skipped(tmp_path / "8").values()) == ["text longer than its frames allow"]


def test_encoder_frames_of_convolutions_without_padding() -> None:
    assert [subsample_length(frames, 4) for frames in (0, 6, 7, 10, 11, 100)] == [0, 0, 1, 1, 2, 24]
    assert [subsample_length(frames, 8) for frames in (14, 15, 22, 23)] == [0, 1, 1, 2]


def test_command_runs_the_requested_stages(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("todm.config")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    conf = tmp_path / "conf.yaml"
    conf.write_text("data: {train_parts: [train-here], dev_parts: [dev-here]}\n")
    arguments = ["--conf", str(conf), "--corpus-dir", str(corpus), "--exp-dir", str(tmp_path / "exp")]
    args = parser.parse_args([*arguments, "--stage", "manifests"])
    args.overrides = []
    command.run(args)
    assert "train-here utterances 24" in capsys.readouterr().out
    assert not (tmp_path / "exp" / "data" / "lang").exists()
