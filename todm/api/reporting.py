"""Write the report of a run, its manifest of bundles and their model cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from todm.api.results import ExportResult, ReportResult
from todm.envinfo import collect_env
from todm.files import write_text
from todm.layout import RunFolder
from todm.report.card import write_cards
from todm.report.gather import gather
from todm.report.ladder import ladder_table, write_ladder
from todm.report.manifest import write_manifest
from todm.report.page import render_page


def write_report(exp_dir: Path, compare_with: Sequence[Path] = ()) -> ReportResult:
    """Write the report page, the table of sizes, the manifest and the model cards.

    Args:
        exp_dir: run folder.
        compare_with: run folders of nets that were trained alone, shown for comparison.

    Raises:
        UserError: no such run folder.
    """
    contents = gather(exp_dir, compare_with)
    run = RunFolder(exp_dir)
    write_ladder(contents, run.ladder)
    write_cards(contents)  # with what was decoded and measured since the export
    write_manifest(contents)
    write_text(run.report_page, render_page(contents, collect_env()))
    return ReportResult(
        page=run.report_page,
        sizes=contents.sizes,
        table=ladder_table(contents).to_text(contents.sizes),
        missing=contents.missing,
    )


def describe_bundles(exp_dir: Path, result: ExportResult) -> ExportResult:
    """Write the manifest of all bundles and a card into each; returns `result` with the manifest's path."""
    contents = gather(exp_dir)
    write_cards(contents)
    return replace(result, manifest=write_manifest(contents))
