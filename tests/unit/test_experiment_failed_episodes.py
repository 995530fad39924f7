"""An environment that breaks is an error of its own sample, in every policy's records."""

from __future__ import annotations

from typing import Any

import pytest

from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping
from namm_mm.tasks.offline_rl.environments import make_environment


def test_a_broken_environment_fails_its_sample_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    made: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        environment: Any = make_environment(*arguments, **options)
        made.append(environment)
        if len(made) % 3 == 2:  # the second of the three of each policy

            def broken(action: Any) -> Any:
                raise RuntimeError("simulation diverged")

            environment.step = broken
        return environment

    monkeypatch.setattr("namm_mm.tasks.offline_rl.task.make_environment", make)
    settings = from_mapping(
        {
            "name": "broken",
            "output": str(tmp_path),
            "wandb": "disabled",
            "policies": ["full", {"name": "recency", "budget": "tokens:12"}],
            "cells": {
                "control": {
                    "adapter": "decision_transformer",
                    "task": {"name": "offline_rl", "max_steps": 12},
                    "interval": 16,
                    "limit": 3,
                }
            },
        }
    )
    records = run(settings).records
    assert len(records) == 6
    failed = [record for record in records if record.error]
    assert {record.policy for record in failed} == {"full", "recency"}
    assert len({record.sample for record in failed}) == 1
    assert all("simulation diverged" in record.error for record in failed)
    assert all(record.value is None for record in failed)
    assert all(record.details["length"] == 12 for record in records if not record.error)
