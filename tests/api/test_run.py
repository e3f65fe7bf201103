"""`todm.Run`: typed steps with results, and several training processes started from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import todm
from tests.prepared import CONFIG, prepare_run
from todm.config import save_config
from todm.launch import ProcessesFailedError
from todm.layout import RunFolder
from todm.train.average import average


def test_two_processes_from_python_equal_the_command(tmp_path: Path) -> None:
    """The same run by `Run.train` and by processes that a launcher starts."""
    exp = prepare_run(tmp_path)
    config = replace(CONFIG, train=replace(CONFIG.train, num_processes=2, max_steps=4))
    result = todm.Run(exp, config).train()
    assert result.step == 4 and result.checkpoint.is_file()
    assert (exp / "train" / "launch.yaml").is_file() and (exp / "train" / "rank1.log").is_file()
    assert (exp / "train" / "train.log").is_file()
    assert todm.Run(exp).config.train.num_processes == 2
    assert average(exp)


def test_a_failed_process_is_an_exception(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exp = prepare_run(tmp_path)
    (exp / "data" / "manifests" / "train.jsonl.gz").unlink()
    config = replace(CONFIG, train=replace(CONFIG.train, num_processes=2))
    with pytest.raises(ProcessesFailedError, match="exit code 2"):
        todm.Run(exp, config).train()
    assert "train.jsonl.gz" in capfd.readouterr().err


def test_config_by_path_by_value_and_from_the_run(tmp_path: Path) -> None:
    assert todm.Run(tmp_path / "exp").config == todm.Config()
    save_config(CONFIG, tmp_path / "conf.yaml")
    assert todm.Run(tmp_path / "exp", str(tmp_path / "conf.yaml")).config == CONFIG
    assert todm.Run(tmp_path / "exp", CONFIG).config == CONFIG
    save_config(CONFIG, tmp_path / "exp" / "config.yaml")
    assert todm.Run(tmp_path / "exp").config == CONFIG


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    run = todm.Run(tmp_path / "exp", CONFIG)
    with pytest.raises(todm.UserError, match="run 'todm prepare"):
        run.train()
    with pytest.raises(todm.UserError, match="no such run folder"):
        run.average()
    with pytest.raises(todm.UserError, match="todm average"):
        run.search()
    with pytest.raises(todm.UserError, match="todm extract"):
        run.export()
    with pytest.raises(todm.UserError, match="todm export"):
        run.bench()
    with pytest.raises(todm.UserError, match="no such model"):
        run.decode("min", "dev-here", tmp_path)
    with pytest.raises(todm.UserError, match="no such corpus folder"):
        run.prepare(tmp_path / "none")


def test_settings_are_replaced_by_keyword() -> None:
    from todm.api.settings import replace_settings

    changed = replace_settings(
        CONFIG, "search", {"evaluations": 7, "seed": None, "limits": ["params <= 1 M"]}
    )
    assert (changed.search.evaluations, changed.search.seed) == (7, CONFIG.search.seed)
    assert changed.search.limits == ("params <= 1 M",)
    with pytest.raises(todm.UserError, match=r"search\.evaluation: no such .* did you mean evaluations\?"):
        replace_settings(CONFIG, "search", {"evaluation": 7})
    with pytest.raises(todm.UserError, match=r"search\.evaluations"):
        replace_settings(CONFIG, "search", {"evaluations": 0})


def test_a_bundle_is_given_by_name_or_as_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = todm.Run(tmp_path / "exp"), RunFolder(tmp_path / "other")
    for folder in (run.folder.bundle("min"), other.bundle("max")):
        folder.mkdir(parents=True)
    verified: list[tuple[Path, Path]] = []
    monkeypatch.setattr(
        "todm.api.run.verify_bundle", lambda bundle, subnet, *_, **__: verified.append((bundle, subnet))
    )
    monkeypatch.chdir(tmp_path)
    for bundle in ("min", run.folder.bundle("min"), Path("exp/bundles/min"), "other/bundles/max"):
        run.verify(bundle, "dev-here", tmp_path)
    assert [(bundle.resolve(), subnet) for bundle, subnet in verified] == [
        *3 * [(run.folder.bundle("min"), run.folder.subnet("min"))],
        (other.bundle("max"), other.subnet("max")),
    ]
    for call in (lambda: run.verify("huge", "dev-here", tmp_path), lambda: run.bench([Path("huge")])):
        with pytest.raises(todm.UserError, match=r"huge: no such bundle in .*; there are min"):
            call()
