"""A step along a gradient, and one against it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from research.benchmarks import gradient_step


def test_gradients_that_agree_have_a_cosine_of_one_and_large_ones_are_clipped() -> None:
    one = torch.tensor([1.0, 0.0])
    assert gradient_step.mean_cosine([one, 5 * one]) == pytest.approx(1.0)
    assert gradient_step.mean_cosine([one, torch.tensor([0.0, 1.0])]) == pytest.approx(0.0)
    along = gradient_step.direction([one, torch.tensor([0.0, 100.0])])
    torch.testing.assert_close(along, torch.tensor([1.0, 2.0]) / 5**0.5)


@pytest.mark.numeric
@pytest.mark.slow
def test_the_table_has_a_row_for_each_length(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", str(tiny / "text"), "--start", str(tiny / "namm.safetensors")]
    sizes = ["--prompts", "1", "--words", "100", "--fraction", "0.3"]
    monkeypatch.setattr(sys, "argv", ["gradient_step.py", *given, *sizes])
    gradient_step.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mean cosine of two prompts: ")
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| 0.03", "| 0.1", "| 0.3"]
    assert len(lines[4].split("|")) == 7
