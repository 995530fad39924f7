"""`namm-mm list` and `namm-mm doctor` tell what is there, and what to do about what is not."""

from __future__ import annotations

import pytest

from namm_mm.cli import main
from namm_mm.commands import checks as doctor
from namm_mm.commands.entries import entries


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
