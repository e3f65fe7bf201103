"""``todm prepare``: from a corpus folder to what training reads, in stages that can be run again.

EXP/data/manifests/recordings_<part>.jsonl.gz, supervisions_<part>.jsonl.gz     stage manifests
EXP/data/manifests/train_<part>.jsonl.gz (speed copies), cuts_<part>.jsonl.gz   stage features
EXP/data/feats/train_<part>/, feats/<part>/, stats.json                         stage features
EXP/data/lang/{bpe.model,bpe.vocab,tokens.txt}, manifests/train.jsonl.gz        stage bpe
data.shar_dir/, if it is a folder                                               stage shar
EXP/data/skipped.json                                                           every stage
"""

from __future__ import annotations

import gzip
import json
import logging
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lhotse import CutSet, RecordingSet, SupervisionSet

from todm.config import Config
from todm.data.corpus import Skipped, make_cuts, read_part
from todm.data.features import feature_stats, perturb_speed, relative_features, store_features
from todm.data.fit import TOO_MANY_LABELS, duration_problem, length_problem
from todm.data.loader import MANIFESTS, TRAIN_MANIFEST, load_train_cuts
from todm.data.shar import write_shar
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError
from todm.files import atomic_path, write_json

STAGES = ("manifests", "features", "bpe", "shar")


def prepare(
    config: Config, corpus_dir: Path, exp_dir: Path, stages: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Run some stages, in the order given by `STAGES`.

    Args:
        config: `data` and the model's `subsampling_factor` are used.
        corpus_dir: the folder of the parts, or its parent; only the stage ``manifests`` reads it.
        exp_dir: run folder; everything goes to its ``data`` folder.
        stages: some of `STAGES`; by default all, ``shar`` only if ``data.shar_dir`` is a folder.

    Returns:
        Figures of each stage that ran, for printing.

    Raises:
        UserError: for a missing folder or part, a stage whose predecessor has not run, a full disk.
    """
    for stage in stages:
        if stage not in STAGES:
            raise UserError(f"--stage {stage}: no such stage; use one of: {', '.join(STAGES)}")
    if not stages:
        stages = STAGES if config.data.writes_shards else STAGES[:-1]
    data_dir = exp_dir.resolve() / "data"
    figures: dict[str, dict[str, float]] = {}
    if "manifests" in stages:
        figures["manifests"] = _write_manifests(config, corpus_dir, data_dir)
    if "features" in stages:
        figures["features"] = _write_features(config, data_dir)
    if "bpe" in stages:
        figures["bpe"] = _write_bpe(config, data_dir)
    if "shar" in stages:
        index = write_shar(load_train_cuts(data_dir), config, Tokenizer.load(data_dir / "lang"))
        seconds = sum(map(sum, index.durations))
        utterances = sum(map(len, index.durations))
        shards = len(index.durations)
        figures["shar"] = {"shards": shards, "training cuts": utterances, "hours": seconds / 3600}
    return figures


def _write_manifests(config: Config, corpus_dir: Path, data_dir: Path) -> dict[str, float]:
    data = config.data
    folder = data_dir / MANIFESTS
    figures: dict[str, float] = {}
    skipped: list[Skipped] = []
    for name in dict.fromkeys((*data.train_parts, *data.dev_parts, *data.test_parts)):
        part = read_part(corpus_dir, name, num_jobs=data.num_jobs)
        skipped += part.skipped
        for kind, manifest in (("recordings", part.recordings), ("supervisions", part.supervisions)):
            with atomic_path(folder / f"{kind}_{name}.jsonl.gz") as temporary:
                manifest.to_file(temporary)
        figures[f"{name} utterances"] = len(part.recordings)
        figures[f"{name} hours"] = sum(recording.duration for recording in part.recordings) / 3600
    figures["skipped"] = _record_skipped(data_dir, "manifests", skipped)
    return figures


def _write_features(config: Config, data_dir: Path) -> dict[str, float]:
    data = config.data
    skipped: list[Skipped] = []
    train: list[CutSet] = []
    figures: dict[str, float] = {}
    for part in data.train_parts:
        cuts = _drop_by_duration(_part_cuts(data_dir, part), config, part, skipped)
        cuts = perturb_speed(cuts, data.speed_factors)
        train.append(_finish_cuts(cuts, config, data_dir, f"train_{part}", part, skipped))
        figures[f"{part} training cuts"] = len(train[-1])
    for part in dict.fromkeys((*data.dev_parts, *data.test_parts)):
        cuts = _finish_cuts(_part_cuts(data_dir, part), config, data_dir, f"cuts_{part}", part, skipped)
        figures[f"{part} cuts"] = len(cuts)
    everything = CutSet.from_cuts(cut for cuts in train for cut in cuts)
    write_json(data_dir / "stats.json", feature_stats(everything.with_features_path_prefix(data_dir)))
    figures["skipped"] = _record_skipped(data_dir, "features", skipped)
    return figures


def _write_bpe(config: Config, data_dir: Path) -> dict[str, float]:
    data = config.data
    texts = []
    for part in data.train_parts:
        supervisions = _read(data_dir, f"supervisions_{part}.jsonl.gz", SupervisionSet, "manifests")
        texts += sorted(str(supervision.text) for supervision in supervisions)
    tokenizer = Tokenizer.train(texts, data.vocab_size, data.token_type)
    tokenizer.save(data_dir / "lang")

    skipped: list[Skipped] = []
    lines: list[tuple[str, str]] = []  # id and JSON; cut objects would take several times the memory
    for part in data.train_parts:
        path = data_dir / MANIFESTS / f"train_{part}.jsonl.gz"
        if not path.is_file():
            raise UserError(f"{path}: no such manifest; run 'todm prepare --stage features' first")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                cut = json.loads(line)
                text = cut["supervisions"][0]["text"]
                problem = length_problem(text, cut["duration"], tokenizer, config.model.subsampling_factor)
                if problem:
                    skipped.append(
                        Skipped(stage="bpe", part=part, id=cut["id"], reason=TOO_MANY_LABELS, detail=problem)
                    )
                else:
                    lines.append((cut["id"], line))
    # The sampler shuffles within a window of some thousand cuts only, so mix the parts here. Sorting
    # first makes the order independent of how many processes computed the features.
    lines.sort()
    random.Random(0).shuffle(lines)
    with (
        atomic_path(data_dir / MANIFESTS / TRAIN_MANIFEST) as temporary,
        gzip.open(temporary, "wt", encoding="utf-8", compresslevel=3) as file,
    ):
        file.writelines(line for _, line in lines)
    return {
        "vocab size": tokenizer.vocab_size,
        "training cuts": len(lines),
        "skipped": _record_skipped(data_dir, "bpe", skipped),
    }


def _part_cuts(data_dir: Path, part: str) -> CutSet:
    return make_cuts(
        _read(data_dir, f"recordings_{part}.jsonl.gz", RecordingSet, "manifests"),
        _read(data_dir, f"supervisions_{part}.jsonl.gz", SupervisionSet, "manifests"),
    )


def _read(data_dir: Path, name: str, kind: Any, stage: str) -> Any:
    path = data_dir / MANIFESTS / name
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; run 'todm prepare --stage {stage}' first")
    return kind.from_file(path)


def _drop_by_duration(cuts: CutSet, config: Config, part: str, skipped: list[Skipped]) -> CutSet:
    data = config.data
    kept = []
    for cut in cuts:
        problem = duration_problem(cut.duration, data.min_utterance, data.max_utterance)
        if problem:
            detail = f"{cut.duration:.2f} s"
            skipped.append(Skipped(stage="features", part=part, id=cut.id, reason=problem, detail=detail))
        else:
            kept.append(cut)
    if not kept:
        raise UserError(
            f"data.min_utterance, data.max_utterance: none of the {len(cuts)} utterances of '{part}' lasts "
            f"{data.min_utterance} to {data.max_utterance} s; widen the range"
        )
    return CutSet.from_cuts(kept)


def _finish_cuts(
    cuts: CutSet, config: Config, data_dir: Path, name: str, part: str, skipped: list[Skipped]
) -> CutSet:
    """Store features if wanted and write the manifest last: where it is, the features are complete."""
    manifest = data_dir / MANIFESTS / f"{name}.jsonl.gz"
    manifest.unlink(missing_ok=True)
    if config.data.store_features:
        folder = data_dir / "feats" / name.removeprefix("cuts_")
        try:
            done = store_features(cuts, folder, num_jobs=config.data.num_jobs)
        except OSError as error:
            raise UserError(f"{folder}: features cannot be written ({error}); free some space") from error
        missing = {cut.id for cut in cuts} - {cut.id for cut in done}
        skipped += (
            Skipped(stage="features", part=part, id=cut_id, reason="unreadable audio")
            for cut_id in sorted(missing)
        )
        cuts = CutSet.from_cuts(relative_features(done, data_dir))
    with atomic_path(manifest) as temporary:
        cuts.to_file(temporary)
    return cuts


def _record_skipped(data_dir: Path, stage: str, skipped: Iterable[Skipped]) -> int:
    """Replace a stage's entries in ``skipped.json``; returns how many it has now."""
    path = data_dir / "skipped.json"
    entries = json.loads(path.read_text(encoding="utf-8"))["utterances"] if path.is_file() else []
    mine = [asdict(item) for item in skipped]
    # an earlier stage that runs again makes the later stages' findings stale
    later = STAGES[STAGES.index(stage) :]
    entries = [entry for entry in entries if entry["stage"] not in later] + mine
    reasons = Counter(entry["reason"] for entry in entries)
    write_json(path, {"total": len(entries), "reasons": dict(sorted(reasons.items())), "utterances": entries})
    for entry in mine[:10]:
        logging.getLogger(__name__).warning(
            "%s: skipped, %s %s", entry["id"], entry["reason"], entry["detail"]
        )
    return len(mine)
