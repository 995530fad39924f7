"""Options of the policies of 2024 to 2026: wrong ones are refused, wrappers leave them alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from namm_mm.errors import UsageError
from namm_mm.policies import Budget, create

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("snapkv", {"kernel": 4}, "an odd number"),
        ("snapkv", {"recents": 0}, "1 or more"),
        ("lagkv", {"lag": 1}, "2 or more"),
        ("protected", {"part": 0.5}, "below 0.5"),
        ("adakv", {"floor": 2.0}, "0 to 1"),
        ("adakv", {"over": "snapvk"}, "Did you mean 'snapkv'"),
        ("adakv", {"budget": "threshold"}, "a fraction, tokens:N or match:POLICY"),
        ("pyramid", {"beta": 0.5}, "1 or more"),
        ("expected_attention", {"epsilon": -1.0}, "0 or more"),
        ("expected_attention", {"future": 0}, "future of 1 or more"),
        ("criticalkv", {"first": 1.5}, "0 to 1"),
        ("infinipot_v", {"newest": 0.0}, "above 0"),
    ],
)
def test_wrong_options_are_refused_with_what_is_right(
    name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        create(name, **options)


def test_a_wrapper_replaces_no_field_of_the_policy_below() -> None:
    below = create("snapkv", recents=8, budget="tokens:5")
    above = create("adakv", over=below, budget=0.5)
    assert above.recents == 8
    assert above.name == "adakv(snapkv)"
    assert replace(above, budget=Budget(tokens=9)).selection.describe() == "tokens:9"
