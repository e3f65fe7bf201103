from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from todm.data.corpus import read_part
from todm.data.synth import (
    DEV_VARIANTS,
    TEST_VARIANTS,
    TRAIN_VARIANTS,
    SynthSettings,
    synthesise,
)
from todm.errors import UserError

pytest.importorskip("espeakng_loader")

SMALL = SynthSettings(
    seed=5, train_utterances=7, dev_utterances=2, test_utterances=2, train_speakers=3, eval_speakers=2
)


def _digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise(tmp_path_factory.mktemp("synth"), SMALL, num_jobs=2)


def test_parts_have_the_requested_size_and_format(root: Path) -> None:
    sizes = {"train-clean-5": 7, "dev-clean-2": 2, "test-clean": 2}
    for name, size in sizes.items():
        part = read_part(root, name)
        assert len(part.recordings) == size
        assert part.skipped == ()
        for recording in part.recordings:
            info = soundfile.info(recording.sources[0].source)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert 0.5 < recording.duration < 8
            samples, _ = soundfile.read(recording.sources[0].source)
            assert 0.005 < samples.std() < 0.3


def test_no_voice_is_in_two_parts() -> None:
    parts = [set(TRAIN_VARIANTS), set(DEV_VARIANTS), set(TEST_VARIANTS)]
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_bytes_depend_on_the_seed_not_on_the_number_of_processes(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from todm.data.synth import SynthSettings, synthesise\n"
        "if __name__ == '__main__':\n"
        f"    synthesise(Path(sys.argv[1]), {SMALL!r}, num_jobs=1)\n"
    )
    script = tmp_path / "again.py"
    script.write_text(code)
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    subprocess.run([sys.executable, str(script), str(tmp_path / "out")], check=True, env=environment)
    assert _digest(tmp_path / "out" / "LibriSpeech") == _digest(root)


def test_another_seed_gives_another_corpus(root: Path, tmp_path: Path) -> None:
    other = synthesise(tmp_path, replace(SMALL, seed=6), num_jobs=2)
    ours, theirs = _digest(root), _digest(other)
    audio = [name for name in ours if name.endswith(".flac") and name in theirs]
    assert audio
    assert all(ours[name] != theirs[name] for name in audio)


def test_finished_corpus_is_kept_other_settings_replace_it(tmp_path: Path) -> None:
    one = SynthSettings(
        train_utterances=1, dev_utterances=1, test_utterances=1, train_speakers=1, eval_speakers=1
    )
    root = synthesise(tmp_path, one, num_jobs=1)
    note = root / "train-clean-5" / "note"
    note.write_text("mine")
    synthesise(tmp_path, one, num_jobs=1)
    assert note.exists()
    synthesise(tmp_path, replace(one, seed=2), num_jobs=1)
    assert not note.exists()


def test_a_foreign_corpus_is_not_touched(corpus: Path) -> None:
    with pytest.raises(UserError, match="holds a corpus that 'todm synth' did not write"):
        synthesise(corpus.parent, SMALL)
    assert (corpus / "dev-here").is_dir()


def test_impossible_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are only 24 voices"):
        synthesise(tmp_path, replace(SMALL, eval_speakers=25))
    with pytest.raises(UserError, match="test-clean: 0 utterances"):
        synthesise(tmp_path, replace(SMALL, test_utterances=0))
