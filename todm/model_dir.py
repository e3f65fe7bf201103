"""Model folders: weights, config and language files together, so that nobody asks for a flag again.

A supernet folder holds ``model.safetensors, config.yaml, tokens.txt, bpe.model, bpe.vocab``; a subnet folder
holds the same and ``spec.json``. A folder with ``encoder.onnx`` is a bundle and needs no torch.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from todm.config import Config
from todm.config_io import load_config, save_config
from todm.errors import UserError
from todm.files import atomic_file
from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.runtime.layout import BundleFiles
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

LANG_FILES = ("tokens.txt", "bpe.model", "bpe.vocab")
WEIGHTS, CONFIG, SPEC = "model.safetensors", "config.yaml", "spec.json"

Kind = Literal["supernet", "subnet", "bundle", "checkpoint"]


def model_kind(path: Path) -> Kind:
    """What `path` holds; raises `UserError` when it is no model."""
    if path.is_file() and path.suffix == ".pt":
        return "checkpoint"
    if BundleFiles(path).precisions:
        return "bundle"
    if (path / WEIGHTS).is_file():
        return "subnet" if (path / SPEC).is_file() else "supernet"
    raise UserError(
        f"{path}: not a model; give a folder with {WEIGHTS} or encoder.onnx, or a checkpoint (.pt)"
    )


def vocab_size_of(folder: Path) -> int:
    """Number of symbols in a folder's ``tokens.txt``."""
    path = folder / "tokens.txt"
    if not path.is_file():
        raise UserError(f"{path}: missing; copy it from the run's data/lang folder")
    return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def save_supernet(folder: Path, weights: dict[str, Tensor], config: Config, lang_dir: Path) -> None:
    """Write a supernet folder; `weights` is a state dict of `Supernet`."""
    _save(folder, weights, config, lang_dir)


def save_subnet(folder: Path, net: Transducer, config: Config, lang_dir: Path) -> None:
    """Write a subnet folder."""
    _save(folder, net.state_dict(), config, lang_dir)
    net.spec.save(folder / SPEC)


def load_supernet(folder: Path) -> tuple[Supernet, Config]:
    """Read a supernet folder; the net is in eval mode on the CPU."""
    config = load_config(folder / CONFIG)
    net = Supernet(config.model, SearchSpace.from_config(config), vocab_size_of(folder))
    _load(net, folder)
    return net, config


def load_subnet(folder: Path) -> tuple[Transducer, Config]:
    """Read a subnet folder; the net is in eval mode on the CPU."""
    config = load_config(folder / CONFIG)
    net = Transducer(config.model, SubnetSpec.load(folder / SPEC), vocab_size_of(folder))
    _load(net, folder)
    return net, config


def _save(folder: Path, weights: dict[str, Tensor], config: Config, lang_dir: Path) -> None:
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    # clone(): safetensors refuses tensors that share memory.
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()})
    # The weights are renamed last, so that a folder with weights is complete.
    with atomic_file(folder / WEIGHTS) as file:
        file.write(content)
        file.flush()
        save_config(config, folder / CONFIG)
        for name in LANG_FILES:
            if not (lang_dir / name).is_file():
                raise UserError(f"{lang_dir / name}: missing; run 'todm prepare' first")
            shutil.copyfile(lang_dir / name, folder / name)


def _load(net: nn.Module, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    check_weights(net, weights, str(path))
    net.load_state_dict(weights)
    net.eval()


def check_weights(net: nn.Module, weights: dict[str, Any], source: str) -> None:
    """Raise `UserError` naming the first tensor of `weights` that does not fit `net`."""
    wanted = net.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights:
            raise UserError(f"{source}: has no tensor {name}; it belongs to another architecture")
        if name not in wanted:
            raise UserError(f"{source}: has an extra tensor {name}; it belongs to another architecture")
        have, want = tuple(weights[name].shape), tuple(wanted[name].shape)
        if have != want:
            raise UserError(f"{source}: {name} is {have}, but the config asks for {want}")


def load_plain(path: Path, spec: str | None) -> tuple[Transducer, Config, Path]:
    """A plain net from a subnet folder, or cut out of a supernet folder at `spec`.

    Args:
        path: model folder.
        spec: ladder name or path of a spec.json; needed for a supernet, refused for a subnet.

    Returns:
        the net, its config, and the folder with its language files.
    """
    from todm.extract import extract

    kind = model_kind(path)
    if kind == "subnet":
        if spec is not None:
            raise UserError(f"--spec: {path} is one size already; leave it out")
        net, config = load_subnet(path)
        return net, config, path
    if kind != "supernet":
        raise UserError(f"{path}: a supernet or subnet folder is needed here, not a {kind}")
    supernet, config = load_supernet(path)
    if spec is None:
        names = ", ".join(supernet.space.ladder())
        raise UserError(f"{path}: a supernet needs --spec: one of {names}, or the path of a spec.json")
    return extract(supernet, resolve_spec(supernet.space, spec)), config, path


def resolve_spec(space: SearchSpace, text: str) -> SubnetSpec:
    """A ladder name or the path of a spec.json."""
    return SubnetSpec.load(Path(text)) if text.endswith(".json") else space.resolve(text)
