"""A threshold can be set to keep a given fraction, and the order of the tokens does not change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from namm_mm.errors import UsageError
from namm_mm.namm import Namm
from research.builders.text.threshold import BuildThreshold, shifted, solve

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("wanted", [0.2, 0.5, 0.9])
def test_the_bias_is_found_on_both_sides_of_the_start(wanted: float) -> None:
    bias, found = solve(lambda b: float(torch.sigmoid(torch.tensor(b - 0.3))), wanted)
    assert found == pytest.approx(wanted, abs=0.005)
    assert bias == pytest.approx(0.3 + torch.logit(torch.tensor(wanted)).item(), abs=0.05)


def test_a_fraction_below_what_always_stays_is_refused() -> None:
    with pytest.raises(UsageError, match=r"more than 0\.300"):
        solve(lambda b: 0.3 + (0.7 if b > 0 else 0.0), 0.1)


def test_all_scores_move_alike() -> None:
    namm = Namm.from_pretrained("provisional")
    spectrum, age = torch.rand(1, 2, 9, 17), torch.arange(9).flip(0).expand(1, 2, 9)
    lengths = torch.full((1, 2), 9)
    moved = shifted(namm, 0.25).score(spectrum, age, lengths)
    torch.testing.assert_close(moved, namm.score(spectrum, age, lengths) + 0.25)


def test_the_built_one_keeps_what_its_card_says(tiny: Path, tmp_path: Path) -> None:
    said: list[str] = []
    path = BuildThreshold(
        namm=str(tiny / "namm.safetensors"),
        out=tmp_path / "half.safetensors",
        fraction=0.8,
        prompts=2,
        words=100,
        model=str(tiny / "text"),
    ).build(said.append)
    card = Namm.from_pretrained(path).card
    assert "0.8" in card["threshold"]
    assert any(line.endswith("kept") for line in said)
    with pytest.raises(UsageError, match="wrong fraction"):
        BuildThreshold(namm="evolved", out=tmp_path / "x.safetensors", fraction=1.5).build()
