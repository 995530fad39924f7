"""Pages of paired results: groups, pairs over models, what holds, and the committed ones."""

from __future__ import annotations

import pytest
from synthetic_records import make_record

from namm_mm.records import Record
from namm_mm.results.slim import read_slim
from research.benchmarks import paired_results
from research.benchmarks.paired_results import PAGES, kept_file, page_of
from research.benchmarks.results_page import KEPT

POLICIES = {
    ("full", "full"): 90.0,
    ("namm", "pool_bytes:0.2"): 80.0,
    ("namm", "bytes:0.2"): 79.0,
    ("h2o", "bytes:0.2"): 79.5,
    ("recency", "bytes:0.2"): 10.0,
}
SEEDS, EPISODES = 3, 8


@pytest.fixture
def records() -> list[Record]:
    return [
        make_record(
            experiment="control_heads", model=f"runs/heads/pocket_rl_hopper_orders_4_seed{seed}",
            policy=policy, budget=budget, sample=f"Hopper/test/{number}", value=value + number % 3
            if policy != "h2o" else value + (number + seed) % 3, family="Hopper-v5 with orders",
            metric="normalized_score",
        )
        for (policy, budget), value in POLICIES.items()
        for seed in range(SEEDS)
        for number in range(EPISODES)
    ]  # fmt: skip


def test_episodes_of_several_models_are_pairs_of_their_own(records: list[Record]) -> None:
    page = page_of("control_heads", records)
    assert "## Hopper-v5 with orders, 4 heads" in page
    assert f"| full cache, n = {SEEDS * EPISODES} | 90.9" in page
    rows = {line.split(" | ")[0]: line for line in page.splitlines()}
    assert "**+70.0 [" in rows["| `namm, shared` - `recency`"]
    assert "**" not in rows["| `namm, shared` - `h2o`"]
    assert "| 20% |" in page
    assert "`pocket_rl_hopper_orders_4_seed2`" in page


def test_a_failed_episode_has_no_score(records: list[Record]) -> None:
    broken = make_record(
        experiment="control_heads", model="pocket_rl_hopper_orders_4", policy="namm",
        budget="pool_bytes:0.2", sample="Hopper/test/0", family="Hopper-v5 with orders",
        error="broken",
    )  # fmt: skip
    found = paired_results.scores([*records, broken])
    assert all(len(own) == SEEDS * EPISODES for own in found.values())


@pytest.mark.parametrize("name", [name for name in PAGES if kept_file(name).is_file()])
def test_a_committed_page_is_that_of_its_records(name: str) -> None:
    made = page_of(name, read_slim(kept_file(name)))
    assert (KEPT / f"{name}.md").read_text(encoding="utf-8") == made
