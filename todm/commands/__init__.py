"""The commands of ``todm``: each module has ``add_arguments`` and ``run`` and calls `todm.api`.

Their help texts are in `todm.cli`. Modules import no torch at top level: names of `todm.api` are loaded when
they are first used, so that ``todm COMMAND --help`` stays fast.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from todm.errors import UserError
from todm.layout import RunFolder


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command with a whole config: ``--conf FILE`` and dotted settings.

    Words that the command does not know become overrides (``args.overrides``).
    """
    parser.add_argument(
        "--conf", type=Path, metavar="FILE", help="YAML config; recipes/librispeech/conf has examples"
    )
    take_settings(
        parser,
        "Any setting can be overridden by its dotted name, for example --train.num_epochs 3. 'todm config "
        "explain' lists all settings, 'todm config show --conf FILE' prints the resolved config.",
    )


def take_settings(parser: argparse.ArgumentParser, epilog: str) -> None:
    """Accept dotted settings as ``args.overrides``.

    Args:
        parser: parser of the command.
        epilog: sentence for the help text.
    """
    parser.set_defaults(takes_settings=True, overrides=[])
    parser.epilog = epilog


def add_exp_dir(parser: argparse.ArgumentParser, text: str, *, positional: bool = False) -> None:
    """Add ``--exp-dir EXP``; with `positional` also plain ``EXP``. `get_exp_dir` reads either."""
    parser.add_argument("--exp-dir", type=Path, required=not positional, metavar="EXP", help=text)
    if positional:
        parser.add_argument("exp", type=Path, nargs="?", metavar="EXP", help="the same without --exp-dir")


def get_exp_dir(args: argparse.Namespace) -> Path:
    """Return the run folder of a command with a positional ``EXP``."""
    given = [path for path in (args.exp_dir, args.exp) if path is not None]
    if len(given) != 1:
        raise UserError("--exp-dir: name the run folder once, as --exp-dir EXP")
    folder: Path = given[0]
    return folder


def start_log(folder: RunFolder) -> None:
    """Log to the terminal and, in the first process, to the run folder."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if os.environ.get("RANK", "0") == "0":
        folder.train.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(folder.train_log))
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=handlers,
        force=True,
    )
