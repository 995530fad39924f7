"""The provisional NAMM is the rule its card states, and its card does not claim more."""

from __future__ import annotations

import math

import pytest
import torch
from compare import assert_same_indices

from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import available
from research.gradients.handwritten import DISCOUNT, THRESHOLD, handwritten, parameters

pytestmark = pytest.mark.numeric


def test_the_bundled_file_is_the_documented_vector() -> None:
    namm = Namm.from_pretrained("provisional")
    expected = parameters(namm.mean, namm.variance)
    torch.testing.assert_close(namm.parameters, expected, atol=1e-7, rtol=1e-5)
    assert (namm.scorer, namm.parameters.numel()) == ("bam", 4172)
    assert (namm.gamma, namm.interval) == (0.999, 128)
    assert "provisional" in available()


def test_its_card_says_that_it_was_not_evolved() -> None:
    card = Namm.from_pretrained("provisional").card
    assert card["evolved"] is False
    assert "not evolved" in card["about"]
    assert card["made_by"] == "namm-mm build provisional"


def test_it_keeps_exactly_what_reaches_the_threshold() -> None:
    namm = handwritten(torch.rand(17) * 0.02, torch.rand(17) * 0.01 + 1e-4, card={})
    spectrum = torch.rand(1, 2, 400, 17) * 4 * THRESHOLD
    age = torch.arange(399, -1, -1).expand(1, 2, 400)
    scores = namm.score(spectrum, age, torch.full((1, 2), 400))
    margin = spectrum[..., 0] - THRESHOLD * (1 - DISCOUNT * torch.cos(age / math.sqrt(50_000)))
    clear = margin.abs() > 1e-3 * THRESHOLD
    assert_same_indices((scores >= 0)[clear], (margin >= 0)[clear])
    assert 0.1 < float((scores >= 0).float().mean()) < 0.9
