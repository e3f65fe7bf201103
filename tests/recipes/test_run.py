"""Stages of the recipe: which run, in which order, and what makes them run again."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.stand_in import Recipe, make_recipe, write
from todm.cli import main
from todm.config import Config, comparison
from todm.config.comparison import NO_EFFECT, flatten_config
from todm.errors import UserError
from todm.files import read_json, write_json
from todm.layout import ModelFolder
from todm.recipe.corpus import NUM_UTTERANCES, list_missing, start_download
from todm.recipe.fingerprints import Fingerprints
from todm.recipe.marks import Mark
from todm.recipe.runner import State, list_stages
from todm.recipe.settings import load_context
from todm.recipe.stages import STAGES

TINY = "--conf CONF/tiny.yaml"
DECODE = "--corpus-dir DIR --part dev-clean-2 --out EXP/decode"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return make_recipe(tmp_path)


@pytest.fixture
def whole(recipe: Recipe) -> Recipe:
    recipe()
    return recipe


def test_all_stages_in_order_then_all_skipped(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [
        *(
            f"prepare {TINY} --corpus-dir DIR --exp-dir EXP --stage {step}"
            for step in ("manifests", "features", "tokenizer")
        ),
        f"train {TINY} --exp-dir EXP",
        "average EXP",
        f"decode --model EXP/supernet --spec min {DECODE}/supernet-min/dev-clean-2.json",
        f"decode --model EXP/supernet --spec max {DECODE}/supernet-max/dev-clean-2.json",
        "search --exp-dir EXP",
        "extract --exp-dir EXP --ladder --pareto",
        f"decode --model EXP/subnets/max {DECODE}/max/dev-clean-2.json",
        f"decode --model EXP/subnets/min {DECODE}/min/dev-clean-2.json",
        "export --exp-dir EXP --guard-corpus-dir DIR --guard-part dev-clean-2",
        "verify EXP/bundles/max --corpus-dir DIR --part dev-clean-2 --num-utterances 40",
        "verify EXP/bundles/min --corpus-dir DIR --part dev-clean-2 --num-utterances 40",
        "bench EXP/bundles/max EXP/bundles/min --out EXP/bench",
        "report EXP",
    ]
    assert recipe() == expected
    shown = capsys.readouterr().out
    assert "stage 4 train\n+ todm train --conf " in shown
    noted = recipe.run.commands.read_text()
    assert sum(line.startswith("todm ") for line in noted.splitlines()) == len(expected)
    assert re.search(r"^# stage 4 train, \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", noted, flags=re.MULTILINE)
    assert recipe.marks() == set(map(str, range(12))) - {"8"}
    mark = json.loads(recipe.run.stage_mark("4").read_text())
    assert mark["stage"] == "train" and mark["seconds"] >= 0 and "train.optim.lr" in mark["settings"]
    assert "data/lang/tokens.txt" in mark["inputs"]

    assert recipe() == ["report EXP"]
    assert capsys.readouterr().out.count("done before, skipped") == 11


def test_a_range_of_stages(recipe: Recipe) -> None:
    assert [line.split()[-1] for line in recipe(1, 2)] == ["manifests", "features"]
    assert [line.split()[-1] for line in recipe(1, 3)] == ["tokenizer"]
    assert recipe.marks() == {"1", "2", "3"}


def test_a_failed_stage_is_not_done_and_keeps_its_exit_code(recipe: Recipe) -> None:
    recipe.fail_at = "train"
    with pytest.raises(SystemExit) as failed:
        recipe(0, 5)
    assert failed.value.code == 3 and recipe.commands()[-1].startswith("train")
    assert recipe.marks() == {"0", "1", "2", "3"}
    recipe.fail_at = ""
    assert [line.split()[0] for line in recipe(0, 5)] == ["train", "average", "decode", "decode"]


def test_a_stage_that_fails_again_loses_its_mark(whole: Recipe) -> None:
    whole.fail_at = "extract"
    with pytest.raises(SystemExit):
        whole(7, 7, force=True)
    assert "7" not in whole.marks()


def test_decoding_resumes_inside_the_stage(whole: Recipe) -> None:
    whole.run.stage_mark("9").unlink()
    whole.run.wer("max", "dev-clean-2").unlink()
    assert whole(9, 9) == [f"decode --model EXP/subnets/max {DECODE}/max/dev-clean-2.json"]


def test_forced_stages_with_the_same_results_cause_no_others(whole: Recipe) -> None:
    assert whole(7, 7, force=True) == ["extract --exp-dir EXP --ladder --pareto"]
    assert whole.not_done() == {}
    whole(2, 2, force=True)
    assert whole.not_done() == {}


def test_a_missing_output_is_made_again(whole: Recipe) -> None:
    whole.run.pareto.unlink()
    status = whole.statuses()[6]
    assert status.state is State.RUN and status.reason.endswith("pareto.json is missing")


def test_overrides_reach_preparation_and_training(recipe: Recipe) -> None:
    words = ("--train.num_epochs", "2", "--data.vocab_size=30")
    lines = [line for line in recipe(0, 5, *words) if line.endswith(" ".join(words))]
    assert [line.split()[0] for line in lines] == ["prepare", "prepare", "prepare", "train"]


@pytest.mark.parametrize(("location", "written"), [("shar", True), ("pipe:cat shar/{}", False)])
def test_shards_are_written_if_the_location_is_a_folder(recipe: Recipe, location: str, written: bool) -> None:
    recipe(1, 2)
    lines = recipe(3, 4, "--data.shar_dir", location)
    steps = [line.split("--stage ")[1].split()[0] for line in lines if line.startswith("prepare")]
    assert steps == ["tokenizer", "shar"] if written else ["tokenizer"]


def test_noise_and_rooms_are_prepared_and_followed(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = tmp_path / "musan"
    write(noise / "a.wav", "a")
    words = ("--data.noise_dir", str(noise))
    lines = [line.split("--stage ")[1].split()[0] for line in recipe(1, 3, *words)]
    assert lines == ["manifests", "sounds", "features", "tokenizer"]
    recipe(4, 4, *words)
    assert recipe(1, 4, *words) == []
    status = recipe.statuses(*words)
    assert all(status[number].state is State.DONE for number in (1, 2, 3, 4))
    write(noise / "b.wav", "b")
    status = recipe.statuses(*words)
    assert status[2].state is State.REFUSED and "data.noise_dir" in status[2].reason
    without = recipe.statuses()
    assert without[2].state is not State.DONE


# Changed settings


def leaves(value: Any, prefix: str = "") -> list[str]:
    """Dotted keys of all settings."""
    keys: list[str] = []
    for item in fields(value):
        inner = getattr(value, item.name)
        keys += leaves(inner, f"{prefix}{item.name}.") if is_dataclass(inner) else [f"{prefix}{item.name}"]
    return keys


def change(value: Any, key: str) -> Any:
    """Copy a config with another value of one setting, possible or not."""
    name, _, rest = key.partition(".")
    old = getattr(value, name)
    if rest:
        return replace(value, **{name: change(old, rest)})
    if isinstance(old, bool):
        new: Any = not old
    elif isinstance(old, int | float):
        new = old + 1
    elif isinstance(old, str):
        new = old + "x"
    elif isinstance(old, Mapping):
        new = {**old, "another": (1,)}
    else:
        new = (*old, *(old[-1:] or ("x",)))
    return replace(value, **{name: new})


ALL_KEYS = leaves(Config())


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """Numbers of the stages whose digest depends on a setting, by its key."""
    recipe = make_recipe(tmp_path_factory.mktemp("readers"))
    context = load_context(recipe.options(fine_tune="min"))

    def read(config: Config) -> list[Mapping[str, Any]]:
        changed = replace(context, config=config)
        return [stage.read_settings(changed) for stage in STAGES]

    base = read(context.config)
    return {
        key: {
            stage.number
            for stage, old, new in zip(STAGES, base, read(change(context.config, key)), strict=True)
            if old != new
        }
        for key in ALL_KEYS
    }


def test_every_setting_is_read_by_a_stage_or_declared_irrelevant(readers: dict[str, set[int]]) -> None:
    assert set(ALL_KEYS) == set(flatten_config(Config()))
    # Stage 3 reads it only if shards are written.
    missing = {key for key, stages in readers.items() if not stages} - {"data.shar_utterances"}
    assert missing == set(NO_EFFECT)


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        ("data.test_parts", {0, 1, 2, 9}),
        ("data.speed_factors", {2}),
        ("data.vocab_size", {3}),
        ("model.subsampling_factor", {3, 4, 5, 8}),
        ("train.optim.lr", {4, 8}),
        ("train.calibrate_utterances", {5}),
        ("train.log_interval", set()),
        ("search.evaluations", {6}),
        ("export.opset", {10}),
    ],
)
def test_stages_that_read_a_setting(readers: dict[str, set[int]], key: str, stages: set[int]) -> None:
    assert readers[key] == stages


def test_training_settings_never_touch_the_data(readers: dict[str, set[int]]) -> None:
    for key, stages in readers.items():
        if key.startswith(("augment.", "train.", "model.", "space.")) and key != "model.subsampling_factor":
            assert min(stages, default=4) >= 4, key
        if key.startswith("search."):
            assert stages <= {6}, key
        if key.startswith("export."):
            assert stages <= {10}, key


def test_changed_data_settings_before_a_training_run_again(recipe: Recipe) -> None:
    recipe(0, 3)
    assert recipe.statuses("--data.vocab_size", "99")[3].reason == "data.vocab_size was 64, is 99"
    assert [line.split()[-3] for line in recipe(0, 3, "--data.vocab_size", "99")] == ["tokenizer"]


def test_changed_data_settings_of_a_trained_net_are_refused(whole: Recipe) -> None:
    advice = r"finished: --force --train\.resume never trains anew, another --exp-dir keeps both"
    with pytest.raises(UserError, match=rf"data\.vocab_size was 64, is 99, .*{advice}$"):
        whole(0, 12, "--data.vocab_size", "99")
    words = ("--data.vocab_size", "99", "--train.resume=never")
    lines = whole(3, 4, *words, force=True)
    assert [line.split()[0] for line in lines] == ["prepare", "train"]
    assert Mark.load(whole.run.stage_mark("3")).reads.settings["data.vocab_size"] == 99  # type: ignore[union-attr]


def test_changed_training_settings_are_refused(whole: Recipe) -> None:
    assert whole.not_done("--train.optim.lr", "0.5") == {4: State.REFUSED}
    with pytest.raises(UserError, match=r"stage 4 train: train\.optim\.lr was 0\.025, is 0\.5"):
        whole(0, 12, "--train.optim.lr", "0.5")
    assert whole.commands() == []
    assert whole.not_done("--train.log_interval", "7") == {}


def test_changed_settings_of_an_interrupted_training_are_refused(recipe: Recipe) -> None:
    recipe(0, 4)
    recipe.run.stage_mark("4").unlink()
    recipe.run.finished.unlink()
    status = recipe.statuses()[4]
    assert status.state is State.RUN and status.reason == "the training is not finished"
    assert recipe.statuses("--train.seed", "5")[4].state is State.REFUSED


def test_a_changed_search_setting_runs_the_search_and_what_follows_from_it(whole: Recipe) -> None:
    words = ("--search.evaluations", "9")
    assert whole.not_done(*words) == {6: State.RUN}
    lines = whole(0, 12, *words)
    assert lines == [
        "search --exp-dir EXP --search.evaluations 9",
        "extract --exp-dir EXP --ladder --pareto",
        "report EXP",
    ]
    assert whole.not_done(*words) == {}
    assert whole(6, 12, *words) == ["report EXP"]


def test_a_changed_export_setting_exports_again(whole: Recipe) -> None:
    names = [line.split()[0] for line in whole(5, 12, "--export.opset", "20")]
    assert names == ["export", "verify", "verify", "bench", "report"]
    assert whole.commands()[0].endswith("--export.opset 20")


def test_a_new_test_part_keeps_the_training(whole: Recipe) -> None:
    write(whole.corpus / "test-clean" / "1" / "2" / "1-2.trans.txt", "1-2-0001 ONE\n")
    words = ('--data.test_parts=["test-clean"]',)
    names = [line.split()[0] for line in whole(0, 12, *words)]
    assert names == ["prepare", "prepare", "decode", "decode", "report"]
    assert whole(0, 12, *words) == ["report EXP"]


def test_a_finished_training_is_not_marked_with_settings_that_it_did_not_read(whole: Recipe) -> None:
    before = Mark.load(whole.run.stage_mark("4"))
    with pytest.raises(UserError, match=r"lr was 0\.025, is 0\.5, but the training .* finished"):
        whole(4, 4, "--train.optim.lr", "0.5", force=True)
    assert Mark.load(whole.run.stage_mark("4")) == before
    lines = whole(4, 4, "--train.optim.lr", "0.5", "--train.resume=never", force=True)
    assert lines[0].endswith("--train.optim.lr 0.5 --train.resume=never")


def test_a_longer_training_is_continued_by_force(whole: Recipe) -> None:
    words = ("--train.num_epochs", "99")
    with pytest.raises(UserError, match=r"num_epochs was \d+, is 99, .*; --force continues it"):
        whole(4, 4, *words)
    assert len(whole(4, 4, *words, force=True)) == 1


def test_a_setting_that_only_averaging_reads_keeps_the_training(whole: Recipe) -> None:
    words = ("--train.calibrate_utterances", "9")
    assert whole.not_done(*words) == {5: State.RUN}
    assert whole(0, 5, *words)[0] == "average EXP --train.calibrate_utterances 9"
    assert whole(5, 5, *words) == []
    assert whole(5, 5, "--train.calibrate_utterances=8")[0].endswith("--train.calibrate_utterances 8")


def test_a_test_part_can_be_added_after_the_training(whole: Recipe) -> None:
    write(whole.corpus / "test-clean" / "1" / "2" / "1-2.trans.txt", "1-2-0001 ONE\n")
    words = ("--data.test_parts", '["test-clean"]')
    assert [line.split()[-1] for line in whole(9, 9, *words)] == [
        f"EXP/decode/{name}/test-clean.json" for name in ("max", "min")
    ]


@pytest.mark.parametrize(
    ("stages", "word", "reason"),
    [
        ((5, 12), "--train.seed=3", "stage 4 reads it, and --stage is 5; leave it out"),
        ((5, 12), "--data.vocab_size=30", "stage 3 reads it"),
        ((5, 12), "--data.num_jobs=3", "no later stage reads it"),
        ((5, 8), '--data.test_parts=["test-clean"]', "stage 9 reads it, and --stop-stage is 8"),
        ((6, 12), "--train.calibrate_utterances=3", "stage 5 reads it, and --stage is 6"),
    ],
)
def test_an_override_that_no_stage_reads_is_refused(
    whole: Recipe, stages: tuple[int, int], word: str, reason: str
) -> None:
    with pytest.raises(UserError, match=re.escape(reason)):
        whole(*stages, word)
    assert whole.commands() == []


def test_retrained_weights_run_all_that_follows(whole: Recipe) -> None:
    whole.weights = "other weights"
    whole(4, 4, force=True)
    names = [line.split()[0] for line in whole()]
    assert names[:5] == ["average", "decode", "decode", "search", "extract"]
    assert names.count("decode") == 4 and names[-1] == "report"


# Changed inputs


def test_a_changed_corpus(recipe: Recipe) -> None:
    recipe(0, 3)
    write(recipe.corpus / "dev-clean-2" / "1" / "2" / "1-2-0002.flac", "")
    assert recipe.statuses()[1].reason == "corpus dev-clean-2 has changed"
    recipe(0, 4)
    write(recipe.corpus / "train-clean-5" / "1" / "2" / "1-2-0002.flac", "")
    with pytest.raises(UserError, match="stage 1 manifests: corpus train-clean-5 has changed"):
        recipe()


def test_results_on_a_changed_part_are_decoded_again(whole: Recipe) -> None:
    (whole.corpus / "dev-clean-2" / "1" / "2" / "1-2.trans.txt").write_text("1-2-0001 ONE TWO\n")
    names = [line.split()[0] for line in whole(9, 11)]
    assert names == ["decode", "decode", "export", "verify", "verify"]


def test_fingerprints_ignore_the_time_in_a_compressed_file(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.gz", tmp_path / "cache.json"
    found = []
    for time in (1, 2):
        path.write_bytes(gzip.compress(b"content", mtime=time))
        prints = Fingerprints(cache)
        found.append(prints.compute(path))
        prints.save()
    path.write_bytes(gzip.compress(b"contents"))
    assert found[0] == found[1] != Fingerprints(cache).compute(path)
    cache.write_text("torn")
    assert Fingerprints(cache).compute(path) == Fingerprints(tmp_path / "none").compute(path)


# Runs of before, and of torchrun


def test_marks_with_earlier_names_and_without_new_settings_hold(whole: Recipe) -> None:
    path = whole.run.stage_mark("4")
    record = read_json(path)
    settings = record["settings"]
    settings["train.distill.beta"] = settings.pop("train.distill.ratio_clip")
    settings["space.ffn_dims"] = settings.pop("space.widths")["ffn_dim"]
    del settings["augment.chain_prob"]
    settings["train.no_longer_there"] = 3
    write_json(path, record)
    assert whole.statuses()[4].state is State.DONE
    settings["augment.chain_prob"] = 0.7
    write_json(path, record)
    status = whole.statuses()[4]
    assert status.state is State.REFUSED and "augment.chain_prob was 0.7, is 0.0" in status.reason


def test_marks_of_earlier_versions_are_adopted(whole: Recipe) -> None:
    for number in (*range(8), *range(9, 12)):
        whole.run.stage_mark(str(number)).unlink()
        (whole.run.done / str(number)).write_text("settings 0123456789abcdef\nseconds 754\n")
    whole.run.finished.unlink()
    assert whole.statuses("--train.optim.lr", "0.5")[4].state is State.REFUSED
    assert whole() == ["report EXP"]
    mark = Mark.load(whole.run.stage_mark("4"))
    assert mark is not None and mark.seconds == 754
    assert not (whole.run.done / "4").exists()
    assert whole() == ["report EXP"]


def edit_settings(path: Path, changed: Mapping[str, Any]) -> None:
    """Replace settings in a mark; None removes one."""
    record = read_json(path)
    settings = {**record["settings"], **changed}
    record["settings"] = {key: value for key, value in settings.items() if value is not None}
    write_json(path, record)


def test_settings_added_later_had_their_earlier_value(whole: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = whole.run.stage_mark("4")
    edit_settings(mark, {"model.end_silence_frames": None, "train.loss.label_context_carry": None})
    assert whole.not_done() == {}
    assert whole.not_done("--train.loss.label_context_carry=0.5") == {4: State.REFUSED}
    monkeypatch.setattr(comparison, "EARLIER_VALUES", {"train.loss.label_context_carry": 0.5})
    assert whole.not_done("--train.loss.label_context_carry=0.5") == {}


def test_settings_that_a_stage_no_longer_reads_are_no_change(whole: Recipe) -> None:
    edit_settings(
        whole.run.stage_mark("4"),
        {"train.calibrate_utterances": 5, "train.num_threads": 5, "train.removed_setting": 5},
    )
    assert whole.not_done() == {}


def test_a_torn_mark_counts_as_none(whole: Recipe) -> None:
    whole.run.stage_mark("6").write_text('{"stage": "sea')
    assert whole.not_done() == {6: State.RUN}


# Options


def test_later_stages_take_the_settings_of_the_run_folder(recipe: Recipe) -> None:
    recipe(0, 7)
    recipe.run.config.write_text("data: {dev_parts: [dev-clean], test_parts: [test-clean]}\n")
    assert [line.split()[-1] for line in recipe(9, 9)] == [
        f"EXP/decode/{name}/{part}.json" for name in ("max", "min") for part in ("dev-clean", "test-clean")
    ]


def test_fine_tuning_is_left_out_unless_requested(whole: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    whole()
    assert "stage 8 fine-tune: no --fine-tune NAME, left out" in capsys.readouterr().out
    assert whole(8, 8, fine_tune="min") == ["train --exp-dir EXP --fine-tune min"]
    assert whole(8, 8, fine_tune="min") == []
    assert whole.marks() >= {"8-min", "9"}
    write(ModelFolder(whole.run.subnet("min")).weights, "other")
    assert whole(8, 8, fine_tune="min") == ["train --exp-dir EXP --fine-tune min"]


def test_list_runs_nothing(whole: Recipe) -> None:
    whole.recorded.clear()
    lines = list(list_stages(whole.options(0, 12, "--search.evaluations", "9")))
    assert lines[4] == " 4 train      done"
    assert lines[6] == " 6 search     would run: search.evaluations was 24, is 9"
    assert lines[7] == " 7 extract    done; checked again after stage 6"
    assert whole.commands() == [] and whole.not_done() == {}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--stage", "13"), "'13'"),
        (("--stage", "four"), "'four'"),
        (("--stage", "5", "--stop-stage", "4"), "--stop-stage 4"),
        (("--conf", "nowhere.yaml"), "nowhere.yaml"),
        (("--epochs", "3"), "no setting epochs"),
        (("--stage", "6", "--", "--train.seed", "3"), "--train.seed"),
        (("--stop-stage", "0", "--", "--train.epochs", "3"), "epochs"),
        (("--stop-stage", "0", "--", "--space.depths", "[6, 3]"), "space.depths"),
    ],
)
def test_usage_errors(
    recipe: Recipe, words: tuple[str, ...], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("--corpus-dir", str(recipe.corpus), "--conf", str(recipe.conf), "--exp-dir", str(recipe.run.path))
    assert main(["run", *base, *words]) == 2
    shown = capsys.readouterr().err
    assert names in shown and len(shown.strip().splitlines()) == 1
    assert not recipe.run.path.exists()


# Stage 0


def test_synthetic_corpus(recipe: Recipe) -> None:
    shutil.rmtree(recipe.corpus)
    recipe.conf = recipe.conf.with_name("demo.yaml")
    recipe.fail_at = "synth"
    with pytest.raises(SystemExit):
        recipe(0, 0, synth=True)
    recipe.fail_at = ""
    assert recipe(0, 0, synth=True) == ["synth --out DIR"]
    assert recipe(0, 0, synth=True) == []


def test_only_missing_parts_are_downloaded_and_an_interrupted_one_again(recipe: Recipe) -> None:
    corpus = recipe.folder / "LibriSpeech"
    (corpus / "train-clean-5").mkdir(parents=True)
    line = f"-m todm.recipe.corpus {recipe.folder} dev-clean-2"
    recipe.fail_at = "dev-clean-2"
    with pytest.raises(SystemExit):
        recipe(0, 0, corpus_dir=corpus)
    assert recipe.recorded == [line] and recipe.marks() == set()
    (corpus / "dev-clean-2").mkdir()
    recipe.fail_at = ""
    assert recipe(0, 0, corpus_dir=corpus) == [line]
    assert recipe(0, 0, corpus_dir=corpus, force=True) == []


def test_a_part_copied_by_hand_after_an_interrupted_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NUM_UTTERANCES, "dev-clean-2", 2)
    start_download(tmp_path, ["dev-clean-2", "test-clean"])
    chapter = tmp_path / "dev-clean-2" / "1" / "2"
    write(chapter / "1-2.trans.txt", "1-2-0001 ONE\n1-2-0002 TWO\n")
    write(chapter / "1-2-0001.flac", "")
    write(tmp_path / "test-clean" / ".completed", "")
    assert list_missing(tmp_path, ["dev-clean-2", "test-clean"]) == ["dev-clean-2"]
    write(chapter / "1-2-0002.flac", "")
    assert list_missing(tmp_path, ["dev-clean-2", "test-clean"]) == []


def test_a_failed_download_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tarfile

    from lhotse.recipes import librispeech

    from todm.recipe import corpus

    for error in (OSError("no route to host"), tarfile.ReadError("unexpected end of data")):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(librispeech, "download_librispeech", fail)
        assert corpus.main([str(tmp_path), "dev-clean"]) == 2
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == 1 and str(error) in shown[0] and "run again" in shown[0]


def test_a_part_that_cannot_be_downloaded_is_named(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="my-kitchen"):
        recipe(0, 0, '--data.test_parts=["my-kitchen"]')
    assert recipe.commands() == []
