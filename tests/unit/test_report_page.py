"""The page of a report: needs nothing from outside, holds any text, and is in order."""

from __future__ import annotations

import re
from pathlib import Path

from report_makers import figures, make_report, write
from synthetic_records import make_record, make_records

from namm_mm import report
from namm_mm.report import html, markdown


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = html.render(make_report(tmp_path, make_records(4)))
    shell = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "default-src 'none'" in shell
    assert not re.search(r"""(src|href)=["'](?!#)""", shell)
    assert "url(" not in shell


def test_text_from_records_cannot_break_the_page(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>|`**"
    records = [make_record(answer=evil, family=evil, policy=evil, sample=f"s{i}") for i in range(3)]
    records += [make_record(family="other", error=evil, value=None, sample="s9")]
    made = make_report(tmp_path, records)
    page = html.render(made)
    assert "<img" not in page
    assert page.count("</script>") == len(figures(made)) + 2
    rows = [line for line in markdown.render(made).splitlines() if line.startswith("| s0")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)


def test_results_come_first_and_notes_last(tmp_path: Path) -> None:
    write(tmp_path, [make_record()], notes=("NAMM: provisional",))
    page = report.render([tmp_path]).read_text()
    assert page.index("<table") < page.index("NAMM: provisional")
    headings = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert headings[0] == "Results"
    assert headings[-2:] == ["Notes", "Provenance"]


def test_a_heading_stands_above_its_own_sentence(tmp_path: Path) -> None:
    page = html.render(make_report(tmp_path, make_records(4)))
    for title in re.findall(r"<h3[^>]*>(long_text with[^<]*)", page):
        assert page.index(title) < page.index("NAMM keeps") < page.index("<table")
