"""Run the recipe, stage by stage, from a corpus to ONNX bundles and a report.

stages: 0 corpus, 1 manifests, 2 features, 3 tokenizer, 4 train, 5 average, 6 search, 7 extract, 8 fine-tune,
9 decode, 10 export, 11 bench, 12 report. A finished stage is skipped until something that it reads changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from todm.commands import take_settings
from todm.errors import UserError
from todm.recipe.context import LAST_STAGE, RecipeOptions
from todm.recipe.runner import list_stages, run_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm run``."""
    parser.add_argument(
        "--corpus-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the parts (train-clean-5, ...), or the folder that holds LibriSpeech/",
    )
    parser.add_argument("--conf", type=Path, required=True, metavar="FILE", help="YAML config")
    parser.add_argument("--exp-dir", type=Path, required=True, metavar="EXP", help="run folder")
    parser.add_argument("--stage", default="0", metavar="A", help="first stage (default: 0)")
    parser.add_argument("--stop-stage", default=str(LAST_STAGE), metavar="B", help="last stage (default: 12)")
    parser.add_argument(
        "--synth",
        action="store_true",
        help="stage 0 writes a synthetic corpus instead of downloading LibriSpeech",
    )
    parser.add_argument(
        "--fine-tune", default="", metavar="NAME", help="stage 8 continues the training of the subnet NAME"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="run stages again that are done, and continue a training with other settings",
    )
    parser.add_argument("--list", action="store_true", help="show the state of the stages and stop")
    take_settings(
        parser,
        "Any setting can be overridden by its dotted name, for example --train.num_epochs 3, also after --. "
        "With --stage 5 or later, settings that the training reads come from EXP/config.yaml.",
    )


def run(args: argparse.Namespace) -> None:
    """Run the stages, or list them."""
    options = RecipeOptions(
        corpus_dir=args.corpus_dir,
        conf=args.conf,
        exp_dir=args.exp_dir,
        first=_parse_stage(args.stage),
        last=_parse_stage(args.stop_stage),
        synth=args.synth,
        fine_tune=args.fine_tune,
        force=args.force,
        overrides=tuple(word for word in args.overrides if word != "--"),
    )
    if args.list:
        for line in list_stages(options):
            print(line)
        return
    run_recipe(options)


def _parse_stage(text: str) -> int:
    if not text.isdigit() or int(text) > LAST_STAGE:
        raise UserError(f"--stage, --stop-stage: stages are numbers from 0 to {LAST_STAGE}, not '{text}'")
    return int(text)
