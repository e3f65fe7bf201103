"""The sub-commands of ``todm``: each module has ``HELP``, ``add_arguments`` and ``run``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """For commands that take a whole config: ``--conf FILE``, dotted overrides and ``--print_config``.

    Words that the command does not know become overrides (``args.overrides``); `todm.config` refuses
    those that are not settings either.
    """
    parser.add_argument("--conf", type=Path, help="YAML config; recipes/librispeech/conf has examples")
    parser.add_argument("--print_config", action="store_true", help="print the resolved config and stop")
    parser.epilog = "Any setting can be overridden by its dotted name, for example --train.num_epochs 3."
