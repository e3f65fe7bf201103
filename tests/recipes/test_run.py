"""The recipe's script with a stand-in for ``todm`` that only notes how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "librispeech"
RUN = RECIPE / "run.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

# Notes its words, makes what later stages look for, and fails when told to.
STUB = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
[[ "$1" != "${FAIL_AT:-none}" ]] || exit 2
while (($#)); do
  case $1 in
    synth) mkdir -p "$3"/{train-clean-5,dev-clean-2,test-clean} ;;
    extract) mkdir -p "$3/subnets/"{min,max}; touch "$3/subnets/"{min,max}/{spec.json,model.safetensors} ;;
    export) mkdir -p "$3/bundles/"{min,max} ;;
    --out) mkdir -p "$(dirname "$2")"; touch -d '+1 sec' "$2" ;;
  esac
  shift
done
"""


@dataclass(frozen=True)
class Recipe:
    """A corpus, a run folder and the stub."""

    folder: Path

    def run(self, *words: str, fail_at: str = "none", conf: str = "tiny") -> subprocess.CompletedProcess[str]:
        path = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        env = os.environ | {
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": os.pathsep.join([str(self.folder / "modules"), str(RECIPE.parents[1])]),
            "CALLS": str(self.folder / "calls"),
            "FAIL_AT": fail_at,
        }
        base = ["--corpus-dir", str(self.corpus), "--conf", str(RECIPE / "conf" / f"{conf}.yaml")]
        return subprocess.run(
            ["bash", str(RUN), *base, "--exp-dir", str(self.exp), *words],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def exp(self) -> Path:
        return self.folder / "exp"

    def calls(self) -> list[str]:
        """Calls of the stub since the last time, with the folders' names shortened."""
        path = self.folder / "calls"
        text = path.read_text() if path.exists() else ""
        path.unlink(missing_ok=True)
        for long, short in ((self.exp, "EXP"), (self.corpus, "DIR"), (RECIPE, "RECIPE")):
            text = text.replace(str(long), short)
        return text.splitlines()

    def marks(self) -> set[str]:
        return {path.name for path in (self.exp / ".done").iterdir()}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "todm"
    stub.write_text(STUB)
    stub.chmod(0o755)
    for part in ("train-clean-5", "dev-clean-2"):
        (tmp_path / "corpus" / part).mkdir(parents=True)
    return Recipe(tmp_path)


def test_all_stages_in_order_then_all_skipped(recipe: Recipe) -> None:
    done = recipe.run()
    assert done.returncode == 0, done.stderr
    conf = "--conf RECIPE/conf/tiny.yaml"
    decode = "--corpus-dir DIR --part dev-clean-2 --out EXP/decode"
    expected = [
        *(
            f"prepare {conf} --corpus-dir DIR --exp-dir EXP --stage {s}"
            for s in ("manifests", "features", "bpe")
        ),
        f"train {conf} --exp-dir EXP",
        "average EXP",
        f"decode --model EXP/supernet --spec min {decode}/supernet-min/dev-clean-2.json",
        f"decode --model EXP/supernet --spec max {decode}/supernet-max/dev-clean-2.json",
        "search --exp-dir EXP",
        "extract --exp-dir EXP --ladder --pareto",
        f"decode --model EXP/subnets/max {decode}/max/dev-clean-2.json",
        f"decode --model EXP/subnets/min {decode}/min/dev-clean-2.json",
        "export --exp-dir EXP --guard-corpus-dir DIR --guard-part dev-clean-2",
        "verify EXP/bundles/max --corpus-dir DIR --part dev-clean-2",
        "verify EXP/bundles/min --corpus-dir DIR --part dev-clean-2",
        "bench EXP/bundles/max EXP/bundles/min --out EXP/bench",
        "report EXP",
    ]
    assert recipe.calls() == expected
    noted = (recipe.exp / "commands.txt").read_text()
    assert sum(line.startswith("todm ") for line in noted.splitlines()) == len(expected)
    assert "# stage 4 train, " in noted

    again = recipe.run()
    assert again.returncode == 0, again.stderr
    assert recipe.calls() == ["report EXP"]
    assert again.stdout.count("done before, skipped") == 11


def test_stops_and_goes_on_where_asked(recipe: Recipe) -> None:
    assert recipe.run("--stage", "1", "--stop-stage", "2").returncode == 0
    assert [call.split()[-1] for call in recipe.calls()] == ["manifests", "features"]
    assert recipe.run("--stage", "1", "--stop-stage", "3").returncode == 0
    assert [call.split()[-1] for call in recipe.calls()] == ["bpe"]
    assert recipe.marks() == {"1", "2", "3"}


def test_a_stage_that_fails_stops_the_run_and_is_run_again(recipe: Recipe) -> None:
    broken = recipe.run("--stop-stage", "5", fail_at="train")
    assert broken.returncode == 2
    assert recipe.calls()[-1].startswith("train")
    assert recipe.marks() == {"0", "1", "2", "3"}
    mended = recipe.run("--stop-stage", "5")
    assert mended.returncode == 0
    assert [call.split()[0] for call in recipe.calls()] == ["train", "average", "decode", "decode"]


def test_force_runs_again_and_later_stages_lose_their_marks(recipe: Recipe) -> None:
    assert recipe.run().returncode == 0
    recipe.calls()
    assert recipe.run("--force", "--stage", "7", "--stop-stage", "7").returncode == 0
    assert recipe.calls() == ["extract --exp-dir EXP --ladder --pareto"]
    assert recipe.marks() == {str(i) for i in range(8)}


def test_overrides_reach_preparing_and_training(recipe: Recipe) -> None:
    done = recipe.run("--stop-stage", "5", "--", "--train.num_epochs", "2", "--data.vocab_size=30")
    assert done.returncode == 0, done.stderr
    with_settings = [
        call for call in recipe.calls() if call.endswith("--train.num_epochs 2 --data.vocab_size=30")
    ]
    assert [call.split()[0] for call in with_settings] == ["prepare", "prepare", "prepare", "train"]


@pytest.mark.parametrize(("location", "written"), [("shar", True), ("pipe:cat shar/{}", False)])
def test_shards_are_written_where_they_are_asked_for(recipe: Recipe, location: str, written: bool) -> None:
    setting = ("--data.shar_dir", location)
    done = recipe.run("--stage", "3", "--stop-stage", "4", "--", *setting)
    assert done.returncode == 0, done.stderr
    prepare = "prepare --conf RECIPE/conf/tiny.yaml --corpus-dir DIR --exp-dir EXP --stage"
    train = "train --conf RECIPE/conf/tiny.yaml --exp-dir EXP"
    calls = [f"{prepare} bpe", *([f"{prepare} shar"] if written else []), train]
    assert recipe.calls() == [f"{call} {' '.join(setting)}" for call in calls]


def test_other_settings_are_not_taken_for_done(recipe: Recipe) -> None:
    assert recipe.run("--stop-stage", "3").returncode == 0
    changed = recipe.run("--stop-stage", "3", "--", "--data.vocab_size", "99")
    assert changed.returncode == 2
    assert "other settings" in changed.stderr and "--force" in changed.stderr
    assert recipe.run("--force", "--stop-stage", "3", "--", "--data.vocab_size", "99").returncode == 0


def test_later_stages_follow_the_run_folder(recipe: Recipe) -> None:
    assert recipe.run("--stop-stage", "7").returncode == 0
    recipe.calls()
    (recipe.exp / "config.yaml").write_text("data: {dev_parts: [dev-clean], test_parts: [test-clean]}\n")
    assert recipe.run("--stage", "9", "--stop-stage", "9").returncode == 0
    assert [call.split()[-1] for call in recipe.calls()] == [
        f"EXP/decode/{name}/{part}.json" for name in ("max", "min") for part in ("dev-clean", "test-clean")
    ]


def test_synthetic_corpus(recipe: Recipe) -> None:
    assert recipe.run("--synth", "--stop-stage", "0", conf="demo", fail_at="synth").returncode == 2
    recipe.calls()
    assert recipe.run("--synth", "--stop-stage", "0", conf="demo").returncode == 0
    assert recipe.calls() == ["synth --out DIR"]
    assert recipe.run("--synth", "--stop-stage", "0", conf="demo").returncode == 0
    assert recipe.calls() == []


# Notes what it is asked for, and stops half-way through a part when told to.
STUB_LHOTSE = """
import os, pathlib
def download_librispeech(target, parts):
    with open(os.environ["CALLS"], "a") as calls:
        print("download", target, *parts, file=calls)
    for part in parts:
        (pathlib.Path(target) / "LibriSpeech" / part).mkdir(parents=True, exist_ok=True)
        if os.environ["FAIL_AT"] == "download":
            raise SystemExit(1)
"""


def test_only_missing_parts_are_downloaded_and_a_torn_one_again(recipe: Recipe) -> None:
    module = recipe.folder / "modules" / "lhotse" / "recipes"
    module.mkdir(parents=True)
    (module / "librispeech.py").write_text(STUB_LHOTSE)
    for package in (module, module.parent):
        (package / "__init__.py").touch()
    shutil.rmtree(recipe.corpus)
    corpus = recipe.folder / "LibriSpeech"
    (corpus / "train-clean-5").mkdir(parents=True)
    words = ("--corpus-dir", str(corpus), "--stop-stage", "0")

    assert recipe.run(*words, fail_at="download").returncode == 1
    assert recipe.calls() == [f"download {recipe.folder} dev-clean-2"]
    assert recipe.marks() == set()
    assert recipe.run(*words).returncode == 0
    assert recipe.calls() == [f"download {recipe.folder} dev-clean-2"]
    assert recipe.run("--force", *words).returncode == 0
    assert recipe.calls() == []


def test_a_part_that_cannot_be_downloaded_is_named(recipe: Recipe) -> None:
    words = ("--stop-stage", "0", "--", '--data.test_parts=["my-kitchen"]')
    done = recipe.run(*words)
    assert done.returncode == 2
    assert "my-kitchen" in done.stderr
    assert recipe.calls() == []


def test_fine_tuning_is_left_out_unless_asked_for(recipe: Recipe) -> None:
    assert recipe.run().returncode == 0
    assert not any("fine-tune" in call for call in recipe.calls())
    assert recipe.run("--fine-tune", "min", "--stage", "8", "--stop-stage", "8").returncode == 0
    assert recipe.calls() == ["train --exp-dir EXP --fine-tune min"]
    assert "9" not in recipe.marks()
    assert recipe.run("--fine-tune", "min", "--stage", "8", "--stop-stage", "8").returncode == 0
    assert recipe.calls() == []


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--stage", "13"), "'13'"),
        (("--stage", "four"), "'four'"),
        (("--stage", "5", "--stop-stage", "4"), "--stop-stage 4"),
        (("--stage",), "--stage needs a value"),
        (("--epochs", "3"), "unknown option --epochs"),
        (("--conf", "nowhere.yaml"), "nowhere.yaml"),
        (("--stage", "6", "--", "--search.evaluations", "3"), "stages 1 to 4"),
        (("--stop-stage", "0", "--", "--train.epochs", "3"), "epochs"),
        (("--stop-stage", "0", "--", "--space.depths", "[6, 3]"), "space.depths"),
    ],
)
def test_usage_errors(recipe: Recipe, words: tuple[str, ...], names: str) -> None:
    done = recipe.run(*words)
    assert done.returncode == 2
    assert names in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert recipe.calls() == []


def test_missing_options_and_help(recipe: Recipe) -> None:
    bare = subprocess.run(["bash", str(RUN)], capture_output=True, text=True, timeout=60)
    assert bare.returncode == 2 and "--corpus-dir is missing" in bare.stderr
    shown = subprocess.run(["bash", str(RUN), "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and "12 report" in shown.stdout
