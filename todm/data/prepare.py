"""Preparation of training data from a corpus folder, in stages that can be repeated.

manifests   recordings and supervisions of every part
sounds      archives of ``data.noise_dir`` and ``data.rir_dir``, if set
features    cuts of every part (with copies of other speeds for training), features, feature statistics
tokenizer   tokenizer, manifest of all training cuts in random order
shar        shards in ``data.shar_dir``, if it is a folder

Every stage records the utterances that it skips. `todm.layout.DataFolder` names the files.
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
from todm.data.features import compute_feature_stats, make_paths_relative, perturb_speed, store_features
from todm.data.fit import TOO_MANY_LABELS, check_duration, check_length
from todm.data.loader import load_train_cuts
from todm.data.shar import write_shar
from todm.data.sound_folders import check_sound_folders, write_sounds
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError
from todm.files import atomic_path, read_json, write_json
from todm.layout import DataFolder, RunFolder

STAGES = ("manifests", "sounds", "features", "tokenizer", "shar")
RENAMED_STAGES = {"bpe": "tokenizer"}
"""Earlier names of stages."""


def prepare(
    config: Config, corpus_dir: Path, exp_dir: Path, stages: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Run stages of the preparation, in the order of `STAGES`.

    Args:
        config: `data` and the model's `subsampling_factor` are used.
        corpus_dir: folder of the parts, or its parent; read by the stage ``manifests`` only.
        exp_dir: run folder; its ``data`` folder is written.
        stages: some of `STAGES`; by default all that the settings need, ``sounds`` only if
            ``data.noise_dir`` or ``data.rir_dir`` is set, ``shar`` only if ``data.shar_dir`` is a folder.

    Returns:
        Figures by stage, for printing.

    Raises:
        UserError: a missing folder or part, a stage whose predecessor has not run, a full disk.
    """
    for stage in stages:
        check_stage(stage)
    if not stages:
        unneeded = [
            *(["sounds"] if not config.data.uses_recordings else []),
            *(["shar"] if not config.data.writes_shards else []),
        ]
        stages = [stage for stage in STAGES if stage not in unneeded]
    check_sound_folders(config.data)
    data_dir = RunFolder(exp_dir.resolve()).data
    figures: dict[str, dict[str, float]] = {}
    if "manifests" in stages:
        figures["manifests"] = _write_manifests(config, corpus_dir, data_dir)
    if "sounds" in stages:
        figures["sounds"] = write_sounds(config.data, DataFolder(data_dir))
    if "features" in stages:
        figures["features"] = _write_features(config, data_dir)
    if "tokenizer" in stages:
        figures["tokenizer"] = _write_tokenizer(config, data_dir)
    if "shar" in stages:
        index = write_shar(load_train_cuts(data_dir), config, Tokenizer.load(DataFolder(data_dir).lang))
        seconds = sum(map(sum, index.durations))
        utterances = sum(map(len, index.durations))
        shards = len(index.durations)
        figures["shar"] = {"shards": shards, "training cuts": utterances, "hours": seconds / 3600}
    return figures


def check_stage(stage: str) -> None:
    """Raise `UserError` unless `stage` is one of `STAGES`."""
    if stage in RENAMED_STAGES:
        raise UserError(f"--stage {stage}: this stage is now called {RENAMED_STAGES[stage]}")
    if stage not in STAGES:
        raise UserError(f"--stage {stage}: no such stage; use one of: {', '.join(STAGES)}")


def _write_manifests(config: Config, corpus_dir: Path, data_dir: Path) -> dict[str, float]:
    data = config.data
    files = DataFolder(data_dir)
    figures: dict[str, float] = {}
    skipped: list[Skipped] = []
    for name in dict.fromkeys((*data.train_parts, *data.dev_parts, *data.test_parts)):
        part = read_part(corpus_dir, name, num_jobs=data.num_jobs)
        skipped += part.skipped
        manifests = ((files.recordings(name), part.recordings), (files.supervisions(name), part.supervisions))
        for path, manifest in manifests:
            with atomic_path(path) as temporary:
                manifest.to_file(temporary)
        figures[f"{name} utterances"] = len(part.recordings)
        figures[f"{name} hours"] = sum(recording.duration for recording in part.recordings) / 3600
    figures["skipped"] = _record_skipped(data_dir, "manifests", skipped)
    return figures


def _write_features(config: Config, data_dir: Path) -> dict[str, float]:
    data, files = config.data, DataFolder(data_dir)
    skipped: list[Skipped] = []
    train: list[CutSet] = []
    figures: dict[str, float] = {}
    for part in data.train_parts:
        cuts = _drop_by_duration(_part_cuts(data_dir, part), config, part, skipped)
        cuts = perturb_speed(cuts, data.speed_factors)
        files.train_cuts(part).unlink(missing_ok=True)  # a manifest exists only if its features are complete
        cuts, unreadable = _add_features(cuts, config, files, files.train_features(part))
        skipped += _unreadable(unreadable, part)
        _write_cuts(cuts, files.train_cuts(part))
        train.append(cuts)
        figures[f"{part} training cuts"] = len(train[-1])
    for part in dict.fromkeys((*data.dev_parts, *data.test_parts)):
        files.cuts(part).unlink(missing_ok=True)
        cuts, unreadable = _add_features(_part_cuts(data_dir, part), config, files, files.features(part))
        skipped += _unreadable(unreadable, part)
        _write_cuts(cuts, files.cuts(part))
        figures[f"{part} cuts"] = len(cuts)
    everything = CutSet.from_cuts(cut for cuts in train for cut in cuts)
    write_json(files.stats, compute_feature_stats(everything.with_features_path_prefix(data_dir)))
    figures["skipped"] = _record_skipped(data_dir, "features", skipped)
    return figures


def _write_tokenizer(config: Config, data_dir: Path) -> dict[str, float]:
    data, files = config.data, DataFolder(data_dir)
    texts = []
    for part in data.train_parts:
        supervisions = _read(files.supervisions(part), SupervisionSet)
        texts += sorted(str(supervision.text) for supervision in supervisions)
    tokenizer = Tokenizer.train(texts, data.vocab_size, data.token_type)
    tokenizer.save(files.lang)

    skipped: list[Skipped] = []
    lines: list[tuple[str, str]] = []  # ids and JSON, which take less memory than cuts
    for part in data.train_parts:
        path = files.train_cuts(part)
        if not path.is_file():
            raise UserError(f"{path}: no such manifest; run 'todm prepare --stage features' first")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                cut = json.loads(line)
                text = cut["supervisions"][0]["text"]
                problem = check_length(text, cut["duration"], tokenizer, config.model.subsampling_factor)
                if problem:
                    skipped.append(
                        Skipped(
                            stage="tokenizer", part=part, id=cut["id"], reason=TOO_MANY_LABELS, detail=problem
                        )
                    )
                else:
                    lines.append((cut["id"], line))
    # The sampler shuffles only within a window of some thousand cuts, so the parts are mixed here. Sorting
    # makes the order independent of the number of processes that computed the features.
    lines.sort()
    random.Random(0).shuffle(lines)
    with (
        atomic_path(files.train_manifest) as temporary,
        gzip.open(temporary, "wt", encoding="utf-8", compresslevel=3) as file,
    ):
        file.writelines(line for _, line in lines)
    return {
        "vocab size": tokenizer.vocab_size,
        "training cuts": len(lines),
        "skipped": _record_skipped(data_dir, "tokenizer", skipped),
    }


def _part_cuts(data_dir: Path, part: str) -> CutSet:
    files = DataFolder(data_dir)
    return make_cuts(
        _read(files.recordings(part), RecordingSet), _read(files.supervisions(part), SupervisionSet)
    )


def _read(path: Path, kind: Any) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; run 'todm prepare --stage manifests' first")
    return kind.from_file(path)


def _drop_by_duration(cuts: CutSet, config: Config, part: str, skipped: list[Skipped]) -> CutSet:
    data = config.data
    kept = []
    for cut in cuts:
        problem = check_duration(cut.duration, data.min_utterance, data.max_utterance)
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


def _add_features(cuts: CutSet, config: Config, files: DataFolder, folder: Path) -> tuple[CutSet, list[str]]:
    """Store the features of cuts in `folder` if ``data.store_features`` is set.

    Returns:
        The cuts, and the ids of those without readable audio.
    """
    if not config.data.store_features:
        return cuts, []
    try:
        done = store_features(cuts, folder, num_jobs=config.data.num_jobs)
    except OSError as error:
        raise UserError(f"{folder}: features cannot be written ({error}); free some space") from error
    unreadable = {cut.id for cut in cuts} - {cut.id for cut in done}
    return CutSet.from_cuts(make_paths_relative(done, files.path)), sorted(unreadable)


def _unreadable(ids: Iterable[str], part: str) -> list[Skipped]:
    return [Skipped(stage="features", part=part, id=cut_id, reason="unreadable audio") for cut_id in ids]


def _write_cuts(cuts: CutSet, path: Path) -> None:
    with atomic_path(path) as temporary:
        cuts.to_file(temporary)


def _record_skipped(data_dir: Path, stage: str, skipped: Iterable[Skipped]) -> int:
    """Replace the entries of a stage in ``skipped.json``; returns their number."""
    path = DataFolder(data_dir).skipped
    entries = read_json(path)["utterances"] if path.is_file() else []
    mine = [asdict(item) for item in skipped]
    # The entries of later stages are outdated, since they depend on this one.
    later = STAGES[STAGES.index(stage) :]
    stages = [RENAMED_STAGES.get(entry["stage"], entry["stage"]) for entry in entries]
    kept = [
        {**entry, "stage": stage} for entry, stage in zip(entries, stages, strict=True) if stage not in later
    ]
    entries = kept + mine
    reasons = Counter(entry["reason"] for entry in entries)
    write_json(path, {"total": len(entries), "reasons": dict(sorted(reasons.items())), "utterances": entries})
    for entry in mine[:10]:
        logging.getLogger(__name__).warning(
            "%s: skipped, %s %s", entry["id"], entry["reason"], entry["detail"]
        )
    return len(mine)
