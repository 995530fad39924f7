"""The control example runs as printed, and what it prints is right."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "control.py"


def test_the_control_example_plays_and_says_what_was_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        found = re.fullmatch(
            r"Hopper-v5/test/\d+: return (\d+), (\d+) of (\d+) tokens, kept by kind "
            r"\{'return': '\d+%', 'state': '\d+%', 'action': '\d+%'\}",
            line,
        )
        assert found, line
        reward, kept, seen = map(int, found.groups())
        assert 400 < reward < 700  # it hops: standing still gives about 200
        assert kept < seen == 599  # 200 steps of three tokens; the last action is never fed
