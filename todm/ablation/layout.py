"""Names of the files and folders of an ablation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from todm.layout import RunFolder


@dataclass(frozen=True)
class GridFolder:
    """Folder of an ablation: one run folder per run, all on the same data.

    Example:
        >>> GridFolder(Path("grid")).run("a1b2").result.as_posix()
        'grid/runs/a1b2/result.json'
    """

    path: Path

    @property
    def data(self) -> Path:
        """Prepared data of all runs."""
        return RunFolder(self.path).data

    @property
    def data_mark(self) -> Path:
        """Digest of the settings that the data were prepared with."""
        return self.data / ".grid"

    def run(self, digest: str) -> GridRun:
        """Folder of a run."""
        return GridRun(self.path / "runs" / digest)

    def start(self, digest: str) -> GridRun:
        """Folder of the common beginning of several runs."""
        return GridRun(self.path / "starts" / digest)

    @property
    def report(self) -> Path:
        """Folder of the report and its plots."""
        return self.path / "report"

    @property
    def report_page(self) -> Path:
        """Page of the report in Markdown."""
        return self.report / "report.md"

    @property
    def results(self) -> Path:
        """Tables of the report as JSON."""
        return self.report / "results.json"


@dataclass(frozen=True)
class GridRun(RunFolder):
    """Folder of one run of an ablation."""

    @property
    def planned_config(self) -> Path:
        """Settings of the run, written before it begins."""
        return self.path / "conf.yaml"

    @property
    def log(self) -> Path:
        """Output of the run's processes."""
        return self.path / "log.txt"

    @property
    def result(self) -> Path:
        """Accuracy and cost of a finished run."""
        return self.path / "result.json"
