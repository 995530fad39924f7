"""A NAMM is fitted to what answers need, from what is recorded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from namm_mm.errors import UsageError
from namm_mm.namm import Namm
from research.builders.warm_start import build

pytestmark = pytest.mark.numeric


@pytest.mark.slow
def test_a_warm_start_holds_more_and_is_made_again_from_what_was_recorded(
    tiny: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"prompts": 7, "words": 130, "steps": 8, "model": str(tiny / "text")}
    options |= {"start": str(tiny / "namm.safetensors"), "out": tmp_path / "warm"}
    path = build(**options, rounds=1, say=said.append)
    made = Namm.from_pretrained(path)
    recorded = {file: file.stat().st_mtime_ns for file in (tmp_path / "warm").glob("shown-*")}
    assert len(recorded) == 7
    assert made.card["storage"] == "per_head"
    assert any("looking at what it is shown" in line for line in said)
    again = Namm.from_pretrained(build(**options, rounds=1, say=said.append))
    assert (again.parameters == made.parameters).all()
    assert all(file.stat().st_mtime_ns == time for file, time in recorded.items())


def test_an_oracle_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown oracle: got 'slop'.*Did you mean 'slope'"):
        build(out=tmp_path, oracle="slop")
