"""Tables of a report: the same numbers everywhere, marks, notes, and narrow consoles."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from report_makers import MEMORY, make_report, printed
from synthetic_records import make_record, make_records

from namm_mm.records import Record
from namm_mm.report import html, markdown
from namm_mm.results.blocks import Table
from namm_mm.results.rows import result_rows


def test_console_html_and_markdown_show_the_same_numbers(tmp_path: Path) -> None:
    records = make_records(12)
    made = make_report(tmp_path, records)
    page, document, table = html.render(made), markdown.render(made), printed(records)
    for row in result_rows(records):
        assert row.score is not None
        places = 1 if row.metric == "normalized_score" else 3
        mean = f"{row.score.mean:.{places}f}"
        assert mean in page
        assert mean in document
        assert mean in table
        assert f"[{row.score.low:.{min(places, 2)}f}, {row.score.high:.{min(places, 2)}f}]" in page
    assert "1 failed" in page
    assert "1 failed" in table


def everywhere(folder: Path, records: list[Record]) -> list[str]:
    """The console, the document, and the text of the page, each on one line."""
    made = make_report(folder, records)
    page = re.sub(r"<[^>]+>", " ", html.render(made))
    shown = printed(records), markdown.render(made).replace("\\", ""), page
    return [" ".join(text.split()) for text in shown]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[^\s()\u2500]+", text))


def test_a_narrow_console_leaves_columns_out_and_breaks_no_word() -> None:
    records = make_records(12)
    known = words_of(printed(records, 400))
    for width in (60, 80, 100, 160):
        lines = printed(records, width).splitlines()
        assert max(map(len, lines)) <= width
        assert words_of("\n".join(lines[:10])) <= known
    for name in ("match:namm", "kept", "cache bytes", "to full"):
        assert name in printed(records, 80)
    assert "Left out at this width: NAMM - this, cache tokens, first token." in printed(records, 80)
    assert "Left out at this width" not in printed(records, 160)


def test_every_part_of_what_is_told_of_a_cache_has_its_line_in_a_narrow_console() -> None:
    grown = dataclasses.replace(
        MEMORY, live_final=MEMORY.bytes_final - 1024, bytes_peak=2 * MEMORY.bytes_final
    )
    records = [make_record(sample="a"), make_record(sample="a", policy="namm", memory=grown)]
    lines = [line.strip() for line in printed(records, 80).splitlines()]
    assert any(line.endswith("cache bytes") for line in lines)
    assert "over full" in lines


def test_metrics_that_differ_stand_in_tables_of_their_own(tmp_path: Path) -> None:
    """Half of the samples have options and accuracy, half are generated and matched exactly."""
    records = [
        make_record(
            policy=policy,
            sample=f"s{i}",
            value=float(i % 2 == 0 or policy == "full"),
            metric="accuracy" if i < 4 else "exact_match",
            family="options" if i < 4 else "generated",
        )
        for policy in ("full", "namm")
        for i in range(12)
    ]
    records[-1] = dataclasses.replace(records[-1], value=None, metric="", error="broken")
    made = make_report(tmp_path, records)
    tables = [b for b in made.sections[0].blocks if isinstance(b, Table)]
    assert [table.title.rpartition(": ")[2] for table in tables] == ["accuracy", "exact match"]
    assert [table.rows[1][2].text for table in tables] == ["0.500", "0.571"]
    assert [(table.rows[1][1].text, table.rows[1][1].detail) for table in tables] == [
        ("4", ""),
        ("7", "1 failed"),
    ]
    assert ": exact match" in printed(records)


def test_only_differences_that_hold_after_holms_correction_are_bold(tmp_path: Path) -> None:
    """Ten of ten pairs differ: p is .002; six of six: p is .031, which Holm makes .06."""
    skills = {"full": 12, "namm": 12, "h2o": 2, "l2": 6}
    records = [
        make_record(policy=policy, sample=f"s{i:02d}", value=float(i < right))
        for policy, right in skills.items()
        for i in range(12)
    ]
    (table,) = [
        b for b in make_report(tmp_path, records).sections[0].blocks if isinstance(b, Table)
    ]
    bold = {
        row[0].text: [entry.strong for entry in row]
        for row in table.rows
        if any(e.strong for e in row)
    }
    assert list(bold) == ["h2o"]
    places = [
        column.name for column, strong in zip(table.columns, bold["h2o"], strict=True) if strong
    ]
    assert places == ["to full", "NAMM - this"]
    assert "is not significant (n = 12)" in table.summary


def test_a_budget_that_was_never_reached_is_told(tmp_path: Path) -> None:
    records = [
        make_record(sample=f"s{i}", policy=policy, budget=budget)
        for policy, budget in (("full", "full"), ("h2o", "tokens:256"), ("l2", "tokens:64"))
        for i in range(3)
    ]
    cut = dataclasses.replace(MEMORY, tokens_final=64.0, tokens_peak=64.0)
    records = [dataclasses.replace(r, memory=cut) if r.policy == "l2" else r for r in records]
    (table,) = [
        b for b in make_report(tmp_path, records).sections[0].blocks if isinstance(b, Table)
    ]
    assert table.note == "The budget was never reached and nothing was evicted: h2o tokens:256."
    assert [
        [entry.detail for entry in row if entry.warning and entry.detail] for row in table.rows
    ] == [[], ["nothing evicted"], []]
    for shown in everywhere(tmp_path, records):
        assert "nothing evicted" in shown
        assert "The budget was never reached and nothing was evicted: h2o tokens:256." in shown


def test_a_cache_larger_than_the_full_one_is_marked(tmp_path: Path) -> None:
    grown = dataclasses.replace(
        MEMORY, tokens_final=128.0, bytes_final=MEMORY.bytes_final + 1, bytes_peak=90000
    )
    records = [make_record(sample="a"), make_record(sample="a", policy="namm", memory=grown)]
    (table,) = [
        b for b in make_report(tmp_path, records).sections[0].blocks if isinstance(b, Table)
    ]
    assert table.note == (
        "The cache takes more bytes than the full one at the end: namm. "
        "The cache takes more bytes than the full one at its peak: namm."
    )
    for shown in everywhere(tmp_path, records):
        assert "over full" in shown
        assert "The cache takes more bytes than the full one at the end: namm." in shown


def test_a_budget_in_bytes_that_cannot_be_held_is_marked(tmp_path: Path) -> None:
    full = dataclasses.replace(MEMORY, live_final=60_000)
    more = dataclasses.replace(full, seen_updated=200, tokens_updated=1.0, live_updated=30_000)
    records = [
        make_record(sample="a", memory=full),
        make_record(sample="a", policy="h2o", budget="bytes:0.4", memory=more),
    ]
    for shown in everywhere(tmp_path, records):
        assert "64 % of full" in shown
        assert "over budget" in shown
        assert "takes more: h2o bytes:0.4." in shown
