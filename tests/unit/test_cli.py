"""The command line around the verbs: help, version, what it prints, and exit codes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from namm_mm import __version__
from namm_mm.cli import main
from namm_mm.commands.compose import compose
from namm_mm.commands.verbs import VERBS
from namm_mm.experiment.reading import from_mapping


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


def test_help_takes_a_verb_and_version_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "report"]) == 0
    assert "namm-mm report RUN" in capsys.readouterr().out
    assert main(["help", "reprot"]) == 2
    assert "Did you mean 'report'?" in capsys.readouterr().err
    assert main(["version", "x"]) == 2


def test_show_prints_a_configuration_that_makes_the_same_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["policies=[full,l2]", "budgets=['tokens:32']", "limit=3", "cells.text.interval=64"]
    assert main(["transfer", "experiment=pocket", *words, "--show"]) == 0
    first, _, text = capsys.readouterr().out.partition("\n")
    settings = from_mapping(yaml.safe_load(text))
    assert first == f"# config hash {settings.config_hash}"
    assert {cell.name: cell.limit for cell in settings.cells} == dict.fromkeys(
        ("text", "video", "control"), 3
    )
    assert settings.cells[0].interval == 64


@pytest.mark.parametrize("verb", ["transfer", "evaluate", "evolve"])
def test_cfg_prints_the_composed_configuration(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "output=elsewhere", "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == compose(verb, ["output=elsewhere"])


def test_info_prints_the_files_that_a_configuration_is_made_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", "policy=l2", "--info", "defaults-tree"]) == 0
    tree = ["evaluate", "  adapter: text", "  task: long_text", "  policy: l2"]
    assert capsys.readouterr().out.splitlines() == [*tree, "  execution: serial", "  _self_"]
    assert main(["transfer", "-i", "defaults-tree", "adapter=text", "task=long_text"]) == 0
    assert "  task@cells.long_text.task: long_text" in capsys.readouterr().out.splitlines()


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


@pytest.mark.parametrize("text", ["name: [", "# @package _global_\ncells: 3\n", "- a\n"])
def test_a_file_of_a_user_that_is_broken_is_told(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    assert main(["transfer", "--configs", str(tmp_path), "experiment=mine", "--show"]) == 2
    told = capsys.readouterr().err
    assert "expected" in told
    assert "internal error" not in told
