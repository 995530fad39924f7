"""Fill the tables of docs/results-appendix.md from the records of record.

    python research/benchmarks/results_short.py

A line ``<!-- table: NAME MODEL METRIC [sizes] -->`` stands before each table: the records of
research/results/NAME.jsonl.gz with that model and metric, at the NAMM's own sizes; with ``sizes``,
spread over layers and heads in other ways. research/results/tables.md has all columns.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.cells import FULL
from namm_mm.results.comparisons import significant
from namm_mm.results.rows import Row, result_rows
from namm_mm.results.slim import read_slim
from research.benchmarks.common import markdown
from research.benchmarks.results_page import KEPT, RECORDS, ROOT, parts_of, spread_rows
from research.benchmarks.results_tables import difference

PAGE = ROOT / "docs" / "results-appendix.md"
MARK = re.compile(r"(<!-- table: (\S+) (\S+) (\S+?)( sizes)? -->\n)\n?(?:\|.*\n)*")
RENAMED = {"h2o": "h2o_16", "l2": "l2_all"}
"""What policies of records of version 0.1.0 are called now."""


def filled(page: str) -> str:
    """Return the text of the page with every table made anew."""
    return MARK.sub(lambda found: f"{found[1]}\n{_made(*found.groups()[1:])}\n", page)


def _made(name: str, model: str, metric: str, sizes: str | None) -> str:
    records = [
        replace(record, provenance=replace(record.provenance, run=""))
        for record in read_slim(KEPT / f"{name}{RECORDS}")
        if (record.model, record.metric) == (model, metric)
    ]
    own, spread, _ = parts_of(records)
    rows = spread_rows(own, spread) if sizes else result_rows(own)
    places = words.decimals(rows)
    bold = significant(rows).from_namm
    head = ["policy", "budget", "n", metric.replace("_", " "), "NAMM - this", "kept", "bytes"]
    lines = [
        [
            _name(row, records),
            "" if row.method.budget == FULL else f"`{row.method.budget}`",
            str(row.n),
            words.with_ends(row.score, places),
            difference(row.from_namm, places, bold=place in bold),
            words.percent(row.kept_fraction),
            words.size(row.bytes_final),
        ]
        for place, row in enumerate(rows)
    ]
    return markdown(head, lines)


def _name(row: Row, records: list[Record]) -> str:
    policy = row.method.policy
    old = any(
        r.policy == policy and r.provenance.versions.get("namm-mm") == "0.1.0" for r in records
    )
    return RENAMED.get(policy, policy) if old else policy


def main() -> None:
    """Write the page again."""
    Path(PAGE).write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
