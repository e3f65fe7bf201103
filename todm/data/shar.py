"""Lhotse Shar: a training corpus as shards that are read from beginning to end, from a disk or elsewhere.

LOCATION/shards/cuts.000000.jsonl.gz, ...        utterances and texts
LOCATION/shards/features.000000.tar, ...         float32 frames, or recording.000000.tar: audio as FLAC
LOCATION/index.json                              durations, and what the utterances were chosen by

``shards`` is a folder that lhotse reads (``CutSet.from_shar``). The index lets a training plan an epoch
without reading anything else; it is written last: where it is, the shards are complete.

LOCATION is a folder, a URL (http or https; others, such as s3, with the package smart_open), or ``pipe:`` and
a shell command that writes the file ``{}`` to its standard output.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tarfile
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from lhotse.audio import AudioLoadingError
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item, open_best
from lhotse.shar.readers.tar import iterate_tarfile_pairwise
from lhotse.shar.utils import fill_shar_placeholder
from lhotse.shar.writers import SharWriter

from todm.config import Config
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError
from todm.files import write_json

INDEX_FILE = "index.json"
FOLDER = "shards"
WRITERS = {"features": "numpy", "recording": "flac"}
"""What a shard holds besides its cuts, and how lhotse shall store it; neither loses more than 16 bits do."""

_OURS = re.compile(r"(cuts\.\d{6}\.jsonl\.gz|(features|recording)\.\d{6}\.tar)")
_READ_ERRORS = (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, RuntimeError, HTTPException)
_LIBRARIES = ("azure", "botocore", "google", "requests", "smart_open", "urllib3")
"""They read from object storage, and their errors have no class in common."""

SILENCE = 60.0
"""Seconds without a byte after which a web server has failed."""
PAUSES = (1.0, 5.0)
"""Seconds before a web server that cannot be reached is asked again."""


@dataclass(frozen=True, kw_only=True)
class SharIndex:
    """What is in the shards.

    Args:
        field: what belongs to a cut: ``features`` or ``recording``.
        durations: for each shard those of its utterances, seconds, in order.
        min_utterance: see `todm.config.DataConfig`; as it was when the shards were written.
        max_utterance: likewise.
        subsampling_factor: of the model whose frames had to hold the labels.
        tokenizer: `digest` of the one that made these labels.
    """

    field: str
    durations: tuple[array[float], ...]
    min_utterance: float
    max_utterance: float
    subsampling_factor: int
    tokenizer: str


def digest(tokenizer: Tokenizer) -> str:
    """A short name for exactly this tokenizer."""
    return hashlib.sha256(tokenizer.model).hexdigest()[:16]


def source_of(location: str, name: str) -> str:
    """Where lhotse finds the file `name`."""
    if location.startswith("pipe:"):
        return location.replace("{}", name)
    return f"{location.rstrip('/')}/{name}"


def write_shar(cuts: Iterable[Cut], config: Config, tokenizer: Tokenizer) -> SharIndex:
    """Write shards to ``data.shar_dir``, in place of those that are there.

    Args:
        cuts: training cuts in a random order, all with stored features or all without.
        config: `data` and the model's `subsampling_factor`; what the cuts were chosen by.
        tokenizer: likewise.

    Returns:
        What has been written.

    Raises:
        UserError: if ``data.shar_dir`` is no folder of this machine or cannot be written.
    """
    data = config.data
    if not data.writes_shards:
        raise UserError(
            f"data.shar_dir: '{data.shar_dir}' is no folder; write the shards to one, copy it to where they "
            "shall be, and train with its URL or 'pipe:' command"
        )
    root = Path(data.shar_dir)
    iterator = iter(cuts)
    first = next(iterator, None)
    if first is None:
        raise UserError("data.train_parts: no usable utterances to write shards of")
    field = "features" if first.has_features else "recording"
    durations: list[array[float]] = []
    try:
        (root / INDEX_FILE).unlink(missing_ok=True)
        for path in (root / FOLDER).glob("*"):
            if _OURS.fullmatch(path.name):
                path.unlink()
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        with SharWriter(root / FOLDER, {field: WRITERS[field]}, shard_size=data.shar_utterances) as writer:
            for count, cut in enumerate(chain([first], iterator)):
                writer.write(cut.drop_recording() if field == "features" else cut)
                if count % data.shar_utterances == 0:
                    durations.append(array("d"))
                durations[-1].append(cut.duration)
    except (OSError, AudioLoadingError) as error:
        raise UserError(f"{root}: shards cannot be written ({error}); mend that and run again") from error
    index = SharIndex(
        field=field,
        durations=tuple(durations),
        min_utterance=data.min_utterance,
        max_utterance=data.max_utterance,
        subsampling_factor=config.model.subsampling_factor,
        tokenizer=digest(tokenizer),
    )
    write_json(root / INDEX_FILE, vars(index) | {"durations": [list(shard) for shard in durations]})
    return index


def read_index(location: str) -> SharIndex:
    """The index of the shards at `location`.

    Raises:
        UserError: if it is not there or not an index.
    """
    if location.startswith("pipe:") and "{}" not in location:
        raise UserError(f"data.shar_dir: '{location}' does not say where a file's name goes; put {{}} there")
    source = source_of(location, INDEX_FILE)
    text = _read(source)
    try:
        content = json.loads(text)
        durations = tuple(array("d", shard) for shard in content.pop("durations"))
        return SharIndex(durations=durations, **content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source}: not an index of shards; run 'todm prepare --stage shar' again") from error


def read_shard(location: str, index: SharIndex, shard: int, wanted: Set[int]) -> Iterator[tuple[int, Cut]]:
    """Cuts of one shard with their audio or features in memory, in order.

    Args:
        location: of the shards.
        index: of the shards.
        shard: which one, from 0.
        wanted: positions in it, from 0; what lies behind the last one is not read.

    Yields:
        position and cut.

    Raises:
        UserError: for a file that is missing, torn, or of another corpus.
    """
    if not wanted:
        return
    lines = read_lines(location, index, shard)
    source = source_of(location, f"{FOLDER}/{index.field}.{shard:06d}.tar")
    with _opened(source, whole=False) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        items = iterate_tarfile_pairwise(tar)
        for position in range(max(wanted) + 1):
            item = next(items, None)
            if item is None:
                raise EOFError(f"it ends after {position} of {len(lines)} utterances")
            if position not in wanted:
                continue
            (content, path), (description, _) = item
            cut = deserialize_item(lines[position])
            if str(path.parent / path.stem) != cut.id:
                raise ValueError(f"it holds '{path}' where '{cut.id}' was expected")
            filled = deserialize_item(json.loads(description))
            fill_shar_placeholder(filled, data=content, tarpath=path)
            setattr(cut, index.field, filled)
            yield position, cut


def read_lines(location: str, index: SharIndex, shard: int) -> list[dict[str, Any]]:
    """The cuts of one shard as JSON, without audio or features."""
    source = source_of(location, f"{FOLDER}/cuts.{shard:06d}.jsonl.gz")
    text = _read(source)
    try:
        lines = [json.loads(line) for line in text.splitlines()]
    except ValueError as error:  # a page that says "not found" in its own way, for example
        raise UserError(f"{source}: holds no list of utterances ({error}); copy the shards again") from error
    if len(lines) != len(index.durations[shard]):
        raise UserError(
            f"{source}: {len(lines)} utterances where the index has {len(index.durations[shard])}; "
            "copy the shards and their index again"
        )
    return lines


def _read(source: str) -> str:
    """A text file, unpacked if need be."""
    with _opened(source) as stream:
        content: bytes = stream.read()
        return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()


@contextmanager
def _opened(source: str, *, whole: bool = True) -> Iterator[Any]:
    """A stream of bytes; whatever goes wrong with it becomes one sentence.

    Args:
        source: see `source_of`.
        whole: it is read to its end, so a command must succeed; otherwise what it says when its reader leaves
            early (curl calls that a failure) does not matter.
    """
    try:
        stream = _open(source)
        must_succeed = whole
        try:
            yield stream
        except Exception:
            must_succeed = True  # why a command failed says more than where its output broke off
            raise
        finally:
            stream.close()
            if must_succeed:
                _check_command(stream)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if type(error) is Exception:  # of lhotse's pipes, with the whole call in front
            reason = f"its command failed: {reason.rpartition(': ')[2]}"
        elif not isinstance(error, _READ_ERRORS) and type(error).__module__.split(".")[0] not in _LIBRARIES:
            raise
        fix = "copy or write the shards again"
        if _is_elsewhere(source):
            fix = "see that it is there and can be reached, then run the same command again"
        raise UserError(f"{source}: cannot be read ({reason}); {fix}") from error


def _check_command(stream: Any) -> None:
    """Raise if `stream` comes from a command that failed; lhotse overlooks it if the command ends late."""
    process = getattr(stream, "proc", None)
    if process is not None and process.returncode:
        raise OSError(f"its command failed: exit {process.returncode}")


def _is_elsewhere(source: str) -> bool:
    return source.startswith("pipe:") or "://" in source


def _open(source: str) -> Any:
    """What lhotse opens, but http by ourselves: it would wait for a silent server without end."""
    if source.startswith(("http://", "https://")):
        return _open_web(source)
    try:
        return open_best(source, "rb")
    except ValueError as error:
        # lhotse says "install smart_open" whatever the storage's own complaint was
        if "://" not in source or error.__context__ is None:
            raise
        if find_spec("smart_open") is None:
            raise UserError(
                f"{source}: cannot be read without the package smart_open; run pip install 'smart_open[all]'"
            ) from error
        if isinstance(error.__context__, (ImportError, NotImplementedError)):
            kind = source.partition("://")[0]
            raise UserError(
                f"{source}: smart_open lacks what it needs for {kind}; run pip install 'smart_open[all]'"
            ) from error
        raise error.__context__ from None


def _open_web(source: str) -> Any:
    for pause in (*PAUSES, None):
        try:
            return urlopen(source, timeout=SILENCE)
        except (OSError, HTTPException) as error:
            refused = isinstance(error, HTTPError) and error.code < 500 and error.code not in (408, 429)
            if refused or pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")
