"""A run goes on with more policies and cells: what is there is not run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from namm_mm.errors import UsageError
from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.runs import read_records, read_state
from namm_mm.runs.keys import key_of

pytestmark = pytest.mark.slow

CELLS: dict[str, Any] = {
    "text": {
        "adapter": {"name": "text", "model": "text", "dtype": "float32", "device": "cpu"},
        "task": {"name": "long_text", "words": 100, "families": ["passkey"]},
        "interval": 16,
    },
    "control": {
        "adapter": {"name": "decision_transformer", "model": "control", "device": "cpu"},
        "task": {"name": "offline_rl", "max_steps": 8},
        "interval": 16,
    },
}


@pytest.fixture(autouse=True)
def _in_tiny_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


def settings(policies: list[str], *cells: str, interval: int = 16) -> ExperimentSettings:
    return from_mapping(
        {
            "name": "grown",
            "wandb": "disabled",
            "limit": 2,
            "checkpoint": "namm.safetensors",
            "policies": policies,
            "budgets": ["match:namm"],
            "cells": {name: {**CELLS[name], "interval": interval} for name in cells},
        }
    )


def test_policies_and_cells_are_added_to_what_is_there(tmp_path: Path) -> None:
    """Only records that lack are made; a matched policy runs again and is not recorded again."""
    folder = tmp_path / "run"
    first = run(settings(["namm", "recency"], "text"), folder=folder)
    before = (folder / "records.jsonl").read_bytes()
    wanted = settings(["namm", "recency", "h2o"], "text", "control")
    grown = run(wanted, folder=folder)
    assert (len(first.records), len(grown.records)) == (4, 12)
    after = (folder / "records.jsonl").read_bytes()
    assert after.startswith(before)
    records, problems = read_records(folder)
    assert not problems
    assert len({key_of(record) for record in records}) == len(records) == 12
    assert {record.provenance.dtype for record in records} == {"float32"}
    assert all(record.provenance.processor for record in records)
    assert read_state(folder).provenance["config_hash"] == wanted.config_hash
    whole = run(wanted, folder=tmp_path / "whole")
    expected = {key_of(r): r.memory.kept_by_layer for r in whole.records if r.memory}
    assert {key_of(r): r.memory.kept_by_layer for r in records if r.memory} == expected


def test_what_a_number_depends_on_cannot_change_with_an_addition(tmp_path: Path) -> None:
    run(settings(["namm", "recency"], "text"), folder=tmp_path)
    with pytest.raises(UsageError, match=r"other settings.*\n.*interval: 32 -> 16"):
        run(settings(["namm", "recency", "h2o"], "text", interval=32), folder=tmp_path)
    with pytest.raises(UsageError, match="with more cells or policies if you like"):
        run(settings(["namm"], "text"), folder=tmp_path)
