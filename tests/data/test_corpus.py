from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from todm.data.corpus import download, find_corpus, list_parts, read_part
from todm.errors import UserError


def test_finds_the_parts_from_the_folder_or_its_parent(corpus: Path) -> None:
    assert find_corpus(corpus) == corpus
    assert find_corpus(corpus.parent) == corpus
    assert list_parts(corpus) == ["dev-here", "train-here"]


def test_reads_ids_texts_speakers_and_durations(corpus: Path) -> None:
    part = read_part(corpus.parent, "dev-here", num_jobs=2)
    cuts = list(part.cuts())
    assert [cut.id for cut in cuts] == sorted(recording.id for recording in part.recordings)
    first = cuts[0]
    assert first.id == "10-1-0000"
    assert first.supervisions[0].text == "ONE"
    assert first.supervisions[0].speaker == "10"
    assert first.duration == 0.5
    assert first.load_audio().shape == (1, 8000)
    assert part.skipped == ()


def test_speakers_and_chapters_may_be_links(corpus: Path, tmp_path: Path) -> None:
    """A subset of a large corpus consists of links."""
    part = tmp_path / "LibriSpeech" / "dev-here"
    (part / "11").mkdir(parents=True)
    (part / "10").symlink_to(corpus / "dev-here" / "10", target_is_directory=True)
    (part / "11" / "1").symlink_to(corpus / "dev-here" / "11" / "1", target_is_directory=True)
    linked, real = read_part(tmp_path, "dev-here"), read_part(corpus, "dev-here")
    assert linked.skipped == ()
    assert [cut.id for cut in linked.cuts()] == [cut.id for cut in real.cuts()]
    assert [s.speaker for s in linked.supervisions] == [s.speaker for s in real.supervisions]


def test_missing_folder_and_part_list_the_existing_ones(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such corpus folder"):
        read_part(tmp_path / "nowhere", "dev-here")
    with pytest.raises(UserError, match="no part in LibriSpeech's layout"):
        read_part(tmp_path, "dev-here")
    with pytest.raises(UserError, match="no part 'dev-clean'; use one of: dev-here, train-here"):
        read_part(corpus, "dev-clean")


def test_bad_utterances_are_skipped_with_the_reason(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    shutil.copytree(corpus / "dev-here", root / "dev-here")
    chapter = root / "dev-here" / "10" / "1"
    good = (chapter / "10-1-0000.flac").read_bytes()
    (chapter / "bad-empty.flac").write_bytes(b"")
    (chapter / "bad-text.flac").write_text("this is no audio")
    (chapter / "bad-cut.flac").write_bytes(good[: len(good) // 2])
    (chapter / "bad-notext.flac").write_bytes(good)
    (chapter / "bad-orphan.flac").write_bytes(good)
    soundfile.write(str(chapter / "bad-zero.wav"), np.zeros(0), 16000)
    soundfile.write(str(chapter / "bad-short.flac"), np.zeros(2000), 16000)
    soundfile.write(str(chapter / "bad-stereo.flac"), np.zeros((16000, 2)), 16000)
    reasons = {
        "bad-empty": "empty audio file",
        "bad-text": "unreadable audio",
        "bad-cut": "unreadable audio",
        "bad-zero": "zero-length audio",
        "bad-short": "too short to encode",
        "bad-stereo": "more than one channel",
        "bad-gone": "transcript without audio",
    }
    with (chapter / "10-1.trans.txt").open("a") as file:
        file.writelines(f"{name} ONE\n" for name in reasons)
        file.write("bad-notext\n\n10-1-0000 TWICE\n")
    reasons |= {"bad-notext": "no text", "bad-orphan": "audio without transcript"}
    reasons |= {"10-1-0000": "id used twice"}

    part = read_part(root, "dev-here")
    found = {item.id: item.reason for item in part.skipped}
    assert found.pop("bad-cut") in ("unreadable audio", "audio cut short")
    reasons.pop("bad-cut")
    assert found == reasons
    assert len(part.recordings) == 6
    assert {item.stage for item in part.skipped} == {"manifests"}


def test_part_without_a_usable_utterance_is_an_error(tmp_path: Path) -> None:
    chapter = tmp_path / "part" / "1" / "1"
    chapter.mkdir(parents=True)
    (chapter / "1-1.trans.txt").write_text("1-1-0000 HELLO\n")
    with pytest.raises(UserError, match=r"none of its 1 utterances is usable .* transcript without audio"):
        read_part(tmp_path, "part")


def test_other_sample_rates_are_resampled(tmp_path: Path) -> None:
    chapter = tmp_path / "part" / "1" / "1"
    chapter.mkdir(parents=True)
    soundfile.write(str(chapter / "1-1-0000.wav"), 0.1 * np.sin(np.arange(4410)), 22050)
    (chapter / "1-1.trans.txt").write_text("1-1-0000 HELLO\n")
    (cut,) = read_part(tmp_path, "part").cuts()
    assert cut.sampling_rate == 16000
    assert cut.load_audio().shape == (1, 3200)


def test_agrees_with_lhotse_on_real_speech(digits: Path) -> None:
    from lhotse.recipes import prepare_librispeech

    theirs = prepare_librispeech(digits, dataset_parts="dev-clean-2")["dev-clean-2"]
    ours = read_part(digits, "dev-clean-2")
    assert {s.id: (s.text, s.speaker) for s in ours.supervisions} == {
        s.id: (s.text, s.speaker) for s in theirs["supervisions"]
    }
    assert {r.id: r.num_samples for r in ours.recordings} == {
        r.id: r.num_samples for r in theirs["recordings"]
    }


def _serve(content: dict[str, bytes]) -> Callable[..., None]:
    """Write a tar archive of ``content`` instead of downloading it."""

    def fetch(url: str, filename: Path, **_: Any) -> None:
        fetch.urls.append(url)  # type: ignore[attr-defined]
        with tarfile.open(filename, "w:gz") as tar:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    fetch.urls = []  # type: ignore[attr-defined]
    return fetch


def test_download_unpacks_and_keeps_existing_parts(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lhotse.recipes import librispeech

    chapter = corpus / "dev-here" / "10" / "1"
    inside = "LibriSpeech/dev-clean-2/10/1"
    content = {f"{inside}/{path.name}": path.read_bytes() for path in sorted(chapter.iterdir())}
    fetch = _serve(content)
    monkeypatch.setattr(librispeech, "resumable_download", fetch)
    root = download(tmp_path, ["dev-clean-2"])
    assert len(read_part(root, "dev-clean-2").recordings) == 3
    download(tmp_path, ["dev-clean-2"])
    assert len(fetch.urls) == 1  # type: ignore[attr-defined]
    assert fetch.urls[0].endswith("/31/dev-clean-2.tar.gz")  # type: ignore[attr-defined]


def test_download_refuses_unknown_parts_and_reports_a_dead_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lhotse.recipes import librispeech

    with pytest.raises(UserError, match="dev-cleann: no such part to download"):
        download(tmp_path, ["dev-cleann"])

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(librispeech, "resumable_download", fail)
    with pytest.raises(UserError, match="the download failed"):
        download(tmp_path, ["dev-clean-2"])
