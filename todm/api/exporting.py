"""Export subnets as ONNX bundles, with an optional accuracy check of their int8 files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from todm.api.results import ExportedBundle, ExportResult, GuardCheck
from todm.api.settings import replace_settings
from todm.data.part_audio import load_part_audio
from todm.deploy import saturation
from todm.deploy.bundle import write_bundle
from todm.deploy.guard import GuardError, LabelledAudio
from todm.errors import UserError
from todm.layout import ModelFolder, RunFolder
from todm.model_dir import load_subnet
from todm.runtime.layout import BundleFiles
from todm.search.front import SearchResult
from todm.space.spec import SubnetSpec


def export_subnets(
    jobs: Iterable[tuple[Path, Path]],
    *,
    guard_audio: LabelledAudio | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ExportResult:
    """Export subnet folders as bundles; a bundle that fails the int8 check does not stop the others.

    Args:
        jobs: pairs of a subnet folder and the folder of its bundle.
        guard_audio: utterances for the int8 accuracy check and for static quantization.
        settings: settings of the section ``export`` that replace those of the subnets' configs.

    Raises:
        UserError: not a subnet, or an impossible setting.
    """
    bundles, failures, full_range = [], [], False
    for source, target in jobs:
        net, config = load_subnet(source)
        config = replace_settings(config, "export", settings or {})
        if guard_audio is not None and not config.export.int8:
            raise UserError("export.int8: false leaves nothing to check; leave it or the guard options out")
        try:
            num_bytes = write_bundle(net, config, source, target, guard_audio=guard_audio)
        except GuardError as error:
            failures.append(str(error))
            continue
        full_range |= config.export.int8 and not config.export.reduce_range
        bundles.append(
            ExportedBundle(
                folder=target, num_bytes=num_bytes, guard=_read_check(BundleFiles(target).int8_report)
            )
        )
    hints = (saturation.HINT,) if full_range and saturation.saturates() else ()
    return ExportResult(bundles=tuple(bundles), failures=tuple(failures), hints=hints)


def load_guard_audio(corpus_dir: Path | None, part: str | None, num_utterances: int) -> LabelledAudio | None:
    """Load the utterances of the int8 accuracy check; None when no corpus and no part is given.

    Args:
        corpus_dir: folder in LibriSpeech's layout.
        part: folder of the corpus.
        num_utterances: maximum number of utterances; 0 takes all.
    """
    if (corpus_dir is None) != (part is None):
        raise UserError("--guard-corpus-dir and --guard-part belong together; give both or none")
    if corpus_dir is None or part is None:
        return None
    _, texts, samples = load_part_audio(corpus_dir, part, limit=num_utterances)
    return LabelledAudio(part=part, texts=texts, samples=samples)


def find_subnets(exp_dir: Path, names: Sequence[str] | None, *, pareto: bool = False) -> list[Path]:
    """List subnet folders of a run.

    Args:
        exp_dir: run folder.
        names: folder names; None takes all.
        pareto: only those whose spec the search chose, under whatever name.

    Raises:
        UserError: no subnets, an unknown name, or a chosen spec that was not extracted.
    """
    run = RunFolder(exp_dir)
    folders = run.find_subnets()
    if not folders:
        raise UserError(f"{run.subnets}: no subnets there; run 'todm extract' first")
    if names is not None:
        known = {path.name: path for path in folders}
        for name in names:
            if name not in known:
                raise UserError(f"{run.subnets}: no such subnet {name!r}; choose from {', '.join(known)}")
        folders = [known[name] for name in names]
    return _keep_chosen(run, folders) if pareto else folders


def _keep_chosen(run: RunFolder, folders: Sequence[Path]) -> list[Path]:
    specs = {path: SubnetSpec.load(ModelFolder(path).spec) for path in folders}
    chosen = {point.spec for point in SearchResult.load(run.pareto).chosen}
    if missing := sorted(spec.name for spec in chosen - set(specs.values())):
        raise UserError(
            f"{run.subnets}: {', '.join(missing)} not extracted; run "
            f"'todm extract --exp-dir {run.path} --pareto' first"
        )
    return [path for path, spec in specs.items() if spec in chosen]


def _read_check(path: Path) -> GuardCheck | None:
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return GuardCheck(
        part=record["part"],
        num_utterances=record["utterances"],
        wer=record["wer"],
        tolerance=record["allowance"],
        excluded=tuple(record["excluded"]),
    )
