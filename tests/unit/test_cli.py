"""The command line around the verbs: help, options, exit codes, and composed configurations."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from namm_mm import __version__
from namm_mm.cli import VERBS, main
from namm_mm.commands.compose import compose, groups
from namm_mm.errors import UsageError


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_names_all_its_options(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"namm-mm {verb}" in printed
    for option in importlib.import_module(f"namm_mm.commands.{verb}").OPTIONS:
        assert f"--{option}" in printed


def test_without_a_verb_all_verbs_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"namm-mm {verb}" in printed for verb in VERBS)
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"namm-mm {__version__}\n"


def test_show_prints_a_configuration_that_makes_the_same_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from namm_mm.experiment.reading import from_mapping

    words = ["policies=[full,l2]", "budgets=['tokens:32']", "limit=3", "cells.text.interval=64"]
    assert main(["transfer", "experiment=pocket", *words, "--show"]) == 0
    first, _, text = capsys.readouterr().out.partition("\n")
    settings = from_mapping(yaml.safe_load(text))
    assert first == f"# config hash {settings.config_hash}"
    assert {cell.name: cell.limit for cell in settings.cells} == dict.fromkeys(
        ("text", "video", "control"), 3
    )
    assert settings.cells[0].interval == 64


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", "experiment=poket", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ZeroDivisionError("oh"), 1, "internal error, ZeroDivisionError: oh"),
        (KeyboardInterrupt(), 130, "stopped."),
    ],
)
def test_what_nobody_foresaw_ends_in_one_message(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(call: Any) -> int:
        raise error

    monkeypatch.setattr("namm_mm.commands.list.main", fail)
    assert main(["list"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith(f"namm-mm: {said}")
    assert "Traceback" not in printed


def test_groups_and_options_of_a_users_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nname: mine\ncells: {a: {adapter: text, task: long_text}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    assert "mine" in groups(tmp_path)["experiment"]
    assert "mine" not in groups()["experiment"]
    found = compose("transfer", ["experiment=mine", "output=here"], tmp_path)
    assert (found["name"], found["output"]) == ("mine", "here")
    assert found["checkpoint"] == "general"


@pytest.mark.parametrize("group", ["adapter", "task", "policy"])
def test_every_shipped_option_names_something_registered_with_known_options(group: str) -> None:
    from importlib.resources import files

    from namm_mm.adapters import ADAPTERS
    from namm_mm.policies import POLICIES
    from namm_mm.registry.registry import Registry, build
    from namm_mm.tasks import TASKS

    registries: dict[str, Registry[Any]] = {"adapter": ADAPTERS, "task": TASKS, "policy": POLICIES}
    for option in groups()[group]:
        text = (files("namm_mm.configs") / group / f"{option}.yaml").read_text(encoding="utf-8")
        options = yaml.safe_load(text)
        if option != "video_folder":  # needs a folder of the user's
            build(registries[group], options.pop("name"), options)


def test_the_mode_of_wandb_has_a_long_form_and_a_short_one() -> None:
    for word in ("tracker.wandb.mode=disabled", "wandb=disabled"):
        config = compose("transfer", [word])
        assert config["wandb"] == "disabled"
        assert "tracker" not in config
    with pytest.raises(UsageError, match=r"tracker\.wandb\.mode=MODE, or wandb=MODE"):
        compose("transfer", ["tracker.wandb.project=mine"])
