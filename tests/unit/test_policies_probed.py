"""Sizes of heads by their need: the mean is the budget, and nobody gets more than it can see."""

from __future__ import annotations

import pytest

from namm_mm.errors import UsageError
from namm_mm.policies import create
from namm_mm.policies.head_need import HeadNeed

NEEDS = ((0.9, 0.0, 0.1), (0.3, 0.02, 0.0), (0.0, 0.0, 0.7))


@pytest.mark.parametrize(("size", "seen"), [(10, 200), (50, 200), (80, 200), (300, 1000)])
def test_the_mean_of_all_heads_is_the_budget(size: int, seen: int) -> None:
    need = HeadNeed(NEEDS, floor=0.25)
    sizes = [tokens for layer in range(3) for tokens in need.sizes(layer, size, seen)]
    assert sum(sizes) == 9 * size
    assert max(sizes) <= seen
    assert min(sizes) >= int(0.25 * size)


def test_a_head_that_needs_more_never_gets_less() -> None:
    need = HeadNeed(NEEDS, floor=0.1)
    sizes = [tokens for layer in range(3) for tokens in need.sizes(layer, 100, 256)]
    flat = [value for layer in NEEDS for value in layer]
    by_need = [tokens for _, tokens in sorted(zip(flat, sizes, strict=True))]
    assert by_need == sorted(by_need)
    assert sizes[0] == 256  # the neediest holds all that there is


def test_a_layer_with_a_window_gets_no_more_than_its_window() -> None:
    need = HeadNeed(NEEDS, floor=0.25, windows=(64, None, None))
    first = need.sizes(0, 200, 1000)
    assert max(first) <= 64
    rest = [tokens for layer in (1, 2) for tokens in need.sizes(layer, 200, 1000)]
    assert sum(first) + sum(rest) == 9 * 200


def test_heads_without_any_need_share_equally() -> None:
    need = HeadNeed(((0.0, 0.0), (0.0, 0.0)))
    assert need.sizes(0, 40, 100) == need.sizes(1, 40, 100) == (40, 40)


def test_all_heads_hold_all_tokens_where_the_budget_is_all_of_them() -> None:
    need = HeadNeed(NEEDS)
    assert [need.sizes(layer, 100, 100) for layer in range(3)] == [(100, 100, 100)] * 3


def test_sizes_that_nobody_measured_are_refused() -> None:
    with pytest.raises(UsageError, match="no model was probed"):
        HeadNeed().sizes(0, 10, 20)


def test_a_probed_policy_is_named_after_what_it_is_on_top_of_and_needs_storage_per_head() -> None:
    policy = create("probed", over="h2o", budget="bytes:0.3")
    assert policy.name == "probed(h2o)"
    assert policy.storage == "per_head"
    assert policy.selection.describe() == "bytes:0.3"
    assert create("less", over=policy, anyway=True).probe == policy.probe


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"floor": 1.5}, "0 to 1"),
        ({"tokens": 1}, "2 tokens or more"),
        ({"rows": 0}, "1 row or more"),
        ({"budget": "heads:smollm2"}, "fraction:F"),
        ({"budget": "threshold"}, "a fraction"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        create("probed", **options)


def test_the_budget_is_that_of_the_policy_below_or_two_fifths() -> None:
    given = create("h2o", budget="bytes:0.1")
    assert create("probed", over=given).selection.describe() == "bytes:0.1"
    assert create("probed", over=given, budget=0.3).selection.describe() == "fraction:0.3"
    assert create("probed").selection.describe() == "fraction:0.4"


def test_sizes_by_layer_and_by_need_are_refused_together() -> None:
    probed = create("probed", over="h2o", budget=0.3).for_needs(NEEDS, (None, None, None))
    with pytest.raises(UsageError, match="sizes by layer or by need"):
        _ = create("pyramid", over=probed).selection
