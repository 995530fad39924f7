"""The experiments on published text and control models are whole, and one runs on stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from namm_mm.cli import main
from namm_mm.commands.compose import compose, groups
from namm_mm.runs import read_records

PREFIXES = ("paper_rl", "paper_text", "scale_text", "scale_rl")
NAMES = [name for name in groups()["experiment"] if name.startswith(PREFIXES)]


def test_every_published_control_model_has_a_cell() -> None:
    from namm_mm.adapters.control.statistics import STATE_STATISTICS

    cells = compose("transfer", ["experiment=paper_rl"])["cells"]
    assert set(cells) == {name.replace("-", "_") for name in STATE_STATISTICS}


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_can_be_planned(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = "h100x4" if name == "paper_text_70b" else "h100"
    assert main(["transfer", f"experiment={name}", "--plan", "--json", f"--gpu={gpu}"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"]
    for cell in plan["cells"]:
        assert cell["weights"], "the model is in no table"
        assert any(cell["model"] == download["what"] for download in plan["downloads"])
        if cell["task"] == "offline_rl":
            assert (cell["samples"], cell["context"], cell["sequences"]) == (100, 3000, 100)
        else:
            assert cell["context"] == 32768


def test_a_published_control_cell_runs_on_a_tiny_model(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny)
    words = [
        "experiment=paper_rl",
        "cells=[hopper_medium]",
        "cells.hopper_medium.adapter.model=control",
        "cells.hopper_medium.task.max_steps=20",
        "checkpoint=namm.safetensors",
        "limit=2",
        "wandb=disabled",
        f"folder={tmp_path / 'run'}",
    ]
    assert main(["transfer", *words]) == 0
    records = read_records(tmp_path / "run")[0]
    assert len(records) == 2 * 6
    for record in records:
        assert not record.error
        assert record.family == "Hopper-v4"
        assert record.details["target_return"] == 3600.0
        assert record.details["published_protocol"]
    played = {policy: [r for r in records if r.policy == policy] for policy in ("full", "window")}
    assert [r.sample for r in played["window"]] == [r.sample for r in played["full"]]  # paired
    for window, full in zip(played["window"], played["full"], strict=True):
        assert window.budget == "tokens:60"
        assert window.memory is not None
        assert full.memory is not None
        assert window.memory.seen == full.memory.seen <= 3 * 20 - 1  # it saw all of so short a time
        assert window.memory.tokens_peak == full.memory.tokens_final
        assert window.value == pytest.approx(full.value, abs=1e-2)
