"""The stages of the recipe, in order.

A stage is done when nothing that it reads has changed since it ran (`todm.recipe.marks`) and its outputs
exist. Files of earlier stages are compared by content: a stage that ran again and wrote the same files causes
no later stage to run again.
"""

from __future__ import annotations

import sys

from todm.recipe.data_stages import CorpusStage, FeatureStage, ManifestStage, TokenizerStage
from todm.recipe.model_stages import (
    AverageStage,
    BenchStage,
    DecodeStage,
    ExportStage,
    ExtractStage,
    FineTuneStage,
    ReportStage,
    SearchStage,
    TrainStage,
)
from todm.recipe.stage import Command, Stage

STAGES: tuple[Stage, ...] = (
    CorpusStage(),
    ManifestStage(),
    FeatureStage(),
    TokenizerStage(),
    TrainStage(),
    AverageStage(),
    SearchStage(),
    ExtractStage(),
    FineTuneStage(),
    DecodeStage(),
    ExportStage(),
    BenchStage(),
    ReportStage(),
)
"""All stages, in order; the index is the number."""


def make_command_line(command: Command) -> list[str]:
    """Return the words that run a command with this Python."""
    if command[0] == "python":
        return [sys.executable, *command[1:]]
    return [sys.executable, "-m", "todm", *command]
