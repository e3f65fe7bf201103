"""The command ``todm``: parses the command line and calls one module of `todm.commands`."""

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

COMMANDS = {
    "run": "run the recipe, stage by stage, from a corpus to a report",
    "synth": "write a small synthetic corpus in LibriSpeech's layout",
    "prepare": "compute manifests, features and word pieces (or shards) of a corpus",
    "train": "train the supernet, or fine-tune one subnet",
    "average": "average the weights of a run into EXP/supernet",
    "search": "search the supernet for the best specs within objectives and limits",
    "extract": "extract subnets from the supernet",
    "decode": "compute the word error rate of a model on one part of a corpus",
    "export": "export subnets as ONNX bundles, fp32 and int8",
    "verify": "run the parity checks of an ONNX bundle against torch and sherpa-onnx",
    "bench": "measure speed, memory and size of ONNX bundles on this machine",
    "latency": "measure subnets on a device and fit its latency table for the search",
    "report": "write the report of a run",
    "transcribe": "transcribe audio files with any model",
    "ablate": "train and compare the variants of a grid",
    "bench-train": "measure training steps on this machine",
    "config": "explain settings, or show a resolved config",
    "env": "show versions and machine",
}
"""Help text of every command, in the order of use; the modules are imported only when called."""

RENAMED = {
    "train": {"--init": "--fine-tune"},
    "search": {
        "--evaluations": "--search.evaluations",
        "--precision": "--search.precision",
        "--seed": "--search.seed",
        "--workers": "--search.workers",
    },
    "export": {
        "--chunk-ms": "--export.chunk_ms",
        "--exclude": "--export.exclude",
        "--fp16": "--export.fp16 true",
        "--guard-limit": "--guard-utterances",
        "--no-int8": "--export.int8 false",
        "--opset": "--export.opset",
        "--per-tensor": "--export.per_channel false",
        "--reduce-range": "--export.reduce_range true",
        "--static": "--export.quantization static",
    },
    "verify": {"--limit": "--num-utterances"},
    "report": {"--beside": "--compare-with"},
    "ablate": {"--jobs": "--num-jobs"},
}
"""Options of before and their new names, by command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 2 after one sentence on standard error when the input is unusable.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parse(words)
        args.run(args)
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except OSError as error:
        # Errors of the file system that the user can fix need no traceback.
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENOENT):
            return _fail(f"{error.filename or 'file'}: {error.strerror}")
        raise
    return 0


def command_module(name: str) -> ModuleType:
    """Import the module of a command: ``bench-train`` is `todm.commands.bench_train`."""
    return importlib.import_module(f"todm.commands.{name.replace('-', '_')}")


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="todm", description="Train one speech recogniser, ship every size.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"todm {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = words[0] if words and words[0] in COMMANDS else None
    for name, text in COMMANDS.items():
        if name != called:
            subparsers.add_parser(name, help=text)
    if called is not None:
        _check_renamed(called, words[1:])
        module = command_module(called)
        command = subparsers.add_parser(
            called, help=COMMANDS[called], description=module.__doc__, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args, rest = parser.parse_known_args(words)
    if rest and not getattr(args, "takes_settings", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    return args


def _check_renamed(command: str, words: Sequence[str]) -> None:
    """Refuse an option of before with its new name."""
    for word in words:
        old = word.partition("=")[0]
        if new := RENAMED.get(command, {}).get(old):
            raise UserError(f"{old}: this option of todm {command} is now called {new}")


def _fail(sentence: str, code: int = 2) -> int:
    print(f"todm: {sentence}", file=sys.stderr)
    return code
