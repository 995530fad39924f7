"""Every policy runs in an experiment on text, video and control, and keeps what its budget says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


CELLS: dict[str, dict[str, Any]] = {
    "text": {
        "adapter": {"name": "text", "model": "text", "dtype": "float32", "device": "cpu"},
        "task": {"name": "long_text", "words": 120, "families": ["passkey"]},
        "interval": 32,
    },
    "video": {
        "adapter": {"name": "llava_video", "model": "video", "frames": 8, "dtype": "float32"},
        "task": {"name": "video_qa", "families": ["shown"], "cache": "rendered"},
        "interval": 16,
    },
    "control": {
        "adapter": {"name": "decision_transformer", "model": "control"},
        "task": {"name": "offline_rl", "environment": "Hopper-v5", "max_steps": 12},
        "interval": 12,
    },
}
EVERYWHERE = [
    "h2o",
    "l2",
    "snapkv",
    "tova",
    "expected_attention",
    "keydiff",
    {"name": "criticalkv", "over": "tova"},
    {"name": "adakv", "over": "criticalkv"},
]


def test_every_policy_runs_on_every_modality(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny)
    cells = {
        name: {
            **cell,
            "policies": ["full", *EVERYWHERE, *(["infinipot_v"] if name == "video" else [])],
            "budgets": ["fraction:0.5"],
            "storage": "per_head",
            "limit": 1,
        }
        for name, cell in CELLS.items()
    }
    settings = from_mapping({"name": "all", "cells": cells, "wandb": "disabled"})
    records = run(settings, folder=tmp_path / "run").records
    assert [record.error for record in records if record.error] == []
    for name, cell in CELLS.items():
        found = [r for r in records if r.adapter == cell["adapter"]["name"]]
        assert len(found) == 1 + len(EVERYWHERE) + (name == "video")
        for record in found:
            assert record.memory is not None
            if record.policy not in ("full", "l2"):  # l2 keeps two layers, all that there are
                assert record.memory.tokens_final < record.memory.seen


def test_a_run_with_a_policy_on_top_of_another_is_not_run_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records name both policies, and so does what is looked up; failed ones too."""
    monkeypatch.chdir(tiny)
    over = [{"name": "adakv", "over": below} for below in ("tova", "keydiff")]
    cell = {**CELLS["text"], "policies": over, "budgets": ["fraction:0.5"], "limit": 1}
    settings = from_mapping({"name": "two", "cells": {"text": cell}, "wandb": "disabled"})
    first = run(settings, folder=tmp_path / "run").records
    assert [r.policy for r in first] == ["adakv(tova)", "adakv(keydiff)"]
    assert run(settings, folder=tmp_path / "run").records == first
