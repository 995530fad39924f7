"""The checkpoint of a run reaches every NAMM in it, also one below another policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from namm_mm.cli import main
from namm_mm.experiment.checkpoints import checkpoints, with_checkpoint


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("namm", {}, {"checkpoint": "mine"}),
        ("namm", {"checkpoint": "own"}, {"checkpoint": "own"}),
        ("probed", {}, {"over": {"name": "namm", "checkpoint": "mine"}}),
        ("probed", {"over": "namm"}, {"over": {"name": "namm", "checkpoint": "mine"}}),
        ("probed", {"over": "h2o"}, {"over": "h2o"}),
        (
            "less",
            {"over": {"name": "probed", "floor": 0.5}},
            {
                "over": {
                    "name": "probed",
                    "floor": 0.5,
                    "over": {"name": "namm", "checkpoint": "mine"},
                }
            },
        ),
        (
            "adakv",
            {"over": {"name": "namm", "checkpoint": "own"}},
            {"over": {"name": "namm", "checkpoint": "own"}},
        ),
        ("h2o", {}, {}),
        ("nothing_of_this_name", {}, {}),
    ],
)
def test_a_namm_that_names_no_checkpoint_gets_the_one_of_the_cell(
    name: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert with_checkpoint(name, options, "mine") == expected


def test_the_checkpoints_of_a_policy_are_those_of_all_namms_in_it() -> None:
    assert checkpoints("probed", {}) == ["namm"]
    assert checkpoints("probed", with_checkpoint("probed", {}, "mine")) == ["mine"]
    assert checkpoints("h2o", {}) == []


def test_a_run_keeps_the_namm_below_a_probe(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [
        *("transfer", "cells=[video]", "limit=1", "wandb=disabled", f"folder={folder}"),
        *("policies=[full,{name: probed, over: namm, budget: '0.5'}]", "checkpoint=evolved"),
    ]
    assert main(words) == 0
    card = json.loads((folder / "artifacts" / "namm" / "namm.json").read_text(encoding="utf-8"))
    bundled = Path(__file__).parents[2] / "namm_mm" / "assets" / "namm_evolved.json"
    assert card["about"] == json.loads(bundled.read_text(encoding="utf-8"))["about"]
    assert any(
        line.startswith("namm: ") for line in json.loads((folder / "run.json").read_text())["notes"]
    )
