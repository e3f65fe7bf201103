"""Training corpora as Lhotse Shar shards, which are read sequentially, from a disk or remotely.

LOCATION/shards/cuts.000000.jsonl.gz, ...        utterances and texts
LOCATION/shards/features.000000.tar, ...         float32 frames, or recording.000000.tar: audio as FLAC
LOCATION/index.json                              durations, and settings that the utterances were chosen by

``shards`` is a folder in lhotse's format (``CutSet.from_shar``). Training plans an epoch from the index
alone. The index is written last, so the shards of an existing index are complete.

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
"""Content of a shard besides its cuts, and lhotse's writer for it; both keep at least 16 bits."""

_OURS = re.compile(r"(cuts\.\d{6}\.jsonl\.gz|(features|recording)\.\d{6}\.tar)")
_READ_ERRORS = (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, RuntimeError, HTTPException)
_LIBRARIES = ("azure", "botocore", "google", "requests", "smart_open", "urllib3")
"""Libraries that read from object storage; their errors have no common class."""

TIMEOUT = 60.0
"""Seconds without data after which a request has failed."""
RETRY_DELAYS = (1.0, 5.0)
"""Seconds before each further request to a web server that cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class SharIndex:
    """Description of all shards.

    Args:
        field: data of a cut: ``features`` or ``recording``.
        durations: for each shard the durations of its utterances in seconds, in order.
        min_utterance: setting (`todm.config.DataConfig`) with which the utterances were chosen.
        max_utterance: likewise.
        subsampling_factor: likewise, for the check of the numbers of labels.
        tokenizer: `digest_tokenizer` of the tokenizer of that check.
    """

    field: str
    durations: tuple[array[float], ...]
    min_utterance: float
    max_utterance: float
    subsampling_factor: int
    tokenizer: str


def digest_tokenizer(tokenizer: Tokenizer) -> str:
    """Compute an identifier of a tokenizer."""
    return hashlib.sha256(tokenizer.model).hexdigest()[:16]


def join_source(location: str, name: str) -> str:
    """Build the path, URL or command by which lhotse reads the file `name`."""
    if location.startswith("pipe:"):
        return location.replace("{}", name)
    return f"{location.rstrip('/')}/{name}"


def write_shar(cuts: Iterable[Cut], config: Config, tokenizer: Tokenizer) -> SharIndex:
    """Write shards to ``data.shar_dir``; existing shards are replaced.

    Args:
        cuts: training cuts in a random order, all with stored features or all without.
        config: settings with which the cuts were chosen.
        tokenizer: tokenizer with which the cuts were chosen.

    Returns:
        The index of the shards.

    Raises:
        UserError: ``data.shar_dir`` is no local folder or cannot be written.
    """
    data = config.data
    if not data.writes_shards:
        raise UserError(
            f"data.shar_dir: '{data.shar_dir}' is no folder; write the shards to one, copy it to its "
            "destination, and train with its URL or 'pipe:' command"
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
        raise UserError(f"{root}: shards cannot be written ({error}); fix that and run again") from error
    index = SharIndex(
        field=field,
        durations=tuple(durations),
        min_utterance=data.min_utterance,
        max_utterance=data.max_utterance,
        subsampling_factor=config.model.subsampling_factor,
        tokenizer=digest_tokenizer(tokenizer),
    )
    write_json(root / INDEX_FILE, vars(index) | {"durations": [list(shard) for shard in durations]})
    return index


def read_index(location: str) -> SharIndex:
    """Read the index of the shards at `location`.

    Raises:
        UserError: the file is missing or not an index.
    """
    if location.startswith("pipe:") and "{}" not in location:
        raise UserError(f"data.shar_dir: '{location}' has no placeholder for the file name; add {{}}")
    source = join_source(location, INDEX_FILE)
    text = _read(source)
    try:
        content = json.loads(text)
        durations = tuple(array("d", shard) for shard in content.pop("durations"))
        return SharIndex(durations=durations, **content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source}: not an index of shards; run 'todm prepare --stage shar' again") from error


def read_shard(location: str, index: SharIndex, shard: int, wanted: Set[int]) -> Iterator[tuple[int, Cut]]:
    """Read cuts of one shard, with their audio or features in memory, in order.

    Args:
        location: location of the shards.
        index: index of the shards.
        shard: number of the shard, from 0.
        wanted: positions of the cuts in it, from 0; reading ends after the last one.

    Yields:
        Position and cut.

    Raises:
        UserError: a file is missing, truncated or belongs to other shards.
    """
    if not wanted:
        return
    lines = read_lines(location, index, shard)
    source = join_source(location, f"{FOLDER}/{index.field}.{shard:06d}.tar")
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
    """Read the cuts of one shard as JSON, without audio or features."""
    source = join_source(location, f"{FOLDER}/cuts.{shard:06d}.jsonl.gz")
    text = _read(source)
    try:
        lines = [json.loads(line) for line in text.splitlines()]
    except ValueError as error:  # for example an HTML page with an error message
        raise UserError(f"{source}: holds no list of utterances ({error}); copy the shards again") from error
    if len(lines) != len(index.durations[shard]):
        raise UserError(
            f"{source}: {len(lines)} utterances where the index has {len(index.durations[shard])}; "
            "copy the shards and their index again"
        )
    return lines


def _read(source: str) -> str:
    """Read a text file, compressed or not."""
    with _opened(source) as stream:
        content: bytes = stream.read()
        return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()


@contextmanager
def _opened(source: str, *, whole: bool = True) -> Iterator[Any]:
    """Open a stream of bytes and convert all its errors to `UserError`.

    Args:
        source: see `join_source`.
        whole: whether the stream is read to its end. If not, the exit status of a command is ignored, since
            some (curl) fail when their output is closed early.
    """
    try:
        stream = _open(source)
        must_succeed = whole
        try:
            yield stream
        except Exception:
            must_succeed = True  # the failure of a command is the more useful message
            raise
        finally:
            stream.close()
            if must_succeed:
                _check_command(stream)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if type(error) is Exception:  # raised by lhotse for pipes; the message begins with the command
            reason = f"its command failed: {reason.rpartition(': ')[2]}"
        elif not isinstance(error, _READ_ERRORS) and type(error).__module__.split(".")[0] not in _LIBRARIES:
            raise
        fix = "copy or write the shards again"
        if _is_remote(source):
            fix = "check that it exists and can be reached, then run the same command again"
        raise UserError(f"{source}: cannot be read ({reason}); {fix}") from error


def _check_command(stream: Any) -> None:
    """Raise if `stream` comes from a failed command, which lhotse does not notice if it ends late."""
    process = getattr(stream, "proc", None)
    if process is not None and process.returncode:
        raise OSError(f"its command failed: exit {process.returncode}")


def _is_remote(source: str) -> bool:
    return source.startswith("pipe:") or "://" in source


def _open(source: str) -> Any:
    """Open a source with lhotse; http with a timeout, which lhotse does not set."""
    if source.startswith(("http://", "https://")):
        return _open_web(source)
    try:
        return open_best(source, "rb")
    except ValueError as error:
        # lhotse's message is about smart_open for every error of the storage.
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
    for delay in (*RETRY_DELAYS, None):
        try:
            return urlopen(source, timeout=TIMEOUT)
        except (OSError, HTTPException) as error:
            refused = isinstance(error, HTTPError) and error.code < 500 and error.code not in (408, 429)
            if refused or delay is None:
                raise
            time.sleep(delay)
    raise AssertionError("the last request returns or raises")
