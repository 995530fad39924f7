"""A NAMM is fitted to what answers need, and prompts are recorded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from namm_mm.errors import UsageError
from namm_mm.namm import Namm
from research.builders.text.warm_start import BuildWarmStart

pytestmark = pytest.mark.numeric


@pytest.mark.slow
def test_a_warm_start_is_made_again_from_its_recordings(tiny: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"prompts": 7, "words": 130, "steps": 8, "model": str(tiny / "text")}
    options |= {"start": str(tiny / "namm.safetensors"), "out": tmp_path / "warm"}
    path = BuildWarmStart(**options, rounds=1).build(said.append)
    made = Namm.from_pretrained(path)
    recorded = {file: file.stat().st_mtime_ns for file in (tmp_path / "warm").glob("examples-*")}
    assert len(recorded) == 7
    assert made.card["storage"] == "per_head"
    assert any("recording the fitted NAMM under eviction" in line for line in said)
    again = Namm.from_pretrained(BuildWarmStart(**options, rounds=1).build(said.append))
    assert (again.parameters == made.parameters).all()
    assert all(file.stat().st_mtime_ns == time for file, time in recorded.items())


def test_an_unknown_oracle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown oracle: got 'gradien'.*Did you mean 'gradient'"):
        BuildWarmStart(out=tmp_path, oracle="gradien").build()
