"""Rows of a table say what was measured, and are compared with what is most alike."""

from __future__ import annotations

import dataclasses
import math

import pytest
from synthetic_records import PROVENANCE, make_record

from namm_mm.records import MemoryUse
from namm_mm.results.result_table import result_tables
from namm_mm.results.rows import result_rows


def test_rows_pair_policies_on_shared_samples_only() -> None:
    values: dict[str, list[int | None]] = {
        "full": [1, 1, 1, 0],
        "namm": [1, 1, 0, 0],
        "h2o": [0, None, 1, 0],
    }
    records = [
        make_record(
            policy=policy,
            sample=f"s{index}",
            value=None if value is None else float(value),
            error="broken" if value is None else "",
        )
        for policy, line in values.items()
        for index, value in enumerate(line)
    ]
    full, namm, h2o = result_rows(records)
    assert [row.method.policy for row in (full, namm, h2o)] == ["full", "namm", "h2o"]
    assert (h2o.n, h2o.errors) == (3, 1)
    assert h2o.score is not None
    assert h2o.score.mean == pytest.approx(1 / 3)
    assert h2o.to_full is not None
    assert (h2o.to_full.n, h2o.to_full.mean) == (3, pytest.approx(-1 / 3))  # type: ignore[comparison-overlap]
    assert h2o.from_namm is not None
    assert h2o.from_namm.mean == pytest.approx(0.0)
    assert full.to_full is None
    assert namm.from_namm is None


def test_a_sample_scored_again_counts_once_with_its_last_record() -> None:
    first, again = make_record(value=0.0), make_record(value=1.0)
    (row,) = result_rows([first, again])
    assert row.n == 1
    assert row.score is not None
    assert row.score.mean == 1.0


def test_a_score_that_is_no_number_is_a_failure() -> None:
    records = [make_record(sample="a", value=math.nan), make_record(sample="b", value=0.5)]
    (row,) = result_rows(records)
    assert (row.n, row.errors) == (1, 1)
    assert row.score is not None
    assert row.score.mean == 0.5


def test_a_comparison_prefers_the_same_run_and_protocol() -> None:
    other = dataclasses.replace(PROVENANCE, run="other")
    records = [
        make_record(policy="full", value=0.0, provenance=other),
        make_record(policy="full", value=1.0),
        make_record(policy="l2", budget="tokens:8", value=1.0),
    ]
    (row,) = [row for row in result_rows(records) if row.method.policy == "l2"]
    assert row.to_full is not None
    assert row.to_full.mean == 0.0


def test_a_comparison_is_at_the_same_limit_even_in_another_run() -> None:
    """A limit that two runs share is kept once: the other run's baselines are paired with it."""
    first, other = PROVENANCE, dataclasses.replace(PROVENANCE, run="another")
    records = [
        make_record(policy="namm", budget="pool:0.05", value=0.0, provenance=other),
        make_record(policy="namm", budget="pool:0.1", value=1.0, provenance=first),
        make_record(policy="l2", budget="fraction:0.1", value=0.5, provenance=other),
    ]
    l2 = next(row for row in result_rows(records) if row.method.policy == "l2")
    assert l2.from_namm is not None
    assert l2.from_namm.mean == 0.5


def test_bytes_right_after_the_last_update_are_compared() -> None:
    """Of full caches of as many tokens: 100 bytes a token."""
    full = MemoryUse(300, 0, (300.0,), 300.0, 300.0, 33_000, 33_000, 30_000, 30_000)
    cut = MemoryUse(
        300, 2, (150.0,), 256.0, 150.0, 28_000, 18_000, 26_000, 15_200, 256, 102.0, 10_240
    )
    heavy = dataclasses.replace(cut, live_updated=12_800)
    rows = result_rows(
        [
            make_record(memory=full),
            make_record(policy="h2o", budget="bytes:0.4", memory=cut),
            make_record(policy="l2", budget="bytes:0.4", memory=heavy),
            make_record(policy="l2", budget="fraction:0.4", memory=heavy),
        ]
    )
    held = [row.held for row in rows if row.held is not None]
    assert [(one.bytes, one.part) for one in held] == [
        (30_000, None),
        (10_240, pytest.approx(0.4)),
        (12_800, pytest.approx(0.5)),
        (12_800, pytest.approx(0.5)),
    ]
    assert [row.over_budget for row in rows] == [False, False, True, False]
    (table,) = result_tables(rows).values()
    place = [column.name for column in table.columns].index("cache bytes")
    assert [(row[place].text, row[place].detail) for row in table.rows][:3] == [
        ("29.3 KiB", "allocated 32.2 KiB"),
        ("10.0 KiB", "40 % of full, end 14.8 KiB, allocated 17.6 KiB, peak 27.3 KiB"),
        ("12.5 KiB", "50 % of full, end 14.8 KiB, allocated 17.6 KiB, peak 27.3 KiB, over budget"),
    ]
    assert table.note == (
        "The budget in bytes cannot be held, because what the policy holds once for a sequence "
        "takes more: l2 bytes:0.4."
    )


def test_live_bytes_stand_beside_allocated_ones_and_old_records_have_none() -> None:
    use = MemoryUse(256, 2, (64.0,), 96.0, 64.0, 90_000, 70_000, 80_000, 51_200)
    (row,) = result_rows([make_record(memory=use)])
    assert (row.live_peak, row.live_final) == (80_000, 51_200)
    (table,) = result_tables([row]).values()
    place = [column.name for column in table.columns].index("cache bytes")
    assert table.rows[0][place].detail == "live 50.0 KiB, peak 87.9 KiB"
    old = dataclasses.replace(use, live_peak=None, live_final=None)
    (row,) = result_rows([make_record(memory=old)])
    assert row.live_final is None
    (table,) = result_tables([row]).values()
    assert table.rows[0][place].detail == "peak 87.9 KiB"
