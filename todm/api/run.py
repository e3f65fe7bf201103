"""Training runs: `Run` performs every step from a corpus to a report.

>>> import todm
>>> run = todm.Run("exp", todm.Config())  # doctest: +SKIP
>>> run.prepare("corpus")  # doctest: +SKIP
>>> run.train()  # doctest: +SKIP
>>> run.average()  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from todm.api.benchmark import BenchOptions, BenchResult, bench_bundles
from todm.api.decoding import decode_part
from todm.api.device_table import DeviceOptions, DeviceResult, measure_device
from todm.api.exporting import export_subnets, find_subnets, load_guard_audio
from todm.api.extracting import extract_subnets
from todm.api.reporting import describe_bundles, write_report
from todm.api.results import (
    AverageResult,
    DecodeResult,
    ExportResult,
    ExtractResult,
    FineTuneResult,
    PrepareResult,
    ReportResult,
    SearchReport,
    TrainResult,
)
from todm.api.searching import SearchOptions, SearchSession
from todm.api.training import average_run, fine_tune_run, train_run
from todm.config import Config, load_config
from todm.data.prepare import prepare
from todm.deploy.verify import Parity, require_in_use, verify_bundle
from todm.errors import UserError
from todm.inference import InferenceOptions
from todm.layout import DataFolder, RunFolder
from todm.space.spec import SubnetSpec


class Run:
    """A training run in one folder; each method performs one step and returns its result.

    Results are kept in the folder (`todm.layout.RunFolder`), so that steps may run in different processes and
    by the command line as well. Every method raises `todm.UserError` with one sentence for unusable input.

    Args:
        exp_dir: run folder, created by `prepare`.
        config: settings for `prepare` and `train`, or the path of a YAML file; None takes those that the
            training saved in the folder, or the defaults. Later steps always use the saved ones.
    """

    def __init__(self, exp_dir: str | Path, config: Config | str | Path | None = None) -> None:
        self.exp_dir = Path(exp_dir)
        self.folder = RunFolder(self.exp_dir)
        if isinstance(config, str | Path):
            config = load_config(Path(config))
        self._config = config

    @property
    def config(self) -> Config:
        """Settings for `prepare` and `train`."""
        if self._config is not None:
            return self._config
        return load_config(self.folder.config if self.folder.config.is_file() else None, saved=True)

    def __repr__(self) -> str:
        return f"Run({str(self.exp_dir)!r})"

    def prepare(self, corpus_dir: str | Path, *, stages: Sequence[str] | None = None) -> PrepareResult:
        """Compute manifests, features and tokenizer (or shards) of a corpus into ``EXP/data``.

        Args:
            corpus_dir: folder in LibriSpeech's layout, or its parent.
            stages: some of ``manifests``, ``sounds``, ``features``, ``tokenizer``, ``shar``; None runs those
                that the settings need.
        """
        figures = prepare(self.config, Path(corpus_dir), self.exp_dir, stages=tuple(stages or ()))
        data = DataFolder(self.folder.data)
        skipped = data.skipped if any(values.get("skipped") for values in figures.values()) else None
        return PrepareResult(folder=data.path, figures=figures, skipped=skipped)

    def train(self, *, until: int = 0) -> TrainResult:
        """Train the supernet; resumes automatically from the latest checkpoint.

        With ``train.num_processes`` above 1 the processes are started here.

        Args:
            until: stop after this many batches; 0 trains to the end.
        """
        return train_run(self.config, self.exp_dir, until=until)

    def fine_tune(self, name: str, overrides: Sequence[str] = ()) -> FineTuneResult:
        """Continue training one subnet on its own and write it as ``EXP/subnets/NAME-tuned``.

        Args:
            name: folder name of the subnet.
            overrides: dotted settings as on the command line, for example ``--train.num_epochs=2``.
        """
        return fine_tune_run(self.exp_dir, name, overrides)

    def average(self, *, last: int | None = None, calibrate_utterances: int | None = None) -> AverageResult:
        """Average the weights into ``EXP/supernet``.

        Args:
            last: average this many newest checkpoints; None takes the running average kept in training.
            calibrate_utterances: in place of the run's ``train.calibrate_utterances``.
        """
        return average_run(self.exp_dir, last=last, calibrate_utterances=calibrate_utterances)

    def search(self, options: SearchOptions | None = None, **overrides: Any) -> SearchReport:
        """Search for the best specs within objectives and limits; writes ``EXP/search/pareto.json``.

        Args:
            options: budgets, mode, method and device tables.
            overrides: settings of the section ``search`` that replace the run's, for example
                ``evaluations=50`` or ``limits=["params <= 1 M"]``.
        """
        return SearchSession(self.exp_dir, options, overrides).run()

    def extract(
        self,
        names: Sequence[str] | None = None,
        *,
        ladder: bool = True,
        pareto: bool = False,
        specs: dict[str, SubnetSpec] | None = None,
    ) -> ExtractResult:
        """Extract subnets from the averaged supernet into ``EXP/subnets``.

        Args:
            names: extract only these of the selected sizes; None extracts all of them.
            ladder: select the named sizes (``min``, ``mid``, ``max`` of every mode).
            pareto: select the specs that `search` chose.
            specs: further specs by folder name.
        """
        return extract_subnets(self.exp_dir, names, ladder=ladder, pareto=pareto, specs=specs or {})

    def decode(
        self,
        model: str | Path,
        part: str,
        corpus_dir: str | Path,
        *,
        spec: str | None = None,
        options: InferenceOptions | None = None,
        out: Path | None = None,
    ) -> DecodeResult:
        """Transcribe one part of a corpus and compute the word error rate.

        Args:
            model: name of a subnet of this run, ``supernet``, or any model folder.
            part: folder of the corpus.
            corpus_dir: folder in LibriSpeech's layout, or its parent.
            spec: ladder name or path of a spec.json, for a supernet only.
            options: precision, search and threads.
            out: JSON file; None writes ``EXP/decode/MODEL/PART.json``.
        """
        folder = self._find_model(model)
        if out is None:
            name = folder.name if spec is None else f"{folder.name}-{Path(spec).stem}"
            out = self.folder.wer(name, part)
        return decode_part(folder, Path(corpus_dir), part, out, spec=spec, options=options)

    def export(
        self,
        names: Sequence[str] | None = None,
        *,
        pareto: bool = False,
        guard_corpus_dir: str | Path | None = None,
        guard_part: str | None = None,
        guard_utterances: int = 0,
        **overrides: Any,
    ) -> ExportResult:
        """Export subnets as ONNX bundles into ``EXP/bundles``.

        Args:
            names: subnets to export; None exports all.
            pareto: export only the specs that `search` chose.
            guard_corpus_dir: corpus for the int8 accuracy check; bundles that lose too much are refused.
            guard_part: folder of that corpus.
            guard_utterances: utterances of the check at most; 0 takes all.
            overrides: settings of the section ``export`` that replace the run's, for example ``fp16=True``.
        """
        folders = find_subnets(self.exp_dir, names, pareto=pareto)
        corpus_dir = None if guard_corpus_dir is None else Path(guard_corpus_dir)
        audio = load_guard_audio(corpus_dir, guard_part, guard_utterances)
        jobs = [(path, self.folder.bundle(path.name)) for path in folders]
        return describe_bundles(self.exp_dir, export_subnets(jobs, guard_audio=audio, settings=overrides))

    def verify(
        self,
        bundle: str | Path,
        part: str,
        corpus_dir: str | Path,
        *,
        num_utterances: int = 0,
        strict: bool = False,
    ) -> Parity:
        """Run the parity checks of a bundle (torch, ONNX and sherpa-onnx) and its in-use checks.

        Args:
            bundle: name of a bundle of this run, or the folder of one.
            part: folder of the corpus.
            corpus_dir: folder in LibriSpeech's layout, or its parent.
            num_utterances: utterances at most; 0 takes all.
            strict: raise an error if an in-use check fails, after all checks.

        Raises:
            UserError: no such bundle, float ONNX differs from torch, or with `strict` a failed in-use check.
        """
        folder = self._find_bundle(bundle)
        subnet = RunFolder(folder.resolve().parents[1]).subnet(folder.resolve().name)
        parity = verify_bundle(folder, subnet, Path(corpus_dir), part, limit=num_utterances)
        if strict:
            require_in_use(folder, parity)
        return parity

    def bench(
        self, bundles: Sequence[str | Path] | None = None, options: BenchOptions | None = None
    ) -> BenchResult:
        """Measure speed, memory and size of bundles on this machine into ``EXP/bench``.

        Args:
            bundles: names of bundles of this run, or folders; None measures all.
            options: runtimes, precisions, threads and audio.
        """
        found = self.folder.find_bundles()
        if bundles is not None:
            found = [self._find_bundle(bundle) for bundle in bundles]
        if not found:
            raise UserError(f"{self.folder.bundles}: no bundles there; run 'todm export' first")
        return bench_bundles(found, options, out=self.folder.bench)

    def measure_device(self, name: str, options: DeviceOptions | None = None) -> DeviceResult:
        """Measure a few subnets on a device and fit the table from which `search` predicts all others.

        Args:
            name: name of the device, as in ``rtf <= 0.1 on NAME``.
            options: how many subnets, and how they are measured.
        """
        return measure_device(self.exp_dir, name, options)

    def report(self, compare_with: Sequence[str | Path] = ()) -> ReportResult:
        """Write ``EXP/report`` with everything that is known about the run.

        Args:
            compare_with: run folders of nets that were trained alone, shown for comparison.
        """
        return write_report(self.exp_dir, [Path(path) for path in compare_with])

    def _find_bundle(self, bundle: str | Path) -> Path:
        """Return the folder of a bundle given by name or as a folder."""
        for folder in (self.folder.bundle(str(bundle)), Path(bundle)):
            if folder.is_dir():
                return folder
        names = ", ".join(folder.name for folder in self.folder.find_bundles())
        advice = f"there are {names}" if names else "run 'todm export' first"
        raise UserError(f"{bundle}: no such bundle in {self.folder.bundles}; {advice}")

    def _find_model(self, model: str | Path) -> Path:
        if isinstance(model, Path) or Path(model).exists():
            return Path(model)
        return self.folder.supernet if model == "supernet" else self.folder.subnet(model)
