"""Stages 0 to 3: corpus, manifests, features, tokenizer and shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from todm.errors import UserError
from todm.layout import LangFolder
from todm.recipe.context import Context
from todm.recipe.corpus import SYNTHETIC_PARTS, end_download, find_root, list_missing, start_download
from todm.recipe.marks import Change
from todm.recipe.stage import Command, Stage

PARTS = ("data.train_parts", "data.dev_parts", "data.test_parts")


class DataStage(Stage):
    """A stage whose results a training reads."""

    def affects_training(self, change: Change, context: Context) -> bool:
        """Whether the change concerns more than the test parts."""
        if change.key in self.free_settings:
            return False
        part = _part_of(change.key)
        return not part or part in (*context.train_parts, *context.config.data.dev_parts)


class CorpusStage(Stage):
    """Stage 0: download the missing parts, or write a synthetic corpus."""

    number, name = 0, "corpus"
    settings = PARTS

    def read_options(self, context: Context) -> dict[str, object]:
        """Return the kind and place of the corpus."""
        options = context.options
        return {"--corpus-dir": str(options.corpus_dir.resolve()), "--synth": options.synth}

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List no files; the command line decides."""
        return ()

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the folders of the parts; a part downloaded incompletely counts as missing."""
        missing = list_missing(context.options.corpus_dir, context.parts)
        return [context.part_dir(part) / ("*" if part in missing else "") for part in context.parts]

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm synth``, or a download of what is missing."""
        corpus_dir = context.options.corpus_dir
        if context.options.synth:
            yield "synth", "--out", str(corpus_dir)
            unknown = [part for part in context.parts if part not in SYNTHETIC_PARTS]
            if missing := list_missing(corpus_dir, unknown):
                raise UserError(
                    f"{find_root(corpus_dir)}: todm synth writes {', '.join(SYNTHETIC_PARTS)}, not "
                    f"{', '.join(missing)}; correct data.train_parts, data.dev_parts or data.test_parts"
                )
            return
        missing = list_missing(corpus_dir, context.parts)
        if not missing:
            print(f"{find_root(corpus_dir)}: all parts are there", flush=True)
            return
        target = start_download(corpus_dir, missing)
        yield ("python", "-m", "todm.recipe.corpus", str(target), *missing)
        end_download(corpus_dir)


class ManifestStage(DataStage):
    """Stage 1: manifests of all parts."""

    number, name = 1, "manifests"
    settings = PARTS
    free_settings = ("data.test_parts",)

    def read_options(self, context: Context) -> dict[str, object]:
        """Return the place of the corpus, which manifests hold."""
        return {"--corpus-dir": str(context.options.corpus_dir.resolve())}

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List no files, only the corpus is read."""
        return ()

    def list_corpus_parts(self, context: Context) -> Sequence[str]:
        """List all parts of the config."""
        return context.parts

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List recordings and supervisions of all parts."""
        return _list_manifests(context)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm prepare --stage manifests``."""
        yield _prepare(context, "manifests")


class FeatureStage(DataStage):
    """Stage 2: cuts and features of all parts, archives of recorded noise and rooms."""

    number, name = 2, "features"
    settings = (
        *PARTS,
        "data.max_utterance",
        "data.min_utterance",
        "data.noise_dir",
        "data.rir_dir",
        "data.speed_factors",
        "data.store_features",
    )
    free_settings = ("data.test_parts",)

    def select_settings(self, context: Context) -> tuple[str, ...]:
        """Leave out folders that are not given."""
        unused = {f"data.{name}" for name, folder in _sound_folders(context).items() if not folder}
        return tuple(key for key in self.settings if key not in unused)

    def read_options(self, context: Context) -> dict[str, object]:
        """Return what the folders of noise and rooms hold."""
        return {
            f"files of data.{name}": context.fingerprints.list_part(Path(folder)).fingerprint
            for name, folder in _sound_folders(context).items()
            if folder
        }

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List the manifests of all parts."""
        return _list_manifests(context)

    def list_corpus_parts(self, context: Context) -> Sequence[str]:
        """List all parts, since audio may change without its manifest."""
        return context.parts

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the cuts of all parts, the feature statistics, and the indices of noise and rooms."""
        yield from list_sound_indices(context)
        yield context.data.stats
        yield from map(context.data.train_cuts, context.train_parts)
        yield from map(context.data.cuts, context.eval_parts)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm prepare --stage sounds`` if a folder is given, then ``--stage features``."""
        if context.config.data.uses_recordings:
            yield _prepare(context, "sounds")
        yield _prepare(context, "features")


class TokenizerStage(DataStage):
    """Stage 3: tokenizer, list of training cuts, and shards if ``data.shar_dir`` is a folder."""

    number, name = 3, "tokenizer"
    settings = (
        "data.train_parts",
        "data.shar_dir",
        "data.shar_utterances",
        "data.token_type",
        "data.vocab_size",
        "model.subsampling_factor",
    )

    def select_settings(self, context: Context) -> tuple[str, ...]:
        """Leave out the settings of shards unless shards are written."""
        if context.config.data.writes_shards:
            return self.settings
        return tuple(key for key in self.settings if not key.startswith("data.shar_"))

    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List transcripts and cuts of the training parts, and the statistics of their features."""
        yield context.data.stats
        for part in context.train_parts:
            yield context.data.supervisions(part)
            yield context.data.train_cuts(part)

    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the tokenizer and the manifest of training cuts."""
        yield context.data.train_manifest
        yield from list_language_files(context)

    def make_commands(self, context: Context) -> Iterator[Command]:
        """Run ``todm prepare --stage tokenizer``, then ``--stage shar``."""
        yield _prepare(context, "tokenizer")
        if context.config.data.writes_shards:
            yield _prepare(context, "shar")


def list_sound_indices(context: Context) -> Iterator[Path]:
    """List the indices of the archives of noise and rooms that the settings ask for."""
    if context.config.data.noise_dir:
        yield context.data.noise_index
    if context.config.data.rir_dir:
        yield context.data.room_index


def list_language_files(context: Context) -> tuple[Path, ...]:
    """List the files of the tokenizer."""
    lang = LangFolder(context.run.lang)
    return lang.tokens, lang.bpe_model


def _sound_folders(context: Context) -> dict[str, str]:
    data = context.config.data
    return {"noise_dir": data.noise_dir, "rir_dir": data.rir_dir}


def _part_of(key: str) -> str:
    """Corpus part of an input (``corpus dev-clean``, ``.../recordings_dev-clean.jsonl.gz``), else empty."""
    if key.startswith("corpus "):
        return key.removeprefix("corpus ")
    return Path(key).name.partition("_")[2].removesuffix(".jsonl.gz") if key.endswith(".jsonl.gz") else ""


def _list_manifests(context: Context) -> Iterator[Path]:
    for part in context.parts:
        yield context.data.recordings(part)
        yield context.data.supervisions(part)


def _prepare(context: Context, step: str) -> Command:
    options = context.options
    return (
        *("prepare", "--conf", str(options.conf), "--corpus-dir", str(options.corpus_dir)),
        *("--exp-dir", str(options.exp_dir), "--stage", step),
        *options.overrides,
    )
