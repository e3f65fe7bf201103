"""Stages 4 to 12: training and everything after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from todm.config import load_config
from todm.config.comparison import flatten_config, is_named
from todm.errors import UserError
from todm.layout import BenchFolder, ModelFolder
from todm.recipe.context import Context
from todm.recipe.data_stages import list_language_files, list_sound_indices
from todm.recipe.marks import Change
from todm.recipe.stage import Command, Stage

VERIFIED_UTTERANCES = 40
"""Utterances per bundle in stage 10: minutes for all sizes. ``todm verify`` alone takes all of a part."""


class TrainStage(Stage):
    """Stage 4: train the supernet."""

    number, name = 4, "train"
    settings = (
        "augment",
        "data.dev_parts",
        "data.max_duration",
        "data.max_utterance",
        "data.min_utterance",
        "data.num_buckets",
        "data.shar_buffer",
        "data.shar_dir",
        "data.sortagrad",
        "data.train_parts",
        "model",
        "space",
        "train",
    )
    unread_settings = ("train.calibrate_utterances",)

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List training cuts, statistics of their features, tokenizer, noise and rooms."""
        yield context.data.train_manifest
        yield context.data.stats
        yield from list_language_files(context)
        yield from list_sound_indices(context)

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List settings and the record of a complete training."""
        return context.run.config, context.run.finished

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm train``, which resumes from the newest checkpoint."""
        options = context.options
        yield (
            *("train", "--conf", str(options.conf), "--exp-dir", str(options.exp_dir)),
            *options.overrides,
        )

    def affects_training(self, change: Change, context: Context) -> bool:
        """Every change affects the training."""
        return True


class AverageStage(Stage):
    """Stage 5: average the weights, and decode the smallest and the largest net."""

    number, name = 5, "average"
    settings = ("data.dev_parts", "model", "space", "train.calibrate_utterances", "train.dropout")

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List the newest checkpoint."""
        return context.run.find_checkpoints()[:1]

    def list_corpus_parts(self, context: Context) -> Sequence[str]:
        """List the dev parts."""
        return context.config.data.dev_parts

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List averaged supernet and word error rates."""
        yield ModelFolder(context.run.supernet).weights
        for name in context.ends:
            for part in context.config.data.dev_parts:
                yield context.run.wer(f"supernet-{name}", part)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm average``, then ``todm decode`` of both nets on every dev part."""
        run = context.run
        yield "average", str(run.path), *_override(context, "train.calibrate_utterances")
        for name in context.ends:
            for part in context.config.data.dev_parts:
                out = run.wer(f"supernet-{name}", part)
                yield _decode(context, ("--model", str(run.supernet), "--spec", name), part, out)


class SearchStage(Stage):
    """Stage 6: search for the best specs."""

    number, name = 6, "search"
    settings = ("data.dev_parts", "search", "space")

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List averaged supernet, dev cuts and latency tables."""
        yield ModelFolder(context.run.supernet).weights
        yield from map(context.data.cuts, context.config.data.dev_parts)
        yield from context.run.find_devices()

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the Pareto front."""
        return (context.run.pareto,)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm search`` with the settings that differ from those of the training."""
        yield ("search", "--exp-dir", str(context.run.path), *_override(context, "search"))


class ExtractStage(Stage):
    """Stage 7: extract the named sizes and those that the search chose."""

    number, name = 7, "extract"
    settings = ("space",)

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List averaged supernet and Pareto front."""
        return ModelFolder(context.run.supernet).weights, context.run.pareto

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the weights of the smallest and the largest subnet."""
        return [ModelFolder(context.run.subnet(name)).weights for name in context.ends]

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm extract`` for both kinds of sizes."""
        yield "extract", "--exp-dir", str(context.run.path), "--ladder", "--pareto"


class FineTuneStage(Stage):
    """Stage 8: continue training one subnet on its own."""

    number, name = 8, "fine-tune"
    settings = ("augment", "data.dev_parts", "data.max_duration", "model", "space", "train")
    unread_settings = ("train.calibrate_utterances",)

    def mark_name(self, context: Context) -> str:
        """Return a name with that of the subnet."""
        return f"{self.number}-{context.options.fine_tune}"

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List the subnet and the training cuts."""
        subnet = context.run.subnet(context.options.fine_tune)
        return ModelFolder(subnet).weights, context.data.train_manifest

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the weights of the fine-tuned subnet."""
        return (ModelFolder(context.run.subnet(f"{context.options.fine_tune}-tuned")).weights,)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm train --fine-tune``."""
        yield "train", "--exp-dir", str(context.run.path), "--fine-tune", context.options.fine_tune


class DecodeStage(Stage):
    """Stage 9: decode every subnet on every dev and test part."""

    number, name = 9, "decode"
    settings = ("data.dev_parts", "data.test_parts")

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List weights and specs of all subnets."""
        return _list_subnet_files(context)

    def list_corpus_parts(self, context: Context) -> Sequence[str]:
        """List the dev and test parts."""
        return context.eval_parts

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the word error rates."""
        for folder in context.run.find_subnets():
            for part in context.eval_parts:
                yield context.run.wer(folder.name, part)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm decode`` of all that an interrupted stage left open."""
        folders = context.run.find_subnets()
        if not folders:
            raise UserError(f"{context.run.subnets}: no subnets there; run stage 7 first")
        for folder in folders:
            for part in context.eval_parts:
                out = context.run.wer(folder.name, part)
                if context.options.force or not _is_newer(out, ModelFolder(folder).weights, context, part):
                    yield _decode(context, ("--model", str(folder)), part, out)

    def clear_outdated(self, context: Context, changes: Sequence[Change]) -> None:
        """Remove the results on parts of the corpus that have changed."""
        changed = {change.key.removeprefix("corpus ") for change in changes}
        for path in context.run.find_wers():
            if path.stem in changed:
                path.unlink()


class ExportStage(Stage):
    """Stage 10: export all subnets and run the parity checks."""

    number, name = 10, "export"
    settings = ("data.dev_parts", "export")

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List weights and specs of all subnets."""
        return _list_subnet_files(context)

    def list_corpus_parts(self, context: Context) -> Sequence[str]:
        """List the first dev part."""
        return context.config.data.dev_parts[:1]

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the bundles of all subnets."""
        return [context.run.bundle(folder.name) for folder in context.run.find_subnets()]

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm export``, then ``todm verify`` of every bundle."""
        corpus_dir, part = str(context.options.corpus_dir), context.config.data.dev_parts[0]
        yield (
            *("export", "--exp-dir", str(context.run.path)),
            *("--guard-corpus-dir", corpus_dir, "--guard-part", part),
            *_override(context, "export"),
        )
        for folder in context.run.find_bundles():
            words = ("verify", str(folder), "--corpus-dir", corpus_dir, "--part", part)
            yield (*words, "--num-utterances", str(VERIFIED_UTTERANCES))


class BenchStage(Stage):
    """Stage 11: measure all bundles on this machine."""

    number, name = 11, "bench"

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List the ONNX files of all bundles."""
        return sorted(context.run.bundles.glob("*/*.onnx"))

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the results of all bundles."""
        bench = BenchFolder(context.run.bench)
        return [bench.result(folder.name) for folder in context.run.find_bundles()]

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm bench`` on all bundles."""
        folders = context.run.find_bundles()
        if not folders:
            raise UserError(f"{context.run.bundles}: no bundles there; run stage 10 first")
        yield ("bench", *map(str, folders), "--out", str(context.run.bench))


class ReportStage(Stage):
    """Stage 12: write the report; never done, since it shows whatever is there."""

    number, name = 12, "report"

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List no files; the report is always written."""
        return ()

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the HTML page."""
        return (context.run.report_page,)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm report`` on the run folder."""
        yield "report", str(context.run.path)


def _list_subnet_files(context: Context) -> Iterator[Path]:
    for folder in context.run.find_subnets():
        yield ModelFolder(folder).spec
        yield ModelFolder(folder).weights


def _decode(context: Context, model: Command, part: str, out: Path) -> Command:
    corpus_dir = str(context.options.corpus_dir)
    return ("decode", *model, "--corpus-dir", corpus_dir, "--part", part, "--out", str(out))


def _override(context: Context, pattern: str) -> Command:
    """Options for a setting, or those of a section, that differ from the values in the run folder."""
    if not context.run.config.is_file():
        return ()
    saved = flatten_config(load_config(context.run.config, saved=True))
    words: list[str] = []
    for key, value in flatten_config(context.config).items():
        if is_named(key, (pattern,)) and value != saved[key]:
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return tuple(words)


def _is_newer(out: Path, weights: Path, context: Context, part: str) -> bool:
    if not out.is_file():
        return False
    newest = context.fingerprints.list_part(context.part_dir(part)).newest
    return out.stat().st_mtime_ns > max(weights.stat().st_mtime_ns, newest)
