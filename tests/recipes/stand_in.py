"""A run folder of the recipe whose commands are recorded instead of executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from todm.config import load_config, save_config
from todm.layout import DataFolder, LangFolder, ModelFolder, RunFolder
from todm.recipe.context import RecipeOptions
from todm.recipe.runner import State, Status, inspect_stage, run_recipe
from todm.recipe.settings import load_context
from todm.recipe.stages import STAGES

CONF = Path(__file__).parents[2] / "recipes" / "librispeech" / "conf"
PARTS = ("train-clean-5", "dev-clean-2")


@dataclass
class Recipe:
    """A corpus, a run folder, and the commands that were recorded.

    Args:
        folder: parent of both.
        fail_at: command that fails with exit code 3.
        weights: content of the files that training and averaging write.
    """

    folder: Path
    fail_at: str = ""
    weights: str = "weights"
    conf: Path = CONF / "tiny.yaml"
    recorded: list[str] = field(default_factory=list)

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "exp")

    def options(self, first: int = 0, last: int = 12, *words: str, **more: object) -> RecipeOptions:
        given = {"corpus_dir": self.corpus, "conf": self.conf, "exp_dir": self.run.path} | more
        return RecipeOptions(first=first, last=last, overrides=words, **given)  # type: ignore[arg-type]

    def __call__(self, first: int = 0, last: int = 12, *words: str, **more: object) -> list[str]:
        """Run stages; returns the commands, with the names of the folders shortened."""
        self.recorded.clear()
        run_recipe(self.options(first, last, *words, **more), self.execute)
        return self.commands()

    def commands(self) -> list[str]:
        places = ((self.run.path, "EXP"), (self.corpus, "DIR"), (CONF, "CONF"))
        lines = list(self.recorded)
        for path, short in places:
            lines = [line.replace(str(path), short) for line in lines]
        return lines

    def statuses(self, *words: str, **more: object) -> dict[int, Status]:
        context = load_context(self.options(0, 12, *words, **more))
        return {stage.number: inspect_stage(stage, context) for stage in STAGES}

    def not_done(self, *words: str, **more: object) -> dict[int, State]:
        """Stages that would run, except the report, and those that are refused."""
        states = {number: status.state for number, status in self.statuses(*words, **more).items()}
        return {n: state for n, state in states.items() if state in (State.RUN, State.REFUSED) and n != 12}

    def marks(self) -> set[str]:
        return {path.stem for path in self.run.done.glob("*.json")} - {"fingerprints"}

    def execute(self, line: Sequence[str]) -> int:
        assert line[1] == "-m"
        module, words = line[2], list(line[3:])
        self.recorded.append(" ".join(words if module == "todm" else line[1:]))
        if self.fail_at and self.fail_at in line:
            return 3
        if module == "todm":
            getattr(self, f"_{words[0]}")(words)
        else:
            for part in words[1:]:
                (Path(words[0]) / "LibriSpeech" / part).mkdir(parents=True, exist_ok=True)
        return 0

    def _synth(self, words: list[str]) -> None:
        for part in (*PARTS, "test-clean"):
            (Path(words[2]) / part).mkdir(parents=True)

    def _prepare(self, words: list[str]) -> None:
        data = DataFolder(self.run.data)
        extra = words[words.index("--stage") + 2 :]
        config = load_config(Path(words[2]), extra).data
        evaluated = {*config.dev_parts, *config.test_parts}
        parts = {*config.train_parts, *evaluated}
        match words[words.index("--stage") + 1]:
            case "manifests":
                for part in parts:
                    write(data.recordings(part), part)
                    write(data.supervisions(part), part)
            case "sounds":
                for folder, index in (
                    (config.noise_dir, data.noise_index),
                    (config.rir_dir, data.room_index),
                ):
                    if folder:
                        write(index, "+".join(sorted(path.name for path in Path(folder).iterdir())))
            case "features":
                write(data.stats, str(config.speed_factors))
                for part in config.train_parts:
                    write(data.train_cuts(part), part)
                for part in evaluated:
                    write(data.cuts(part), part)
            case "tokenizer":
                write(data.train_manifest, "cuts")
                lang = LangFolder(data.lang)
                write(lang.tokens, str(config.vocab_size))
                write(lang.bpe_model, str(config.vocab_size))

    def _train(self, words: list[str]) -> None:
        if "--fine-tune" in words:
            write(ModelFolder(self.run.subnet(f"{words[-1]}-tuned")).weights, self.weights)
            return
        save_config(load_config(Path(words[2]), words[5:]), self.run.config)
        write(self.run.checkpoint(7), self.weights)
        write(self.run.finished, "{}")

    def _average(self, words: list[str]) -> None:
        write(ModelFolder(self.run.supernet).weights, self.weights)

    def _decode(self, words: list[str]) -> None:
        write(Path(words[words.index("--out") + 1]), "{}")

    def _search(self, words: list[str]) -> None:
        write(self.run.pareto, " ".join(words[3:]))

    def _extract(self, words: list[str]) -> None:
        for name in ("min", "max"):
            write(ModelFolder(self.run.subnet(name)).spec, "{}")
            write(ModelFolder(self.run.subnet(name)).weights, self.weights)

    def _export(self, words: list[str]) -> None:
        for name in ("min", "max"):
            write(self.run.bundle(name) / "encoder.onnx", " ".join(words[7:]))

    def _verify(self, words: list[str]) -> None:
        pass

    def _bench(self, words: list[str]) -> None:
        for name in ("min", "max"):
            write(self.run.bench / f"{name}.json", "[]")

    def _report(self, words: list[str]) -> None:
        write(self.run.report_page, "")


def write(path: Path, text: str) -> None:
    """Write a file, compressed manifests uncompressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        import gzip

        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def make_recipe(folder: Path) -> Recipe:
    """Create a corpus with one file in each part."""
    for part in PARTS:
        write(folder / "corpus" / part / "1" / "2" / "1-2.trans.txt", "1-2-0001 ONE\n")
    return Recipe(folder)
