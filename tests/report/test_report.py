"""Report of a hand-written run folder."""

from __future__ import annotations

import json
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from todm.config import Config, save_config
from todm.errors import UserError
from todm.report.card import write_cards
from todm.report.contents import LADDER
from todm.report.gather import gather
from todm.report.ladder import ladder_entries, ladder_table, write_ladder
from todm.report.manifest import manifest_entries, write_manifest
from todm.report.page import render_page
from todm.report.plots import collect_series
from todm.runtime.benchmark_result import BenchmarkResult
from todm.search.cache import EvalCache
from todm.search.front import Point, SearchResult, pareto_front
from todm.search.latency import fit_device
from todm.space.cost import count_macs, count_params
from todm.space.space import SearchSpace

CONFIG = Config()
SPACE = SearchSpace.from_config(CONFIG)
VOCAB_SIZE = 40


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def write_run(exp: Path) -> None:
    """Write all files of a run that a report reads, with different figures for each size."""
    save_config(CONFIG, exp / "config.yaml")
    (exp / "supernet").mkdir()
    (exp / "supernet" / "tokens.txt").write_text("".join(f"t{i} {i}\n" for i in range(VOCAB_SIZE)))
    sizes = {**SPACE.ladder(), "L4-288-off-abcd": SPACE.mid()}
    for index, (name, spec) in enumerate(sizes.items()):
        (exp / "subnets" / name).mkdir(parents=True)
        spec.save(exp / "subnets" / name / "spec.json")
        write_json(
            exp / "decode" / name / "dev-clean-2.json",
            {"wer": 3.0 - 0.25 * index, "errors": 9, "words": 300, "ins": 1, "del": 3, "sub": 5}
            | {"ci95": [1.0, 4.0], "part": "dev-clean-2", "model": name},
        )
        bundle = exp / "bundles" / name
        bundle.mkdir(parents=True)
        for part in ("encoder", "decoder", "joiner"):
            (bundle / f"{part}.onnx").write_bytes(b"x" * 1_000_000 * (index + 1))
            (bundle / f"{part}.int8.onnx").write_bytes(b"x" * 250_000 * (index + 1))
        write_json(
            bundle / "parity.json",
            {"max_abs_diff": 2e-6, "part": "dev-clean-2", "utterances": 40}
            | {"wer": {"torch": 1.5, "onnx fp32": 1.5, "onnx int8": 1.52}}
            | {
                "in_use": [
                    {"check": "one stream", "runtime": "sherpa-onnx", "measured": 7 * index, "allowed": 12.2}
                    | {"unit": "errors", "ok": index < 2},
                    {"check": "damaged"},
                ]
            },
        )
        results = [
            {"precision": precision, "num_threads": threads, "rtf": 0.01 * (index + 1) / threads}
            | {"latency_ms": {"p50": 3.0, "p95": 4.0}, "start_rss_mb": 60.0, "peak_rss_mb": 100.0}
            for precision in ("fp32", "int8")
            for threads in (1, 2)
        ]
        write_json(exp / "bench" / f"{name}.json", results)
    lines = [
        {"kind": "train", "step": step, "epoch": 1, "lr": 0.04 / (1 + step), "grad_norm": 1.0,
         "subnets": {"max": 5.0 / (1 + step), "min": 6.0 / (1 + step)}, "losses": {"distill": 0.1}}
        for step in range(0, 100, 10)
    ]  # fmt: skip
    lines += [
        {"kind": "valid", "step": step, "epoch": 1, "wer": {"max": 400.0 / (1 + step)}} for step in (50, 90)
    ]
    (exp / "train").mkdir()
    (exp / "train" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cache = EvalCache(exp / "search" / "cache.jsonl", context="weights")
    rng = random.Random(0)
    points = []
    for _ in range(20):
        spec = SPACE.sample(rng)
        params = count_params(CONFIG.model, spec, VOCAB_SIZE)
        wer = 1.0 + 1e6 / params + rng.random()
        points.append(Point(spec=spec, figures={"wer": wer, "params": float(params)}))
        cache.put(spec, {"wer": points[-1].wer})
    front = tuple(pareto_front(points, ("wer", "params")))
    SearchResult(objectives=("wer", "params"), precision="fp32", points=front).save(
        exp / "search" / "pareto.json"
    )
    write_json(
        exp / "search" / "compare.json",
        {
            "evaluations": 40,
            "modes": {"offline": {"nsga2": {"hypervolumes": [0.8], "mean": 0.8125, "std": 0.0}}},
        },
    )
    (exp / "decode" / "min" / "dev-clean-2.errors.txt").write_text(
        "WER 3.00% [1.00, 4.00]\n\nUTTERANCES WITH ERRORS, worst first\n"
        "b-2\t2 of 3\tONE (TWO-><B>) (*->SIX)\na-1\t1 of 2\t(SIX->*) NINE\n\n"
        "UTTERANCES WITHOUT ERRORS\nc-3\tONE\n"
    )
    results = [
        {"name": "size", "spec": spec.to_dict(), "mode": "offline", "runtime": "onnxruntime",
         "precision": "int8", "method": "greedy", "num_threads": 1, "chunk_ms": None,
         "rtf": 0.001 * sum(spec.width("ffn_dim")),
         "latency_ms": {"p95": 0.1 * sum(spec.width("ffn_dim"))}, "machine": {"cpu": "Cortex-A72"}}
        for spec in (SPACE.min(), SPACE.max(), SPACE.mid(), *SPACE.shallow_corners("offline"))
    ]  # fmt: skip
    fit_device("pi4", [("result", BenchmarkResult.from_dict(result, "result")) for result in results]).save(
        exp / "devices" / "pi4.json"
    )
    (exp / "commands.txt").write_text("# stage 4 train\ntodm train --conf <a&b>.yaml\n")
    (exp / ".done").mkdir()
    (exp / ".done" / "4").write_text("settings abc\nseconds 754\n")
    (exp / ".done" / "8-min.json").write_text('{\n "stage": "fine-tune",\n "seconds": 61\n}\n')


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "exp"
    folder.mkdir()
    write_run(folder)
    return folder


class Page(HTMLParser):
    """Parser that counts tags and checks their nesting."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_ladder_has_every_size_in_order_with_its_figures(exp: Path, tmp_path: Path) -> None:
    run = gather(exp)
    assert run.missing == ()
    write_ladder(run, tmp_path / "ladder.json")
    entries = json.loads((tmp_path / "ladder.json").read_text())
    assert [entry["name"] for entry in entries] == [*LADDER, "L4-288-off-abcd"]
    for entry in entries:
        assert {"name", "mode", "params", "spec", "wer", "bundle"} <= entry.keys()
        assert (exp / entry["bundle"] / "encoder.onnx").is_file()
    by_name = {entry["name"]: entry for entry in entries}
    smallest = by_name["min-streaming"]
    assert smallest["mode"] == "streaming"
    assert smallest["params"] == count_params(CONFIG.model, SPACE.min("streaming"), VOCAB_SIZE)
    assert smallest["spec"] == SPACE.min("streaming").to_dict()
    assert smallest["wer"] == {"dev-clean-2": 2.25}
    assert (smallest["mb"], smallest["mb_int8"]) == (12.0, 3.0)
    assert (smallest["rtf"], smallest["rtf_int8"]) == (0.04, 0.04)


def test_page_has_no_external_resources(exp: Path) -> None:
    text = render_page(gather(exp), {"torch": "1.2.3"})
    page = Page(text)
    assert page.tags.count("svg") == 7
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not re.findall(r"(?:src|href)=\"(?!#)", text)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text


def test_page_shows_all_results(exp: Path) -> None:
    run = gather(exp)
    text = render_page(run, {"torch": "1.2.3"})
    for name in LADDER:
        assert f">{name}<" in text
    assert "todm train --conf &lt;a&amp;b&gt;.yaml" in text
    assert "Not in this report" not in text
    for shown in (
        "torch: 1.2.3",
        "2.75%",
        "1.00 to 4.00",
        "4 train",
        "12:34",
        "fine-tune min",
        "1:01",
        "max abs diff",
        "search front",
        "Cortex-A72",
        "0.8125",
        "2 utterances with errors",
        "<mark><del>TWO</del> <ins>&lt;B&gt;</ins></mark>",
        "offline, int8",
    ):
        assert shown in text, shown


def test_plots_take_their_colours_from_the_page(exp: Path) -> None:
    text = render_page(gather(exp), {})
    plots = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.S))
    assert set(re.findall(r"#[0-9a-f]{6}\b", plots)) <= {"#000000", "#ffffff"}
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", plots))
    assert {"--ink", "--faint", "--series-0"} <= used
    for variable in used:
        assert text.count(f"{variable}: #") == 2, "one value for the light page and one for the dark"


@pytest.mark.parametrize(
    ("path", "note"),
    [
        ("config.yaml", "config.yaml"),
        ("subnets", "stage 7"),
        ("subnets/mid-streaming", "mid-streaming: not extracted"),
        ("decode", "stage 9"),
        ("bundles", "stage 10"),
        ("bundles/min/parity.json", "min: ONNX folder not compared"),
        ("bench", "stage 11"),
        ("search", "stage 6"),
        ("train/metrics.jsonl", "training curves"),
        ("commands.txt", "commands"),
    ],
)
def test_a_missing_file_is_noted(tmp_path: Path, path: str, note: str) -> None:
    write_run(tmp_path)
    target = tmp_path / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    run = gather(tmp_path)
    assert any(note in text for text in run.missing), run.missing
    assert note in ladder_table(run).to_text(run.sizes) + render_page(run, {})


@pytest.mark.parametrize("content", ["{", "[]", '{"wer": null}', "\n3\nnull\n"])
def test_broken_files_do_not_end_the_report(tmp_path: Path, content: str) -> None:
    write_run(tmp_path)
    for path in (
        "decode/min/dev-clean-2.json",
        "bench/min.json",
        "bundles/min/parity.json",
        "search/cache.jsonl",
        "subnets/min/spec.json",
        "train/metrics.jsonl",
    ):
        (tmp_path / path).write_text(content)
    run = gather(tmp_path)
    Page(render_page(run, {}))
    assert [size.name for size in run.sizes][:3] == ["mid", "max", "min-streaming"]
    for path in ("search/pareto.json", "config.yaml"):
        (tmp_path / path).write_text(content)
    run = gather(tmp_path)
    assert any("min" in text for text in run.missing)
    assert ladder_entries(run)[0]["params"] is None or content == "[]"


def test_an_empty_folder_makes_a_page_and_none_an_error(tmp_path: Path) -> None:
    run = gather(tmp_path)
    Page(render_page(run, {}))
    assert len(run.missing) >= 6
    with pytest.raises(UserError, match="no such run folder"):
        gather(tmp_path / "nowhere")


def test_evaluations_of_older_weights_are_not_plotted(tmp_path: Path) -> None:
    write_run(tmp_path)
    newer = EvalCache(tmp_path / "search" / "cache.jsonl", context="newer weights")
    newer.put(SPACE.min(), {"wer": 1.0})
    assert [point.spec for point in gather(tmp_path).search.points] == [SPACE.min()]


def test_series_skip_what_is_not_a_number() -> None:
    metrics: list[dict[str, Any]] = [
        {"kind": "train", "step": 1, "losses": {"a": 1.0, "b": float("nan")}},
        {"kind": "train", "step": 2, "losses": {"a": "x"}, "subnets": {"max": 2}},
        {"kind": "valid", "step": 2, "losses": {"a": 9.0}},
        {"step": 3, "losses": None},
    ]
    groups = ("subnets", "losses")
    assert collect_series(metrics, "train", groups) == {"a": [(1, 1.0)], "max": [(2, 2.0)]}
    assert collect_series(metrics, "valid", groups) == {"a": [(2, 9.0)]}
    assert collect_series(metrics, "valid", ("wer",)) == {}


def test_fine_tuned_subnets_are_compared_with_the_original(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert "Fine-tuned subnets" not in render_page(gather(tmp_path), {})
    shutil.copytree(tmp_path / "subnets" / "min", tmp_path / "subnets" / "min-tuned")
    write_json(tmp_path / "decode" / "min-tuned" / "dev-clean-2.json", {"wer": 1.25})
    text = render_page(gather(tmp_path), {})
    assert "Fine-tuned subnets" in text and "<td>-1.75</td>" in text


def test_nets_trained_alone_are_compared_with_the_nearest_size(exp: Path, tmp_path: Path) -> None:
    write_run(tmp_path)
    for folder in (tmp_path / "subnets").iterdir():
        if folder.name != "max":
            shutil.rmtree(folder)
    write_json(tmp_path / "decode" / "max" / "dev-clean-2.json", {"wer": 7.75})
    run = gather(exp, [tmp_path])
    text = render_page(run, {})
    Page(text)
    row = next(line for line in text.splitlines() if f"{tmp_path.name}/max" in line and "<td" in line)
    assert "7.75" in row and ">max<" in row
    assert "trained alone" in text
    assert run.missing == ()
    with pytest.raises(UserError, match="no such run folder"):
        gather(exp, [tmp_path / "nowhere"])


def test_manifest_of_all_bundles(exp: Path) -> None:
    run = gather(exp)
    path = write_manifest(run)
    assert path == exp / "bundles" / "manifest.json"
    entries = json.loads(path.read_text())["sizes"]
    assert [entry["name"] for entry in entries][-1] == "max-streaming"
    assert len(entries) == len(LADDER) + 1
    by_name = {entry["name"]: entry for entry in entries}
    small = by_name["min"]
    assert small["spec"] == SPACE.min().to_dict()
    assert small["files"]["int8"] == {
        "encoder": "encoder.int8.onnx", "decoder": "decoder.int8.onnx", "joiner": "joiner.int8.onnx",
        "bytes": 750_000,
    }  # fmt: skip
    for names in small["files"].values():
        assert all(
            (exp / "bundles" / small["folder"] / names[part]).is_file() for part in ("encoder", "joiner")
        )
    assert small["macs_per_second"] == count_macs(CONFIG.model, SPACE.min(), VOCAB_SIZE)
    assert small["state_bytes"] == 0 < by_name["min-streaming"]["state_bytes"]
    assert small["wer"] == {"dev-clean-2": 3.0}
    assert small["verified"]["part"] == "dev-clean-2"
    assert small["verified"]["wer"] == {"fp32": 1.5, "int8": 1.52}
    assert {(m["precision"], m["threads"]) for m in small["measured"]} == {
        (precision, threads) for precision in ("fp32", "int8") for threads in (1, 2)
    }
    assert small["measured"][0]["memory_mb"] == 40.0
    (predicted,) = small["predicted"]
    assert (predicted["device"], predicted["threads"]) == ("pi4", 1)
    assert predicted["rtf"] == pytest.approx(0.001 * sum(SPACE.min().width("ffn_dim")))
    assert by_name["min-streaming"]["predicted"] == [], "only offline was measured"
    assert manifest_entries(run) == entries


def test_every_bundle_gets_a_card(exp: Path) -> None:
    paths = write_cards(gather(exp))
    assert {path.parent.name for path in paths} == {*LADDER, "L4-288-off-abcd"}
    card = (exp / "bundles" / "min-streaming" / "README.md").read_text()
    for shown in (
        "# min-streaming",
        "| dev-clean-2 | 2.25 |",
        "| dev-clean-2, 40 utterances, int8 | 1.52 |",
        "OnlineRecognizer",
        "silence after them",
        "3.00 MB",
    ):
        assert shown in card, shown
    assert "OfflineRecognizer" in (exp / "bundles" / "min" / "README.md").read_text()


def test_no_bundles_no_manifest(tmp_path: Path) -> None:
    assert write_manifest(gather(tmp_path)) is None


def test_the_page_shows_the_in_use_checks(exp: Path) -> None:
    page = render_page(gather(exp), {})
    assert "<h2>In use</h2>" in page and "damaged" not in page
    row = re.search(r"<td class=text>one stream</td>.*?</tr>", page, flags=re.S)
    assert row is not None
    assert "<td>7 (12.2)</td>" in row[0] and "<td>14 (12.2) failed</td>" in row[0]
