"""``todm search`` on a small run folder: real audio files, real features, an untrained supernet."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from todm.cli import main
from todm.config import Config, DataConfig, ModelConfig, SearchConfig, SpaceConfig, save_config
from todm.data.prepare import prepare
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_streaming_view
from todm.decode.wer import compute_wer
from todm.deploy.bundle import write_bundle
from todm.extract import extract
from todm.model_dir import load_supernet, save_supernet
from todm.nn.supernet import Supernet
from todm.runtime.recognizer import open_recognizer
from todm.search.evaluate import PrefixCache, SupernetEvaluator
from todm.search.front import SearchResult
from todm.space.cost import count_params
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

pytest.importorskip("pymoo")

CONFIG = Config(
    data=DataConfig(vocab_size=20, speed_factors=(1.0,), num_jobs=1, num_workers=0),
    model=ModelConfig(
        num_layers=3,
        d_model=16,
        num_heads=4,
        head_dim=4,
        state_dim=2,
        subsampling_channels=4,
        predictor_dim=8,
        joiner_dim=8,
    ),
    space=SpaceConfig(depths=(1, 2, 3), widths={"ffn_dim": (8, 16, 24)}),
    search=SearchConfig(evaluations=9, population=4, seed=2),
)


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train-clean-5", "dev-clean-2"):
        chapter = tmp_path / "corpus" / part / "1" / "2"
        chapter.mkdir(parents=True)
        lines = []
        for number in range(6):
            name = f"1-2-{number:04d}"
            noise = 0.1 * rng.standard_normal(int(16000 * rng.uniform(0.5, 1.0)))
            soundfile.write(chapter / f"{name}.flac", noise, 16000)
            lines.append(f"{name} {' '.join(rng.choice(['ONE', 'TWO', 'NINE'], size=3))}\n")
        (chapter / "1-2.trans.txt").write_text("".join(lines))
    exp = tmp_path / "exp"
    prepare(CONFIG, tmp_path / "corpus", exp)
    save_config(CONFIG, exp / "config.yaml")
    torch.manual_seed(0)
    vocab_size = len((exp / "data" / "lang" / "tokens.txt").read_text().splitlines())
    supernet = Supernet(CONFIG.model, SearchSpace.from_config(CONFIG), vocab_size)
    save_supernet(exp / "supernet", supernet.state_dict(), CONFIG, exp / "data" / "lang")
    return exp


def test_writes_a_front_per_mode_and_never_evaluates_twice(
    exp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--exp-dir", str(exp)]) == 0
    points = SearchResult.load(exp / "search" / "pareto.json").points
    assert {point.spec.mode for point in points} == {"offline", "streaming"}
    assert sum("knee" in point.chosen for point in points) == 2
    lines = [json.loads(line) for line in (exp / "search" / "cache.jsonl").read_text().splitlines()]
    assert len(lines) == 9
    assert {SubnetSpec.from_dict(line["spec"]) for line in lines} >= {point.spec for point in points}
    assert "pareto.json" in capsys.readouterr().out

    def refuse(self: SupernetEvaluator, spec: SubnetSpec) -> None:
        raise AssertionError(f"{spec} is in the cache")

    monkeypatch.setattr(SupernetEvaluator, "wer", refuse)
    assert main(["search", "--exp-dir", str(exp)]) == 0
    assert SearchResult.load(exp / "search" / "pareto.json").points == points


def test_wer_is_that_of_the_chosen_utterances(exp: Path) -> None:
    space = SearchSpace.from_config(CONFIG)
    whole = SupernetEvaluator.load(exp, 0, seed=1)
    assert whole.wer(space.max()).words == 18
    assert whole.wer(space.max()) == whole.wer(space.max())
    part = SupernetEvaluator.load(exp, 2, seed=1)
    assert part.wer(space.min("streaming")).words == 6
    assert SupernetEvaluator.load(exp, 2, seed=1).wer(space.max()) == part.wer(space.max())


def test_random_search_keeps_the_found_front(exp: Path) -> None:
    assert main(["search", "--exp-dir", str(exp), "--baseline", "random", "--search.evaluations", "4"]) == 0
    assert SearchResult.load(exp / "search" / "random.json").points
    assert not (exp / "search" / "pareto.json").exists()


def test_bad_input_is_one_sentence(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--exp-dir", str(exp), "--search.evaluations", "0"]) == 2
    assert "search.evaluations" in capsys.readouterr().err
    assert main(["search", "--exp-dir", str(exp), "--objective", "wer", "rtf on pi4"]) == 2
    assert "no table of the device pi4" in capsys.readouterr().err
    (exp / "supernet" / "model.safetensors").unlink()
    assert main(["search", "--exp-dir", str(exp)]) == 2
    assert "todm average" in capsys.readouterr().err


def test_limits_that_make_limit_error_to_are_told_with_the_nearest(
    exp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smallest = SearchSpace.from_config(CONFIG).min("streaming").name
    assert main(["search", "--exp-dir", str(exp), "--limit", "params <= 10"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"todm: no spec keeps params <= 10; the nearest is {smallest} (streaming): wer ")
    assert not (exp / "search" / "pareto.json").exists()


def test_budgets_get_a_best_spec_each_and_two_workers_change_nothing(exp: Path) -> None:
    space = SearchSpace.from_config(CONFIG)
    vocab_size = len((exp / "data" / "lang" / "tokens.txt").read_text().splitlines())
    bound = count_params(CONFIG.model, space.mid("streaming"), vocab_size)
    words = ["search", "--exp-dir", str(exp), "--mode", "streaming", "--search.evaluations", "8"]
    words += ["--budget", f"watch: params <= {bound}, state <= 1 MB", "--budget", "phone: wer <= 1000"]
    assert main([*words, "--search.workers", "2"]) == 0
    found = SearchResult.load(exp / "search" / "pareto.json")
    best = {name: point for point in found.points for name in point.chosen}
    assert set(best) == {"watch", "phone"}
    assert best["watch"].params <= bound
    assert {"wer", "params", "state"} == set(best["watch"].figures)
    lines = (exp / "search" / "cache.jsonl").read_text().splitlines()
    (exp / "search" / "cache.jsonl").unlink()
    assert main(words) == 0
    assert SearchResult.load(exp / "search" / "pareto.json") == found
    assert sorted((exp / "search" / "cache.jsonl").read_text().splitlines()) == sorted(lines)


def test_one_budget_in_vain_does_not_cost_the_others(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "--exp-dir", str(exp), "--mode", "offline", "--search.evaluations", "6"]
    assert main([*words, "--budget", "toy: params <= 10", "--budget", "phone: params <= 1 G"]) == 2
    assert "budget toy: no spec keeps params <= 10" in capsys.readouterr().err
    assert [p.chosen for p in SearchResult.load(exp / "search" / "pareto.json").chosen] == [("phone",)]


def test_methods_are_compared_over_seeds(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--exp-dir", str(exp), "--search.evaluations", "8", "--compare-seeds", "2"]) == 0
    result = json.loads((exp / "search" / "compare.json").read_text())
    assert set(result["modes"]) == {"offline", "streaming"}
    for methods in result["modes"].values():
        assert set(methods) == {"nsga2", "random", "grid"}
        for found in methods.values():
            assert len(found["hypervolumes"]) == 2
            assert all(0 <= volume <= 1 for volume in found["hypervolumes"])
    assert "nsga2" in capsys.readouterr().out


def test_common_layers_are_run_once_and_not_one_bit_differs(exp: Path) -> None:
    sharing = SupernetEvaluator.load(exp, 0, seed=1)
    alone = SupernetEvaluator.load(exp, 0, seed=1)
    alone.prefixes = PrefixCache(0)
    net = sharing.supernet
    rng = random.Random(0)
    specs = sorted({net.space.sample(rng) for _ in range(16)})
    with torch.inference_mode():
        for spec in specs:
            for index, (mine, theirs) in enumerate(
                zip(sharing._share(spec.mode), alone._share(spec.mode), strict=True)
            ):
                shared = sharing.prefixes.encode(net, mine, spec, index)
                assert torch.equal(shared, alone.prefixes.encode(alone.supernet, theirs, spec, index))
                assert torch.equal(shared, net.encode(mine, spec))
    assert alone.prefixes.num_reused == 0 < sharing.prefixes.num_reused
    small = SupernetEvaluator.load(exp, 0, seed=1)
    small.prefixes = PrefixCache(20_000)
    for spec in specs:
        assert small.wer(spec) == alone.wer(spec)
    assert small.prefixes._bytes <= 20_000


def test_wer_is_that_of_the_extracted_net(exp: Path) -> None:
    evaluator = SupernetEvaluator.load(exp, 0, seed=1)
    for name, spec in evaluator.supernet.space.ladder().items():
        net = extract(evaluator.supernet, spec)
        chunks = make_streaming_view(net, CONFIG.export.chunk_ms)
        scored = transcribe_batches(net, evaluator.batches, evaluator.tokenizer, chunks=chunks)
        assert evaluator.wer(spec) == compute_wer(scored, replications=1), name


def test_int8_is_judged_through_the_quantized_files(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    words = ["search", "--exp-dir", str(exp), "--mode", "offline", "--search.evaluations", "2"]
    words += ["--search.precision", "int8", "--objective", "wer", "size"]
    opened = []

    def spy(folder: str, *, precision: str) -> object:
        opened.append(precision)
        return open_recognizer(folder, precision=precision)  # type: ignore[arg-type]

    monkeypatch.setattr("todm.search.evaluate.open_recognizer", spy)
    assert main(words) == 0
    assert opened == ["int8", "int8"]
    found = SearchResult.load(exp / "search" / "pareto.json")
    assert found.precision == "int8" and found.objectives == ("wer", "size")
    # fp32 figures are others, from the same cache.
    assert main(["search", "--exp-dir", str(exp), "--mode", "offline", "--search.evaluations", "2"]) == 0
    assert SearchResult.load(exp / "search" / "pareto.json").precision == "fp32"
    contexts = [json.loads(line)["context"] for line in (exp / "search" / "cache.jsonl").open()]
    assert len({c for c in contexts if not c.startswith("size")}) == 2


def test_predicted_sizes_are_those_of_the_files(exp: Path) -> None:
    pytest.importorskip("onnxruntime")
    words = ["search", "--exp-dir", str(exp), "--search.evaluations", "8", "--search.precision", "int8"]
    assert main([*words, "--objective", "size", "params"]) == 0
    supernet, config = load_supernet(exp / "supernet")
    for point in SearchResult.load(exp / "search" / "pareto.json").points:
        folder = exp / "bundle"
        sizes = write_bundle(extract(supernet, point.spec), config, exp / "supernet", folder)
        assert point.figures["size"] == pytest.approx(sizes["int8"], rel=0.01)


def test_the_proxy_screens_when_it_ranks_as_the_wer_does(exp: Path) -> None:
    evaluator = SupernetEvaluator.load(exp, 3, seed=1)
    space = evaluator.supernet.space
    loss = evaluator.loss(space.max(), CONFIG.train.loss)
    assert 0 < loss < 100 and loss == evaluator.loss(space.max(), CONFIG.train.loss)
    assert loss != evaluator.loss(space.min(), CONFIG.train.loss)
    config = replace(CONFIG, search=replace(CONFIG.search, proxy_utterances=3, proxy_correlation=-1.0))
    save_config(config, exp / "config.yaml")
    assert main(["search", "--exp-dir", str(exp), "--mode", "offline", "--search.evaluations", "16"]) == 0
    contexts = [json.loads(line)["context"] for line in (exp / "search" / "cache.jsonl").open()]
    proxied = sum("proxy" in context for context in contexts)
    assert proxied > 16 == len(contexts) - proxied, "more children are drawn than evaluated"
