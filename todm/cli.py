"""The command ``todm``: a thin wrapper over plain functions, one module of `todm.commands` each."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from todm import __version__
from todm.errors import UserError

COMMANDS = (
    "env",
    "synth",
    "prepare",
    "train",
    "bench-train",
    "average",
    "decode",
    "latency",
    "search",
    "extract",
    "export",
    "verify",
    "bench",
    "report",
    "ablate",
    "transcribe",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Returns:
        0 on success, 2 after one sentence on standard error when the user's input is at fault.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parse(words)
        if getattr(args, "print_config", False):
            from todm.config import config_to_yaml, load_config

            print(config_to_yaml(load_config(args.conf, args.overrides)), end="")
            return 0
        args.run(args)
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except OSError as error:
        # What the file system says is the user's to mend; it needs no traceback.
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENOENT):
            return _fail(f"{error.filename or 'file'}: {error.strerror}")
        raise
    return 0


def command_module(name: str) -> ModuleType:
    """The module of a sub-command: ``bench-train`` is `todm.commands.bench_train`."""
    return importlib.import_module(f"todm.commands.{name.replace('-', '_')}")


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="todm", description="Train one speech recogniser, ship every size.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"todm {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # One command's words need one module; the others stay unread.
    for name in (words[0],) if words and words[0] in COMMANDS else COMMANDS:
        module = command_module(name)
        command = subparsers.add_parser(
            name, help=module.HELP, description=module.__doc__, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args, rest = parser.parse_known_args(words)
    if rest and not hasattr(args, "conf"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    args.words = words
    return args


def _fail(sentence: str, code: int = 2) -> int:
    print(f"todm: {sentence}", file=sys.stderr)
    return code
