"""Training from shards: the utterances of the manifests, in an order that can be resumed exactly."""

from __future__ import annotations

import functools
import gzip
import json
import random
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from lhotse import CutSet

from tests.data.conftest import write_part
from todm.config import Config
from todm.data import shar, shar_loader
from todm.data.batch import Batch
from todm.data.features import load_features, make_extractor
from todm.data.loader import first_train_cuts, load_train_cuts, make_train_loader
from todm.data.prepare import prepare
from todm.data.shar import read_index, write_shar
from todm.data.shar_loader import SharLoader, split_batches
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError

NUM_SHARDS = 11  # of 72 utterances, 7 in each but the last


@pytest.fixture(scope="module")
def tokenizer(exp_dir: Path) -> Tokenizer:
    return Tokenizer.load(exp_dir / "data" / "lang")


@pytest.fixture(scope="module")
def shards(
    config: Config, exp_dir: Path, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Config:
    """Settings of training from shards, which tests must not modify."""
    folder = tmp_path_factory.mktemp("shar")
    data = replace(config.data, shar_dir=str(folder), shar_utterances=7, shar_buffer=30)
    with_shards = replace(config, data=data)
    write_shar(load_train_cuts(exp_dir / "data"), with_shards, tokenizer)
    return with_shards


@pytest.fixture
def copied(shards: Config, tmp_path: Path) -> Config:
    """Copy of the shards, which tests damage."""
    shutil.copytree(shards.data.shar_dir, tmp_path / "shar")
    return replace(shards, data=replace(shards.data, shar_dir=str(tmp_path / "shar")))


def _make(config: Config, tokenizer: Tokenizer, **options: Any) -> SharLoader:
    """Make a loader; options with names of settings of ``data`` change them."""
    settings = {key: options.pop(key) for key in list(options) if hasattr(config.data, key)}
    epoch, start_batch = options.pop("epoch", 0), options.pop("start_batch", 0)
    changed = replace(config, data=replace(config.data, **settings))
    if "subsampling_factor" in options:
        factor = options.pop("subsampling_factor")
        changed = replace(changed, model=replace(changed.model, subsampling_factor=factor))
    loader = make_train_loader(changed, Path("unused"), tokenizer, **{"seed": 3, **options})
    assert isinstance(loader, SharLoader)
    loader.set_epoch(epoch, start_batch)
    return loader


def _ids(batches: Iterable[Batch]) -> list[tuple[str, ...]]:
    return [batch.ids for batch in batches]


def _flat(batches: Iterable[Batch]) -> list[str]:
    return [item for batch in batches for item in batch.ids]


def _assert_same(found: Iterable[Batch], expected: Iterable[Batch]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.ids, one.texts) == (other.ids, other.texts)
        for name in ("feats", "feat_lens", "labels", "label_lens"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_an_epoch_holds_what_the_manifests_hold(shards: Config, exp_dir: Path, tokenizer: Tokenizer) -> None:
    loader = _make(shards, tokenizer)
    batches = list(loader)
    cuts = {cut.id: cut for cut in load_train_cuts(exp_dir / "data")}
    assert sorted(_flat(batches)) == sorted(cuts)
    assert len(batches) == loader.count_batches(0) > 8
    for batch in batches:
        assert batch.feat_lens.sum() / 100 <= shards.data.max_duration + 0.1
        for row, (item, length) in enumerate(zip(batch.ids, batch.feat_lens, strict=True)):
            assert torch.equal(batch.feats[row, :length], torch.from_numpy(cuts[item].load_features()))
        assert batch.texts == tuple(cuts[item].supervisions[0].text for item in batch.ids)


def test_lhotse_reads_the_shards(shards: Config, exp_dir: Path) -> None:
    cuts = list(CutSet.from_shar(in_dir=Path(shards.data.shar_dir) / "shards"))
    assert [cut.id for cut in cuts] == [cut.id for cut in load_train_cuts(exp_dir / "data")]
    assert not any(cut.has_recording for cut in cuts)


def test_order_depends_on_seed_and_epoch_alone(shards: Config, tokenizer: Tokenizer) -> None:
    one = _make(shards, tokenizer)
    first = _ids(one)
    torch.rand(3)
    random.random()
    assert _ids(one) == first
    one.set_epoch(1)
    second = _ids(one)
    assert second != first and sorted(sum(second, ())) == sorted(sum(first, ()))
    assert _ids(_make(shards, tokenizer, epoch=1)) == second
    other = _make(shards, tokenizer, seed=4)
    assert _ids(other) != first
    assert len({loader._plan(epoch)[0].shards for loader in (one, other) for epoch in range(2)}) == 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_in_mid_epoch_is_exact(
    shards: Config, tokenizer: Tokenizer, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.get_rng_state()
    options: dict[str, Any] = {"epoch": 2, "num_workers": num_workers, "shar_buffer": 10}
    whole = list(_make(shards, tokenizer, **options))
    opened: list[int] = []

    def record(location: str, index: Any, shard: int, wanted: Any) -> Iterator[Any]:
        opened.extend([shard] if wanted else [])
        return shar.read_shard(location, index, shard, wanted)

    monkeypatch.setattr(shar_loader, "read_shard", record)
    for start in (1, 2, 5, len(whole) - 3, len(whole)):
        opened.clear()
        _assert_same(_make(shards, tokenizer, start_batch=start, **options), whole[start:])
    assert torch.equal(torch.get_rng_state(), state)
    if num_workers == 0:
        list(_make(shards, tokenizer, start_batch=len(whole) - 3, **options))
        assert 0 < len(opened) < NUM_SHARDS / 2


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 0), (2, 2)])
def test_ranks_share_the_epoch_evenly(
    shards: Config, exp_dir: Path, tokenizer: Tokenizer, world_size: int, num_workers: int
) -> None:
    everything = sorted(cut.id for cut in load_train_cuts(exp_dir / "data"))
    for epoch in range(3):
        ranks = [
            list(
                _make(shards, tokenizer, epoch=epoch, rank=r, world_size=world_size, num_workers=num_workers)
            )
            for r in range(world_size)
        ]
        assert len({len(batches) for batches in ranks}) == 1
        assert sorted(item for batches in ranks for item in _flat(batches)) == everything


def test_loader_processes_read_disjoint_shards(shards: Config, tokenizer: Tokenizer) -> None:
    loader = _make(shards, tokenizer, num_workers=3)
    streams = loader._plan(0)
    assert sorted(shard for stream in streams for shard in stream.shards) == list(range(NUM_SHARDS))
    ids = [[cut.id for cut in CutSet.from_file(path)] for path in _files(shards, "cuts")]
    for number, batch in enumerate(loader):
        assert set(batch.ids) <= {item for shard in streams[number % 3].shards for item in ids[shard]}


def test_halving_keeps_every_utterance_in_place() -> None:
    batches = [((0, 0), (0, 1), (0, 2)), ((1, 0),), ((2, 0), (2, 1))]
    flat = [key for batch in batches for key in batch]
    for count in range(3, 7):
        found = split_batches(batches, count)
        assert len(found) == count and all(found)
        assert [key for batch in found for key in batch] == flat
    assert split_batches(batches, 4) == (((0, 0),), ((0, 1), (0, 2)), *batches[1:])


def test_audio_shards_give_the_features_of_the_audio(
    corpus: Path, config: Config, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    location = str(tmp_path / "shar")
    data = replace(
        config.data, store_features=False, speed_factors=(1.0, 0.9), shar_dir=location, shar_utterances=10
    )
    figures = prepare(replace(config, data=data), corpus, tmp_path)
    assert figures["shar"] == {"shards": 5, "training cuts": 48, "hours": pytest.approx(0.0176, rel=0.01)}
    assert read_index(location).field == "recording"
    cuts = {cut.id: cut for cut in load_train_cuts(tmp_path / "data")}
    extractor = make_extractor()
    batches = list(_make(replace(config, data=data), tokenizer))
    assert sorted(_flat(batches)) == sorted(cuts)
    for batch in batches:
        for row, (item, length) in enumerate(zip(batch.ids, batch.feat_lens, strict=True)):
            expected = torch.from_numpy(load_features(cuts[item], extractor))
            # of the originals no bit is lost; a speed copy has been rounded to 16 bits
            tolerance = 2e-2 if item.endswith("_sp0.9") else 1e-4
            torch.testing.assert_close(batch.feats[row, :length], expected, rtol=0.0, atol=tolerance)


def test_shards_are_read_through_a_command(shards: Config, tokenizer: Tokenizer) -> None:
    location = f"pipe:cat {shards.data.shar_dir}/{{}}"
    _assert_same(_make(shards, tokenizer, shar_dir=location), list(_make(shards, tokenizer)))
    with pytest.raises(UserError, match="has no placeholder for the file name"):
        _make(shards, tokenizer, shar_dir="pipe:cat somewhere")
    with pytest.raises(UserError, match=r"^pipe:echo half; sleep 0\.1; exit 5 # index\.json: [^\n]*$"):
        _make(shards, tokenizer, shar_dir="pipe:echo half; sleep 0.1; exit 5 # {}")


def test_a_failed_command_is_reported_only_if_read_to_the_end(shards: Config) -> None:
    folder, index = shards.data.shar_dir, read_index(shards.data.shar_dir)
    location = f"pipe:cat {folder}/{{}}; case {{}} in *.tar) sleep 0.1; exit 23;; esac"
    assert [position for position, _ in shar.read_shard(location, index, 0, {0, 1})] == [0, 1]
    # nothing comes, and lhotse would take that for an empty file
    location = f"pipe:case {{}} in *.tar) exec >&-; sleep 0.1; exit 22;; *) cat {folder}/{{}};; esac"
    with pytest.raises(UserError, match=r"its command failed: exit 22\); check that it exists and can be"):
        list(shar.read_shard(location, index, 0, {0}))


class _Server(SimpleHTTPRequestHandler):
    """Web server of a folder that damages NAME if a file NAME.cut, .silent or .busy exists.

    ``cut`` ends after half of the file, ``silent`` stops sending there, ``busy`` is one temporary error.
    """

    def log_message(self, *_words: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if Path(f"{path}.busy").exists():
            Path(f"{path}.busy").unlink()
            self.send_error(503)
        elif (cut := Path(f"{path}.cut")).exists() or Path(f"{path}.silent").exists():
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            if not cut.exists():
                self.rfile.read(1)  # until the other side gives up
        else:
            super().do_GET()


@contextmanager
def _served(config: Config) -> Iterator[str]:
    """The URL of the shards."""
    handler = functools.partial(_Server, directory=config.data.shar_dir)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_are_read_from_a_web_server(shards: Config, tokenizer: Tokenizer, num_workers: int) -> None:
    expected = list(_make(shards, tokenizer, num_workers=num_workers))
    with _served(shards) as url:
        _assert_same(_make(shards, tokenizer, shar_dir=url + "/", num_workers=num_workers), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_errors_of_a_web_server_name_the_file(
    copied: Config, tokenizer: Tokenizer, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shar, "RETRY_DELAYS", (0.0,))
    path = _files(copied, "features")[4]
    with _served(copied) as url:
        loader = _make(copied, tokenizer, shar_dir=url, num_workers=num_workers)
        beginning = rf"^{url}/shards/features\.000004\.tar: cannot be read \("
        fix = r"[^\n]*\); check that it exists and can be reached, then run the same command again$"
        for trouble, reason in (("cut", "unexpected end of data"), ("silent", "timed out")):
            Path(f"{path}.{trouble}").touch()
            monkeypatch.setattr(shar, "TIMEOUT", 2.0 if trouble == "silent" else 60.0)
            with pytest.raises(UserError, match=beginning + reason + fix):
                list(loader)
            Path(f"{path}.{trouble}").unlink()
        monkeypatch.undo()
        monkeypatch.setattr(shar, "RETRY_DELAYS", (0.0,))
        Path(f"{path}.busy").touch()
        assert len(list(loader)) == loader.count_batches(0)  # it is asked once more
        path.unlink()
        with pytest.raises(UserError, match=beginning + "HTTP Error 404" + fix):
            list(loader)
    with pytest.raises(UserError, match=rf"^{url}/shards/.*refused" + fix):
        list(loader)
    with pytest.raises(UserError, match=rf"^{url}/index.json: cannot be read .*refused" + fix):
        _make(copied, tokenizer, shar_dir=url)


def _failing(reason: Exception) -> Any:
    """Fail to open a source and hide the reason, as lhotse does."""

    def fail(source: str, mode: str) -> Any:
        try:
            raise reason
        except type(reason):
            raise ValueError("install smart_open") from None

    return fail


def test_other_addresses_need_a_package(
    shards: Config, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shar, "open_best", _failing(PermissionError("no such bucket")))
    monkeypatch.setattr(shar, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^s3://bucket/index.json: cannot be read without the package"):
        _make(shards, tokenizer, shar_dir="s3://bucket")
    monkeypatch.setattr(shar, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"^s3://bucket/index.json: cannot be read \(no such bucket\); check"):
        _make(shards, tokenizer, shar_dir="s3://bucket")
    monkeypatch.setattr(shar, "open_best", _failing(ImportError("no boto3")))
    with pytest.raises(
        UserError, match=r"^s3://bucket/index.json: smart_open lacks what it needs for s3; run"
    ):
        _make(shards, tokenizer, shar_dir="s3://bucket")


def test_a_foreign_file_in_place_of_a_shard_is_named(copied: Config, tokenizer: Tokenizer) -> None:
    path = _files(copied, "cuts")[4]
    path.write_bytes(gzip.compress(b"<html>nothing here</html>\n"))
    with pytest.raises(UserError, match=rf"^{path}: holds no list of utterances .*copy the shards again$"):
        list(_make(copied, tokenizer))


def _files(config: Config, kind: str) -> list[Path]:
    return sorted((Path(config.data.shar_dir) / "shards").glob(f"{kind}.*"))


def _tear(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * keep)])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["cuts", "features"])
def test_a_missing_shard_is_named(copied: Config, tokenizer: Tokenizer, kind: str, num_workers: int) -> None:
    gone = _files(copied, kind)[4]
    gone.unlink()
    with pytest.raises(UserError, match=f"^{gone}: cannot be read .*No such file[^\n]*$"):
        list(_make(copied, tokenizer, num_workers=num_workers))
    with pytest.raises(UserError, match=f"cat .*{kind}.000004"):
        list(_make(copied, tokenizer, shar_dir=f"pipe:cat {copied.data.shar_dir}/{{}}"))


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["cuts", "features"])
def test_a_truncated_shard_is_named(copied: Config, tokenizer: Tokenizer, kind: str, keep: float) -> None:
    torn = _files(copied, kind)[4]
    _tear(torn, keep)
    with pytest.raises(UserError, match=f"^{torn}: [^\n]*$"):
        list(_make(copied, tokenizer))


def test_shards_of_another_corpus_are_noticed(copied: Config, tokenizer: Tokenizer) -> None:
    one, other = _files(copied, "features")[2:4]
    right = one.read_bytes()
    shutil.copy(other, one)
    with pytest.raises(UserError, match=rf"^{one}: .*it holds '.*' where '.*' was expected"):
        list(_make(copied, tokenizer))
    one.write_bytes(right)
    cuts = _files(copied, "cuts")
    shutil.copy(cuts[-1], cuts[0])
    with pytest.raises(UserError, match=rf"^{cuts[0]}: 2 utterances where the index has 7"):
        list(_make(copied, tokenizer))


def test_a_missing_or_broken_index_is_named(copied: Config, tokenizer: Tokenizer) -> None:
    path = Path(copied.data.shar_dir) / "index.json"
    for text in ("[]", "{}", '{"durations": [1]}', "half"):
        path.write_text(text)
        with pytest.raises(UserError, match=f"^{path}: not an index of shards"):
            _make(copied, tokenizer)
    path.unlink()
    with pytest.raises(UserError, match=f"^{path}: cannot be read"):
        _make(copied, tokenizer)


def test_stricter_limits_of_another_run_are_applied_and_counted(
    shards: Config, exp_dir: Path, tokenizer: Tokenizer
) -> None:
    cuts = list(load_train_cuts(exp_dir / "data"))
    assert not _make(shards, tokenizer).dropped
    narrow = _make(shards, tokenizer, min_utterance=0.8, max_utterance=1.5)
    assert sorted(_flat(narrow)) == sorted(cut.id for cut in cuts if 0.8 <= cut.duration <= 1.5)
    assert narrow.dropped == {
        "shorter than data.min_utterance": sum(cut.duration < 0.8 for cut in cuts),
        "longer than data.max_utterance": sum(cut.duration > 1.5 for cut in cuts),
    }
    with pytest.raises(UserError, match="0 usable utterances"):
        _make(shards, tokenizer, min_utterance=20.0)

    letters = Tokenizer.train(["ONE TWO THREE FOUR"], 14)  # several labels to a word
    coarse = _make(shards, letters, subsampling_factor=8)
    fitting = [cut.id for cut in cuts if _fits(cut, letters)]
    assert sorted(_flat(coarse)) == sorted(fitting)
    assert coarse.dropped == {"text longer than its frames allow": 72 - len(fitting)}
    assert 0 < len(fitting) < 72


def _fits(cut: Any, tokenizer: Tokenizer) -> bool:
    frames = cut.num_frames
    for _ in range(3):
        frames = (frames - 1) // 2
    return len(tokenizer.encode([cut.supervisions[0].text])[0]) <= frames


def test_unsupported_settings_are_refused(
    shards: Config, config: Config, exp_dir: Path, corpus: Path, tokenizer: Tokenizer
) -> None:
    with pytest.raises(UserError, match=r"data\.sortagrad: shards cannot be read in order"):
        _make(shards, tokenizer, sortagrad=True)
    with pytest.raises(UserError, match="11 shards for 3 processes with 4 readers each"):
        _make(shards, tokenizer, num_workers=4, world_size=3)
    for location in ("", "pipe:cat {}", "s3://bucket/corpus"):
        elsewhere = replace(config, data=replace(config.data, shar_dir=location))
        with pytest.raises(UserError, match=r"data\.shar_dir: .* is no folder"):
            prepare(elsewhere, corpus, exp_dir, ("shar",))


def test_writing_again_replaces_the_shards_and_nothing_else(
    copied: Config, exp_dir: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(copied.data.shar_dir)
    (root / "shards" / "notes.txt").write_text("mine")
    fewer = replace(copied, data=replace(copied.data, shar_utterances=30))
    write_shar(load_train_cuts(exp_dir / "data"), fewer, tokenizer)
    assert len(_files(fewer, "cuts")) == len(_files(fewer, "features")) == 3
    assert (root / "shards" / "notes.txt").read_text() == "mine"
    assert [len(shard) for shard in json.loads((root / "index.json").read_text())["durations"]] == [
        30,
        30,
        12,
    ]

    def full(self: Any, cut: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("todm.data.shar.SharWriter.write", full)
    with pytest.raises(UserError, match=f"^{root}: shards cannot be written .*No space left"):
        write_shar(load_train_cuts(exp_dir / "data"), fewer, tokenizer)
    assert not (root / "index.json").exists()


def test_the_longest_batches_are_those_of_the_epoch(shards: Config, tokenizer: Tokenizer) -> None:
    loader = _make(shards, tokenizer, epoch=1)
    found = loader.longest_batches(3)
    by_size = sorted(list(loader), key=lambda batch: -batch.feats.shape[0] * batch.feats.shape[1])
    assert [batch.feats.shape[:2].numel() for batch in found] == [
        batch.feats.shape[:2].numel() for batch in by_size[:3]
    ]
    assert {batch.ids for batch in found} <= {batch.ids for batch in loader}


def test_the_first_cuts_are_those_of_the_manifest(shards: Config, config: Config, exp_dir: Path) -> None:
    for count in (0, 3, 7, 20, 100):
        found = first_train_cuts(shards.data, Path("unused"), count)
        expected = first_train_cuts(config.data, exp_dir / "data", count)
        assert [cut.id for cut in found] == [cut.id for cut in expected]
    assert (found[-1].load_features() == expected[-1].load_features()).all()


def test_the_stage_runs_by_default_only_with_a_folder_for_it(config: Config, tmp_path: Path) -> None:
    for part in ("train-here", "dev-here"):
        write_part(tmp_path / "LibriSpeech", part, 4)
    for location, expected in (("", False), ("pipe:cat {}", False), (str(tmp_path / "shar"), True)):
        data = replace(config.data, shar_dir=location, speed_factors=(1.0,))
        figures = prepare(replace(config, data=data), tmp_path, tmp_path / "exp")
        assert ("shar" in figures) is expected
