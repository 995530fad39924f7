"""Reports of one run and of several: unfinished, cut off, failed, large, compared, or refused."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest
from report_makers import make_report, printed, write
from synthetic_records import PROVENANCE, make_record, make_records

from namm_mm import report
from namm_mm.errors import RunError, UsageError
from namm_mm.report import html
from namm_mm.report.contents import build
from namm_mm.results.blocks import Table
from namm_mm.results.compared_runs import told
from namm_mm.results.rows import result_rows
from namm_mm.runs import RunInfo
from namm_mm.runs.jsonl import write_records
from namm_mm.runs.load import load_runs
from namm_mm.runs.sweep import write_sweep
from namm_mm.tracking import open_run


def test_an_unfinished_run_is_reported_as_one(tmp_path: Path) -> None:
    info = RunInfo("pocket", "transfer", {}, PROVENANCE)
    tracker = open_run(tmp_path, info, wandb_mode="disabled")
    tracker.record(make_record())
    assert "has not finished" in report.render([tmp_path]).read_text()
    tracker.finish("ok")
    assert "has not finished" not in report.render([tmp_path]).read_text()


def test_a_cut_off_line_is_a_warning_in_the_report(tmp_path: Path) -> None:
    write(tmp_path, [make_record(sample=f"s{i}") for i in range(3)])
    file = tmp_path / "records.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    text = report.render([tmp_path], kind="markdown").read_text()
    assert "Warning" in text
    assert "line 3 is cut off" in text


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    one = write(tmp_path / "one", make_records(4), config={"interval": 128, "seeds": [0]})
    two = write(
        tmp_path / "two",
        make_records(4, run="second", seed=1),
        config={"interval": 64, "seeds": [0], "cells": {"text": {"policies": [{"name": "h2o"}]}}},
    )
    copy = write(tmp_path / "copy", make_records(4), config={"interval": 128, "seeds": [0]})
    runs = load_runs([one, two, copy])
    names = [PROVENANCE.run, "second", "copy"]
    assert [run.name for run in runs] == names
    made = build(runs)
    (table, *_, differences) = [b for b in made.sections[0].blocks if isinstance(b, Table)]
    assert table.columns[0].name == "run"
    assert {row[0].text for row in table.rows} == set(names)
    assert len(table.rows) == 3 * 5
    assert [column.name for column in differences.columns] == ["setting", *names]
    assert [[entry.text for entry in row] for row in differences.rows] == [
        ["interval", "128", "64", "128"],
        ["cells.text.policies.h2o.name", "(not set)", "h2o", "(not set)"],
    ]


def test_tables_of_different_runs_have_different_headings(tmp_path: Path) -> None:
    """Runs on other samples are not compared; each table names its run."""
    other = [
        dataclasses.replace(record, dataset="other") for record in make_records(4, run="second")
    ]
    folders = [write(tmp_path / "one", make_records(4)), write(tmp_path / "two", other)]
    made = build(load_runs(folders))
    titles = [b.title for b in made.sections[0].blocks if isinstance(b, Table)]
    assert len(titles) == len(set(titles)) == 3 + 3 + 1
    assert "long_text with text (smollm2-135m), run second" in titles
    assert "run second" in printed([r for run in load_runs(folders) for r in run.records])


@pytest.mark.parametrize("differing", [2, 9])
def test_a_few_differences_are_told_in_the_console_and_many_are_counted(
    tmp_path: Path, differing: int
) -> None:
    configs = [{f"key{at}": run for at in range(differing)} for run in range(2)]
    folders = [
        write(tmp_path / str(run), make_records(2, run=str(run)), config=config)
        for run, config in enumerate(configs)
    ]
    lines = [line for line in told(load_runs(folders)) if "differ" in line or "key" in line]
    if differing == 2:
        assert lines == ["key0: 0 in 0, 1 in 1", "key1: 0 in 0, 1 in 1"]
    else:
        assert lines[0].startswith("9 settings differ between the runs: see")


def test_a_folder_of_runs_is_answered_with_its_newest_run(tmp_path: Path) -> None:
    newest = write(tmp_path / "video" / "new", [make_record()])
    with pytest.raises(UsageError, match=rf"1 run or sweep; the newest: `namm-mm report {newest}"):
        report.render([tmp_path])
    sweep = tmp_path / "text" / "sweep"
    write_sweep(sweep, "text", {"0": ["limit=1"]})
    write(sweep / "0", [make_record()])
    os.utime(sweep, (2e9, 2e9))
    with pytest.raises(UsageError, match=rf"2 runs and sweeps; the newest: .*report {sweep}`"):
        report.render([tmp_path])


def test_a_column_without_a_value_takes_no_room_in_the_console() -> None:
    records = [make_record(policy="h2o", sample=f"s{i}") for i in range(3)]
    told = printed(records, 80)
    assert "NAMM - this" not in told
    assert "to full" not in told
    assert re.search(r"kept +cache bytes", told)


def test_a_time_that_was_not_measured_is_no_time_of_zero(tmp_path: Path) -> None:
    (row,) = result_rows([make_record(first_token_seconds=0.0)])
    assert row.first_token_seconds is None


def test_many_records_are_sampled_and_the_report_says_so(tmp_path: Path) -> None:
    records = make_records(100)
    page = html.render(make_report(tmp_path, records))
    assert len(page) < 6_000_000
    assert re.search(r"\d+ of 100 samples are shown", page)
    assert "1,500 records" in page


def test_a_run_of_failures_only_still_gives_a_report(tmp_path: Path) -> None:
    records = [
        make_record(sample=f"s{i}", value=None, memory=None, metric="", error="no such file")
        for i in range(3)
    ]
    page = html.render(make_report(tmp_path, records))
    assert "3 of 3 records failed: 3 times: no such file" in page
    assert "3 failed" in printed(records)


def test_what_cannot_be_reported_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records"):
        report.render([tmp_path / "nothing"])
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(UsageError, match="without records"):
        report.render([tmp_path])
    with pytest.raises(UsageError, match="one or more run folders"):
        report.render([])
    write(tmp_path, [make_record()])
    with pytest.raises(UsageError, match="Did you mean 'html'"):
        report.render([tmp_path], kind="htm")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        report.render([tmp_path], tmp_path / "file" / "report.html")


@pytest.mark.slow
def test_ten_thousand_records_make_a_small_page(tmp_path: Path) -> None:
    write_records(tmp_path, make_records(667))
    page = report.render([tmp_path])
    assert page.stat().st_size < 6_000_000
    text = page.read_text()
    assert "10,005 records" in text
    assert "of 667 samples are shown" in text
    assert "does not say whether it finished" in text
