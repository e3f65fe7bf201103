"""The command ``todm``: parses the command line and calls one module of `todm.commands`."""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from todm import __version__
from todm.errors import UserError

COMMANDS = {
    "run": "run the recipe, stage by stage, from a corpus to a report",
    "synth": "write a small synthetic corpus in LibriSpeech's layout",
    "prepare": "compute manifests, features and tokenizer (or shards) of a corpus",
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
"""Earlier names of options and their new names, by command."""


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


class _Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose errors are `UserError`: one sentence, with what was probably meant."""

    def __init__(self, **options: Any) -> None:
        self.option_names: list[str] = []
        super().__init__(**options, allow_abbrev=False)
        self.set_defaults(parser=self)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument and note the names of an option."""
        action = super().add_argument(*names, **options)
        self.option_names += action.option_strings
        return action

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`."""
        sentence = _rephrase(message) or message.removeprefix("argument ")
        if "; " not in sentence:
            sentence += f"; see '{self.prog} --help'"
        raise UserError(f"{self._command}{sentence}")

    @property
    def _command(self) -> str:
        """Prefix of messages: ``train: ``, or nothing for ``todm`` itself."""
        name = self.prog.removeprefix("todm").strip()
        return f"{name}: " if name else ""

    def refuse_unknown(self, words: Sequence[str], *, takes_settings: bool) -> None:
        """Raise `UserError` for words that are neither options nor settings."""
        for word in words:
            name = word.partition("=")[0]
            close = difflib.get_close_matches(name, self.option_names, n=1, cutoff=0.75)
            if takes_settings and not (close and name.startswith("--") and "." not in name):
                continue
            kind = "option" if word.startswith("-") else "argument"
            if close:
                raise UserError(f"{self._command}there is no option {name}; did you mean {close[0]}?")
            self.error(f"there is no {kind} {name}")


def _rephrase(message: str) -> str | None:
    """What argparse refuses, in the words of the other messages; None if there are none."""
    number = re.fullmatch(r"argument (.+): invalid (int|float) value: '(.*)'", message)
    if number is not None:
        kind = {"int": "an integer", "float": "a number"}[number[2]]
        return f"{number[1]}: must be {kind}, got {number[3]}"
    required = re.fullmatch(r"the following arguments are required: (.*)", message)
    if required is not None:
        return f"missing {required[1]}"
    choice = re.fullmatch(r"argument (.+?): invalid choice: (.+) \(choose from (.*)\)", message)
    if choice is None:
        return None
    name, given, known = choice[1], choice[2].strip("'"), choice[3].replace("'", "")
    close = difflib.get_close_matches(given, known.split(", "), n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {known}"
    head = f"{name}: there is no" if "-" in name else f"there is no {name.lower()}"
    return f"{head} {given}; {hint}"


def _parse(words: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="todm", description="Train one speech recogniser, ship every size.")
    parser.add_argument("--version", action="version", version=f"todm {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = words[0] if words and words[0] in COMMANDS else None
    for name, text in COMMANDS.items():
        if name != called:
            subparsers.add_parser(name, help=text)
    if called is not None:
        _check_renamed(called, words[1:])
        module = command_module(called)
        command = subparsers.add_parser(called, help=COMMANDS[called], description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args, rest = parser.parse_known_args(words)
    args.parser.refuse_unknown(rest, takes_settings=getattr(args, "takes_settings", False))
    args.overrides = rest
    return args


def _check_renamed(command: str, words: Sequence[str]) -> None:
    """Refuse the earlier name of an option with its new name."""
    for word in words:
        old = word.partition("=")[0]
        if new := RENAMED.get(command, {}).get(old):
            raise UserError(f"{old}: this option of todm {command} is now called {new}")


def _fail(sentence: str, code: int = 2) -> int:
    print(f"todm: {sentence}", file=sys.stderr)
    return code
