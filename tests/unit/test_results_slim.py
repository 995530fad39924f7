"""Slim records give the same tables as the records that they were made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_records import make_record

from namm_mm.errors import UsageError
from namm_mm.records import Record
from namm_mm.results.rows import result_rows
from namm_mm.results.slim import read_slim, write_slim


def records() -> list[Record]:
    found = []
    for number in range(6):
        for policy, budget in (("full", "full"), ("namm", "threshold"), ("h2o", "match:namm")):
            value = float((number + len(policy)) % 3 > 0)
            found.append(
                make_record(
                    policy=policy, budget=budget, sample=f"s{number}", value=value,
                    family=("one", "two")[number % 2],
                )
            )  # fmt: skip
    found.append(make_record(policy="namm", budget="fraction:0.2", sample="s0", value=0.0))
    found.append(make_record(policy="h2o", budget="fraction:0.2", sample="s0", value=1.0))
    broken = make_record(policy="h2o", budget="match:namm", sample="s6")
    found.append(replace(broken, value=None, memory=None, error="it broke"))
    return found


@pytest.mark.parametrize("by_family", [False, True])
def test_slim_records_give_the_same_tables(tmp_path: Path, by_family: bool) -> None:
    whole = records()
    write_slim(tmp_path / "kept" / "slim.jsonl", whole)
    again = read_slim(tmp_path / "kept" / "slim.jsonl")
    tables = [repr(result_rows(found, by_family=by_family)) for found in (whole, again)]
    assert tables[0] == tables[1]
    assert sum(bool(record.error) for record in again) == 1
    assert len((tmp_path / "kept" / "slim.jsonl").read_text().splitlines()) == 5


def test_each_sample_keeps_its_metric(tmp_path: Path) -> None:
    whole = [
        make_record(sample=f"s{number}", metric=("accuracy", "exact_match")[number % 2])
        for number in range(4)
    ]
    write_slim(tmp_path / "slim.jsonl", whole)
    found = {record.sample: record.metric for record in read_slim(tmp_path / "slim.jsonl")}
    assert found == {record.sample: record.metric for record in whole}


def test_a_difference_is_taken_at_the_same_budget() -> None:
    row = next(
        row
        for row in result_rows(records())
        if (row.method.policy, row.method.budget) == ("h2o", "fraction:0.2")
    )
    assert row.from_namm is not None
    assert (row.from_namm.mean, row.from_namm.n) == (-1.0, 1), "the NAMM's other run scored 1"


def test_a_file_that_is_not_slim_records_is_named(tmp_path: Path) -> None:
    path = tmp_path / "slim.jsonl"
    with pytest.raises(UsageError, match=r"results_page\.py"):
        read_slim(path)
    path.write_text("{}\n")
    with pytest.raises(UsageError, match=r"slim\.jsonl, line 1"):
        read_slim(path)
