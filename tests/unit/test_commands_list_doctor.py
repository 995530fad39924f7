"""`namm-mm list` and `namm-mm doctor` tell what is there, and what to do about what is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from namm_mm.adapters import ADAPTERS
from namm_mm.cli import main
from namm_mm.commands import checks as doctor
from namm_mm.commands.entries import entries
from namm_mm.policies import POLICIES
from namm_mm.registry.source import describe
from namm_mm.tasks import TASKS


def test_everything_registered_is_listed_with_a_line_about_it() -> None:
    listed = list(entries())
    names = {(entry.kind, entry.name) for entry in listed}
    assert {
        ("adapter", "text"),
        ("adapter", "llava_video"),
        ("adapter", "decision_transformer"),
        ("task", "offline_rl"),
        ("policy", "h2o"),
        ("NAMM", "provisional"),
        ("model", "smollm2-135m-instruct"),
        ("experiment", "pocket"),
        ("evolution", "paper"),
    } <= names
    assert all(entry.about for entry in listed)
    whole = [entry.about for entry in listed if entry.kind in ("experiment", "evolution")]
    assert [about for about in whole if not about.endswith(".")] == []  # a sentence, not a line
    assert not [entry for entry in listed if entry.status in ("broken", "damaged")]


def test_what_is_absent_comes_with_the_command_that_gets_it() -> None:
    absent = [entry for entry in entries() if entry.status in ("absent", "can be installed")]
    assert all(entry.then for entry in absent)


def test_the_list_can_be_narrowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "policy"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("policies\n")
    assert "H2O, heavy hitters" in printed
    assert "adapters" not in printed


def test_what_things_are_stands_in_one_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "model"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines[1].index("Decision Transformer")
    for line in lines[1:]:
        name_alone = " " not in line.strip()
        assert name_alone or (line[place - 1] == " " and line[place] != " "), line


def test_a_sound_installation_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "ready to run" in printed
    for looked_at in ("video decoder decord: read 4 of 4", "Hopper-v5 steps", "W&B", "NAMM"):
        assert looked_at in printed


def test_something_broken_is_told_with_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_decoder(path: object) -> int:
        raise ImportError("libavcodec.so is missing")

    monkeypatch.setattr(doctor, "_frames_with_decord", no_decoder)
    monkeypatch.setenv("WANDB_MODE", "onlin")
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "broken  video decoder decord: ImportError: libavcodec.so is missing" in printed
    assert "next: pip install --force-reinstall decord2" in printed
    assert "next: unset WANDB_MODE" in printed
    assert "2 broken" in printed


def test_the_list_and_the_help_load_no_heavy_library() -> None:
    for words in (["list"], ["transfer", "--help"], ["evolve", "--help"]):
        code = f"""
import sys
from namm_mm.cli import main
main({words!r})
heavy = {{"torch", "transformers", "numpy", "hydra", "huggingface_hub", "wandb"}} & set(sys.modules)
sys.exit(f"{{heavy}}" if heavy else 0)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_what_a_component_says_is_read_from_its_source() -> None:
    for registry in (ADAPTERS, TASKS, POLICIES):
        for name in registry:
            found = describe(registry.source(name))
            assert found is not None, name
            assert found.about, name
            documented = registry.get(name).__doc__  # the same, imported
            assert documented
            assert documented.startswith(found.about)


def test_the_list_says_who_answers_who_acts_and_what_sets_two_policies_apart() -> None:
    about = {entry.name: entry.about for entry in entries()}
    kinds = {entry.name: entry.kind for entry in entries()}
    for name, kind in kinds.items():
        if kind in ("adapter", "task"):
            shape = "acting" if name in ("decision_transformer", "offline_rl") else "answering"
            assert about[name].endswith(f"({shape})")
    policies = [about[name] for name, kind in kinds.items() if kind == "policy"]
    assert len(set(policies)) == len(policies)


def test_a_component_without_source_is_not_described() -> None:
    for entry in ("namm_mm.policies.h2o:H20", "nowhere.at_all:Thing", "math:sqrt"):
        assert describe(entry) is None


def test_experiments_are_listed_with_their_cells() -> None:
    cells = {entry.name: entry.cells for entry in entries() if entry.kind == "experiment"}
    assert cells["pocket"] == ("text", "video", "control")
    assert "hopper_expert" in cells["paper_rl"]
