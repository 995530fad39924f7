"""The command line is completed in three shells: verbs, options, keys, groups and their names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from namm_mm.cli import main
from namm_mm.commands.completing import candidates, options
from namm_mm.commands.verbs import VERBS


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("tr", "transfer"),
        ("", "completion"),
        ("transfer exp", "experiment="),
        ("transfer experiment=po", "experiment=pocket"),
        ("transfer pol", "policy="),
        ("transfer policy=sn", "policy=snapkv"),
        ("transfer policies=[full,sn", "policies=[full,snapkv"),
        ("transfer 'cells=[te", ""),
        ("transfer cells=[te", "cells=[text"),
        ("transfer checkpoint=gen", "checkpoint=general"),
        ("transfer --mul", "--multirun"),
        ("evaluate task=long_t", "task=long_text"),
        ("evaluate wandb=of", "wandb=offline"),
        ("evolve evolution=pa", "evolution=paper"),
        ("list pol", "policy"),
        ("namm sh", "show"),
        ("namm show gen", "general"),
        ("build pocket-v", "pocket-video"),
        ("ask smollm2-135m", "smollm2-135m-instruct"),
        ("ask MODEL QUESTION --policy h2", "h2o"),
        ("completion z", "zsh"),
        ("nothing x", ""),
    ],
)
def test_what_can_stand_in_the_place_of_a_word(line: str, there: str) -> None:
    found = candidates(line.split(" "))
    assert (there in found) if there else (found == [])


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_of_a_verb_are_completed(verb: str) -> None:
    assert "--help" in options(verb)
    assert set(options(verb)) >= set(candidates([verb, "--"]))


def test_a_users_own_experiment_is_completed(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("name: mine")
    line = ["transfer", "--configs", str(tmp_path), "experiment=mi"]
    assert candidates(line) == ["experiment=mine"]


SCRIPTS = {
    "bash": """eval "$(namm-mm completion bash)"
        COMP_LINE='namm-mm evaluate policy=snap'; COMP_POINT=${#COMP_LINE}
        _namm_mm; printf '%s\n' "${COMPREPLY[@]}" """,
    "zsh": """compdef() {}; compadd() { while [ "$1" != -- ]; do shift; done; shift; print -l "$@" }
        eval "$(namm-mm completion zsh)"
        words=(namm-mm evaluate policy=snap); CURRENT=3; PREFIX=policy=snap; _namm_mm""",
    "fish": "namm-mm completion fish | source; complete -C 'namm-mm evaluate policy=snap'",
}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_of_a_shell_runs_in_it(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [shell, "-c", SCRIPTS[shell]],
        env={"PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = "snapkv" if shell == "bash" else "policy=snapkv"  # readline splits at =
    assert done.stdout.split() == [expected], done.stderr


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bahs"]) == 2
    assert "Did you mean 'bash'?" in capsys.readouterr().err


def test_a_line_that_is_being_typed_never_fails(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["completion", "words"], ["completion", "words", "transfer", "--hel"]):
        assert main(line) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "--help"
