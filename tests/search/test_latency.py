from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from tests.search.toy import CONTEXT, SPACE
from todm.config import Mode
from todm.errors import UserError
from todm.runtime.benchmark_result import BenchmarkResult
from todm.search.latency import DeviceTable, fit_device, load_tables, read_results
from todm.search.limits import parse_limit, parse_objective
from todm.search.linear_cost import fit_additive
from todm.search.objective_set import ObjectiveSet
from todm.space.spec import SubnetSpec

RNG = random.Random(0)
FITTED = [SPACE.min(), SPACE.max(), SPACE.mid(), SPACE.uniform(12, {"ffn_dim": 64}, "offline")]
HELD_OUT = [SPACE.sample(RNG, "offline") for _ in range(6)]


def true_rtf(spec: SubnetSpec) -> float:
    return 0.002 + 0.001 * spec.depth + 4e-6 * sum(spec.width("ffn_dim"))


def result(spec: SubnetSpec, factor: float = 1.0, **changes: Any) -> tuple[str, BenchmarkResult]:
    """An entry of a file of ``todm bench``."""
    rtf = factor * true_rtf(spec)
    entry = {
        "name": spec.name,
        "spec": spec.to_dict(),
        "mode": spec.mode,
        "runtime": "onnxruntime",
        "precision": "fp32",
        "method": "greedy",
        "num_threads": 1,
        "chunk_ms": None if spec.mode == "offline" else 320.0,
        "rtf": rtf,
        "latency_ms": {"p50": 9000 * rtf, "p95": 10_000 * rtf},
        "machine": {"cpu": "toy"},
    }
    return f"{spec.name}.json", BenchmarkResult.from_dict(entry | changes, f"{spec.name}.json")


def make_table(mode: Mode = "offline", **changes: Any) -> DeviceTable:
    specs = [replace(spec, mode=mode) for spec in FITTED]
    return fit_device("pi4", [result(spec, **changes) for spec in specs])


def test_a_cost_that_adds_up_by_the_layer_is_found_exactly() -> None:
    model = fit_additive(FITTED, [true_rtf(spec) for spec in FITTED])
    assert model.base == pytest.approx(0.002)
    assert model.per_layer == pytest.approx(0.001)
    assert model.per_unit["ffn_dim"] == pytest.approx(4e-6)


def test_no_part_of_a_cost_is_negative() -> None:
    """A noisy measurement must not make larger specs cheaper: shrinking relies on it."""
    model = fit_additive(FITTED, [3.0, 1.0, 2.0, 1.5])
    assert min(model.base, model.per_layer, *model.per_unit.values()) >= 0


def test_too_few_different_specs_are_refused() -> None:
    with pytest.raises(UserError, match="two depths and of several widths"):
        fit_additive(FITTED[:1] * 5, [1.0] * 5)


def test_predicts_what_was_not_measured() -> None:
    table = make_table()
    for spec in HELD_OUT:
        assert table.predict("rtf", spec, precision="fp32") == pytest.approx(true_rtf(spec))
        assert table.predict("latency_p95_ms", spec, precision="fp32") == pytest.approx(1e4 * true_rtf(spec))


def test_the_error_is_that_of_what_was_held_out() -> None:
    held_out = [result(spec, factor) for spec, factor in zip(HELD_OUT, (1, 2, 1, 0.5, 1, 1), strict=True)]
    (fit,) = fit_device("pi4", map(result, FITTED), held_out).fits
    assert sorted(fit.errors("rtf")) == pytest.approx([0, 0, 0, 0, 0.5, 1.0])
    assert fit.to_dict()["errors"]["rtf"] == {"median": pytest.approx(0), "max": pytest.approx(1), "count": 6}
    (alone,) = make_table().fits
    assert alone.to_dict()["errors_from"] == "leave one out"
    assert 0 < len(alone.errors("rtf")) <= len(FITTED)


def test_of_several_measurements_the_least_counts() -> None:
    noisy = [result(spec, factor) for factor in (1.7, 1.0, 2.5) for spec in FITTED]
    assert fit_device("pi4", noisy) == fit_device("pi4", map(result, FITTED))


def test_the_fastest_pass_is_what_a_net_takes() -> None:
    disturbed = [result(spec, 1.5, rtf_least=true_rtf(spec)) for spec in FITTED]
    table = fit_device("pi4", disturbed)
    assert table.predict("rtf", HELD_OUT[0], precision="fp32") == pytest.approx(true_rtf(HELD_OUT[0]))


def test_what_was_not_measured_like_it_is_refused() -> None:
    table = make_table()
    small = SPACE.uniform(6, {"ffn_dim": 64}, "offline")
    with pytest.raises(
        UserError, match=r"pi4: streaming, fp32 was not measured there \(only offline, fp32, 1"
    ):
        table.predict("rtf", replace(small, mode="streaming"), precision="fp32")
    with pytest.raises(UserError, match="offline, int8 was not measured"):
        table.predict("rtf", small, precision="int8")
    with pytest.raises(UserError, match="4 threads was not measured"):
        table.predict("rtf", small, precision="fp32", num_threads=4)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (
            SubnetSpec(layers=tuple(range(13)), widths={"ffn_dim": (64,) * 13}, mode="offline"),
            "depth 13 is outside the 6",
        ),
        (
            SubnetSpec(layers=tuple(range(6)), widths={"ffn_dim": (64,) * 5 + (512,)}, mode="offline"),
            "ffn_dim 512 is outside",
        ),
        (SubnetSpec(layers=tuple(range(5)), widths={"ffn_dim": (64,) * 5}, mode="offline"), "depth 5"),
    ],
)
def test_never_extrapolates_silently(spec: SubnetSpec, what: str) -> None:
    table = make_table()
    with pytest.raises(UserError, match=f"{what}.*--extrapolate"):
        table.predict("rtf", spec, precision="fp32")
    told = table.predict("rtf", spec, precision="fp32", extrapolate=True)
    assert told == pytest.approx(true_rtf(spec))


def test_the_fewest_threads_unless_others_are_asked_for() -> None:
    results = [result(spec, 1 / n, num_threads=n) for spec in FITTED for n in (4, 1, 2)]
    table = fit_device("pi4", results)
    spec = HELD_OUT[0]
    assert table.predict("rtf", spec, precision="fp32") == pytest.approx(true_rtf(spec))
    assert table.predict("rtf", spec, precision="fp32", num_threads=4) == pytest.approx(true_rtf(spec) / 4)


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    table = fit_device("pi4", map(result, FITTED), map(result, HELD_OUT))
    table.save(tmp_path / "pi4.json")
    assert DeviceTable.load(tmp_path / "pi4.json") == table
    assert load_tables([tmp_path / "pi4.json"]) == {"pi4": table}
    table.save(tmp_path / "again.json")
    with pytest.raises(UserError, match="second table of the device pi4"):
        load_tables([tmp_path / "pi4.json", tmp_path / "again.json"])
    written = json.loads((tmp_path / "pi4.json").read_text())
    assert written["machine"] == {"cpu": "toy"} and len(written["fits"][0]["held_out"]) == 6


@pytest.mark.parametrize("text", ["{", "[]", '{"device": "x", "fits": [{}]}', '{"device": "x"}'])
def test_a_broken_table_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "pi4.json").write_text(text)
    with pytest.raises(UserError, match=r"pi4\.json"):
        DeviceTable.load(tmp_path / "pi4.json")


def test_results_that_a_fit_cannot_use_are_named(tmp_path: Path) -> None:
    source, entry = result(FITTED[0])
    for changes, fault in (
        ({"spec": None}, "with a spec"),
        ({"rtf": 0.0, "rtf_least": None}, "are impossible"),
        ({"rtf": "x"}, "not a result of todm bench"),
    ):
        with pytest.raises(UserError, match=f"{source}.*{fault}"):
            fit_device("pi4", [(source, BenchmarkResult.from_dict({**entry.to_dict(), **changes}, source))])
    with pytest.raises(UserError, match="no results of onnxruntime"):
        fit_device("pi4", [(source, replace(entry, runtime="sherpa-onnx"))])
    with pytest.raises(UserError, match="two lengths"):
        streaming = [replace(spec, mode="streaming") for spec in FITTED]
        fit_device("pi4", [result(spec, chunk_ms=ms) for spec in streaming for ms in (160.0, 320.0)])
    with pytest.raises(UserError, match="held-out bundles only"):
        fit_device("pi4", [], map(result, HELD_OUT))
    (tmp_path / "min.json").write_text("3")
    with pytest.raises(UserError, match=r"min\.json"):
        read_results([tmp_path / "min.json"])


def test_objectives_on_a_device_come_from_its_table() -> None:
    context = replace(CONTEXT, devices={"pi4": make_table()})
    refs = [parse_objective(text) for text in ("wer", "rtf on pi4", "latency on pi4")]
    objectives = ObjectiveSet(refs, [parse_limit("rtf <= 0.012 on pi4")], context)
    spec = HELD_OUT[0]
    figures = objectives.point(spec, {"wer": 1.0}).figures
    assert figures["rtf on pi4"] == pytest.approx(true_rtf(spec))
    assert figures["latency on pi4"] == pytest.approx(1e4 * true_rtf(spec))
    assert objectives.early_excess(SPACE.max()) == pytest.approx(true_rtf(SPACE.max()) / 0.012 - 1)
    assert objectives.early_excess(SPACE.min()) == 0
