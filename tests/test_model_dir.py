from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_supernet, write_lang
from todm.config import Config, SpaceConfig, load_config, save_config
from todm.errors import UserError
from todm.extract import extract
from todm.model_dir import (
    count_tokens,
    load_plain,
    load_subnet,
    load_supernet,
    model_kind,
    resolve_spec,
    save_subnet,
    save_supernet,
)
from todm.space.spec import SubnetSpec

CONFIG = Config(
    model=MODEL, space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
)


@pytest.fixture
def supernet_dir(tmp_path: Path) -> Path:
    lang = write_lang(tmp_path / "lang")
    save_supernet(tmp_path / "supernet", make_supernet().state_dict(), CONFIG, lang)
    return tmp_path / "supernet"


@pytest.fixture
def subnet_dir(supernet_dir: Path) -> Path:
    supernet, config = load_supernet(supernet_dir)
    folder = supernet_dir.parent / "subnet"
    save_subnet(folder, extract(supernet, SPACE.mid("streaming")), config, supernet_dir)
    return folder


def test_round_trips(supernet_dir: Path, subnet_dir: Path) -> None:
    supernet, config = load_supernet(supernet_dir)
    assert config == CONFIG and not supernet.training and count_tokens(supernet_dir) == VOCAB_SIZE
    for name, value in make_supernet().state_dict().items():
        assert torch.equal(supernet.state_dict()[name], value)
    net, config = load_subnet(subnet_dir)
    assert config == CONFIG and net.spec == SPACE.mid("streaming") and not net.training
    for name, value in extract(supernet, net.spec).state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    files = {"model.safetensors", "config.yaml", "tokens.txt", "bpe.model", "bpe.vocab"}
    assert {path.name for path in supernet_dir.iterdir()} == files
    assert {path.name for path in subnet_dir.iterdir()} == files | {"spec.json"}


def test_kinds(supernet_dir: Path, subnet_dir: Path, tmp_path: Path) -> None:
    assert model_kind(supernet_dir) == "supernet" and model_kind(subnet_dir) == "subnet"
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    with pytest.raises(UserError, match="not a model"):
        model_kind(bundle)
    (bundle / "encoder.int8.onnx").touch()
    assert model_kind(bundle) == "bundle"
    (tmp_path / "step-1.pt").touch()
    for name in ("step-1.pt", "nothing"):
        with pytest.raises(UserError, match=r"not a model; give a folder with model\.safetensors or encoder"):
            model_kind(tmp_path / name)


def test_plain_nets(supernet_dir: Path, subnet_dir: Path) -> None:
    net, _, folder = load_plain(subnet_dir, None)
    assert net.spec == SPACE.mid("streaming") and folder == subnet_dir
    net, _, folder = load_plain(supernet_dir, "max")
    assert net.spec == SPACE.max() and folder == supernet_dir
    net, _, _ = load_plain(supernet_dir, str(subnet_dir / "spec.json"))
    assert net.spec == SPACE.mid("streaming")
    with pytest.raises(UserError, match=r"needs a spec .* one of min, mid, max"):
        load_plain(supernet_dir, None)
    with pytest.raises(UserError, match="one size already"):
        load_plain(subnet_dir, "max")
    with pytest.raises(UserError, match="'huge': not one of"):
        load_plain(supernet_dir, "huge")
    checkpoint = supernet_dir.parent / "step-1.pt"
    checkpoint.touch()
    with pytest.raises(UserError, match="not a model"):
        load_plain(checkpoint, "max")
    SubnetSpec(layers=(0,), widths={"ffn_dim": (9,)}, mode="offline").save(supernet_dir.parent / "odd.json")
    with pytest.raises(UserError, match="outside the trained space"):
        load_plain(supernet_dir, str(supernet_dir.parent / "odd.json"))
    assert resolve_spec(SPACE, "min") == SPACE.min()


def test_damaged_weights(subnet_dir: Path) -> None:
    path = subnet_dir / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.safetensors: not a readable safetensors file"):
            load_subnet(subnet_dir)
    path.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_subnet(subnet_dir)


def test_weights_of_another_architecture(subnet_dir: Path, supernet_dir: Path) -> None:
    save_config(replace(CONFIG, model=replace(MODEL, d_model=20)), subnet_dir / "config.yaml")
    with pytest.raises(UserError, match=r"is \(.*\), but the config asks for \("):
        load_subnet(subnet_dir)
    save_config(CONFIG, subnet_dir / "config.yaml")
    weights = load_file(subnet_dir / "model.safetensors")
    del weights["norm.bias"]
    save_file(weights, subnet_dir / "model.safetensors")
    with pytest.raises(UserError, match=r"has no tensor norm\.bias; it belongs to another architecture"):
        load_subnet(subnet_dir)
    shutil.copyfile(supernet_dir / "model.safetensors", subnet_dir / "model.safetensors")
    with pytest.raises(UserError, match="another architecture"):
        load_subnet(subnet_dir)
    weights = load_file(supernet_dir / "model.safetensors")
    weights["surprise"] = torch.zeros(1)
    save_file(weights, supernet_dir / "model.safetensors")
    with pytest.raises(UserError, match="has an extra tensor surprise"):
        load_supernet(supernet_dir)


def test_weights_and_settings_with_names_of_earlier_versions(supernet_dir: Path) -> None:
    path = supernet_dir / "model.safetensors"
    weights = load_file(path)
    assert "simple_am_proj.weight" in weights
    old = {name.replace("am_proj.", "am.").replace("lm_proj.", "lm."): weights[name] for name in weights}
    save_file(old, path)
    assert "simple_am.weight" in load_file(path)
    settings = yaml.safe_load((supernet_dir / "config.yaml").read_text())
    settings["space"]["ffn_dims"] = settings["space"].pop("widths")["ffn_dim"]
    settings["data"]["pieces"] = settings["data"].pop("token_type")
    (supernet_dir / "config.yaml").write_text(yaml.safe_dump(settings))
    supernet, config = load_supernet(supernet_dir)
    assert config == CONFIG
    assert torch.equal(supernet.state_dict()["simple_lm_proj.bias"], weights["simple_lm_proj.bias"])


def test_missing_files(supernet_dir: Path, subnet_dir: Path, tmp_path: Path) -> None:
    (subnet_dir / "tokens.txt").unlink()
    with pytest.raises(UserError, match=r"tokens\.txt: missing"):
        load_subnet(subnet_dir)
    (supernet_dir / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml: no such config file"):
        load_supernet(supernet_dir)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"tokens\.txt: missing; run 'todm prepare' first"):
        save_supernet(tmp_path / "new", make_supernet().state_dict(), CONFIG, empty)
    # Without its language files a folder must not look like a model.
    assert not (tmp_path / "new" / "model.safetensors").exists()


def test_a_full_disk_leaves_the_old_model(
    supernet_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (supernet_dir / "model.safetensors").read_bytes()

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=r"no space left on the disk"):
        save_supernet(supernet_dir, make_supernet(seed=1).state_dict(), CONFIG, tmp_path / "lang")
    monkeypatch.undo()
    assert (supernet_dir / "model.safetensors").read_bytes() == before
    assert load_config(supernet_dir / "config.yaml") == CONFIG
    assert not list(supernet_dir.glob(".tmp*"))
