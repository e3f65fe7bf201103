"""Saving and loading of model folders.

A supernet folder holds ``model.safetensors, config.yaml, tokens.txt, bpe.model, bpe.vocab``; a subnet folder
holds the same and ``spec.json``, see `todm.layout.ModelFolder`. A folder with ``encoder.onnx`` is a
bundle; it runs without torch (`todm.runtime`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from todm.config import Config, load_config, save_config
from todm.errors import UserError
from todm.extract import extract
from todm.files import atomic_file
from todm.layout import LangFolder, ModelFolder, RunFolder
from todm.nn.old_weights import upgrade_names
from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.runtime.layout import BundleFiles
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

Kind = Literal["supernet", "subnet", "bundle"]


def model_kind(path: Path) -> Kind:
    """Return the kind of model at `path`.

    Raises:
        UserError: no model.
    """
    if BundleFiles(path).precisions:
        return "bundle"
    model = ModelFolder(path)
    if model.weights.is_file():
        return "subnet" if model.spec.is_file() else "supernet"
    raise UserError(f"{path}: not a model; give a folder with {model.weights.name} or encoder.onnx")


def find_supernet(exp_dir: Path) -> Path:
    """Return the averaged supernet of a run folder; `UserError` if there is none."""
    folder = RunFolder(exp_dir).supernet
    if not ModelFolder(folder).weights.is_file():
        raise UserError(f"{folder}: no averaged supernet there; run 'todm average --exp-dir {exp_dir}' first")
    return folder


def count_tokens(folder: Path) -> int:
    """Return the number of symbols in a folder's ``tokens.txt``, blank included."""
    path = LangFolder(folder).tokens
    if not path.is_file():
        raise UserError(f"{path}: missing; copy it from the run's data/lang folder")
    return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def save_supernet(folder: Path, weights: Mapping[str, Tensor], config: Config, lang_dir: Path) -> None:
    """Write a supernet folder.

    Args:
        folder: created if needed.
        weights: state dict of `Supernet`.
        config: settings of the training.
        lang_dir: folder of the tokenizer.

    Raises:
        UserError: a file of the tokenizer is missing, or the disk is full; an older model is then unchanged.
    """
    _save_folder(folder, weights, config, lang_dir)


def save_subnet(folder: Path, net: Transducer, config: Config, lang_dir: Path) -> None:
    """Write a subnet folder; see `save_supernet`."""
    _save_folder(folder, net.state_dict(), config, lang_dir, net.spec)


def load_supernet(folder: Path) -> tuple[Supernet, Config]:
    """Read a supernet folder; the net is in eval mode on the CPU."""
    model = ModelFolder(folder)
    config = load_config(model.config, saved=True)
    net = Supernet(config.model, SearchSpace.from_config(config), count_tokens(folder))
    _load_weights(net, model.weights)
    return net, config


def load_subnet(folder: Path) -> tuple[Transducer, Config]:
    """Read a subnet folder; the net is in eval mode on the CPU."""
    model = ModelFolder(folder)
    config = load_config(model.config, saved=True)
    net = Transducer(config.model, SubnetSpec.load(model.spec), count_tokens(folder))
    _load_weights(net, model.weights)
    return net, config


def load_plain(path: Path, spec: str | SubnetSpec | None) -> tuple[Transducer, Config, Path]:
    """Load a subnet, or extract one from a supernet.

    Args:
        path: model folder.
        spec: ladder name, path of a spec.json or `SubnetSpec`; required for a supernet, refused for a subnet.

    Returns:
        The net, its config and the folder of its tokenizer.

    Raises:
        UserError: no model of these kinds, or a missing, unknown or superfluous spec.
    """
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
        raise UserError(
            f"{path}: a supernet needs a spec (--spec; spec= in Python), one of {names}, or the path of a "
            "spec.json"
        )
    return extract(supernet, resolve_spec(supernet.space, spec)), config, path


def resolve_spec(space: SearchSpace, spec: str | SubnetSpec) -> SubnetSpec:
    """Return the spec given by a ladder name, by the path of a spec.json, or itself."""
    if isinstance(spec, SubnetSpec):
        return spec
    return SubnetSpec.load(Path(spec)) if spec.endswith(".json") else space.resolve(spec)


def check_weights(net: nn.Module, weights: Mapping[str, Any], source: str) -> None:
    """Check names and shapes of a state dict.

    Raises:
        UserError: names `source` and the first tensor that does not fit `net`.
    """
    wanted = net.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights:
            raise UserError(f"{source}: has no tensor {name}; it belongs to another architecture")
        if name not in wanted:
            raise UserError(f"{source}: has an extra tensor {name}; it belongs to another architecture")
        have, want = tuple(weights[name].shape), tuple(wanted[name].shape)
        if have != want:
            raise UserError(f"{source}: {name} is {have}, but the config asks for {want}")


def _save_folder(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: Config,
    lang_dir: Path,
    spec: SubnetSpec | None = None,
) -> None:
    model, lang = ModelFolder(folder), LangFolder(lang_dir)
    for path in lang.language_files:
        if not path.is_file():
            raise UserError(f"{path}: missing; run 'todm prepare' first")
    # clone(): safetensors refuses tensors that share memory.
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()})
    # Written first, so that a full disk leaves the old folder; renamed last, so that a folder with weights is
    # complete.
    with atomic_file(model.weights) as file:
        file.write(content)
        file.flush()
        save_config(config, model.config)
        for source, target in zip(lang.language_files, model.language_files, strict=True):
            shutil.copyfile(source, target)
        if spec is not None:
            spec.save(model.spec)


def _load_weights(net: nn.Module, path: Path) -> None:
    try:
        weights = upgrade_names(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    check_weights(net, weights, str(path))
    net.load_state_dict(weights)
    net.eval()
