"""Keep the records of `experiment=field`, and fill its tables and pictures in docs/field.md.

    python research/benchmarks/results_field.py RUN_FOLDER
    python research/benchmarks/results_field.py

The first keeps the records of a run as research/results/field.jsonl.gz; both write the tables.
A line ``<!-- field: MODEL METRIC PART -->`` stands before a table of one budget: quality, bytes and
processor time (of field_times.md) beside each other. Without PART it is that of all budgets, and
with ``own`` that of sizes of their own. Pictures are written as docs/pictures/field-MODEL.png.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from namm_mm.policies.budgets import FRACTIONS
from namm_mm.records import Record
from namm_mm.report import pictures
from namm_mm.results import words
from namm_mm.results.cells import FULL
from namm_mm.results.comparisons import Significant, significant
from namm_mm.results.quality_figure import quality_by_bytes
from namm_mm.results.rows import Row, result_rows
from namm_mm.results.slim import read_slim, write_slim
from namm_mm.results.styles import Styles
from namm_mm.runs import read_records
from research.benchmarks.common import markdown
from research.benchmarks.results_page import KEPT, ROOT
from research.benchmarks.results_tables import difference

PAGE = ROOT / "docs" / "field.md"
RECORDS = KEPT / "field.jsonl.gz"
MARK = re.compile(r"(<!-- field: (\S+) (\S+)(?: (\S+))? -->\n)\n*(?:\|.*\n)*\n*")
TIMES = KEPT / "field_times.md"
TIME = re.compile(r"^\| \w+ \| (.+?) \| ([\d.]+) \|$", re.M)
CELLS = {
    "smollm2-135m-instruct": "text",
    "pocket_video": "video",
    "pocket_rl_hopper_orders": "control",
}
SHARED = ", shared"
"""The heads of a layer share the budget."""


def kept_records() -> list[Record]:
    """Return the kept records, as of one run."""
    found = read_slim(RECORDS)
    return [replace(r, provenance=replace(r.provenance, run="")) for r in found]


def filled(page: str, records: Iterable[Record]) -> str:
    """Return the text of the page with every table of the field made anew."""
    known = list(records)
    wanted = dict.fromkeys((found[2], found[3]) for found in MARK.finditer(page))
    rows = {pair: rows_of(known, *pair) for pair in wanted}
    return MARK.sub(
        lambda found: f"{found[1]}\n{_made(rows[found[2], found[3]], found[4])}\n\n", page
    )


def rows_of(records: Iterable[Record], model: str, metric: str) -> list[Row]:
    """Return the rows of one cell and metric."""
    return result_rows(r for r in records if (r.model, r.metric) == (model, metric))


def _made(rows: list[Row], part: str | None) -> str:
    if part is None:
        return _all_budgets(rows)
    held = significant(rows)
    chosen = [
        (place, row)
        for place, row in enumerate(rows)
        if row.method.policy == FULL or (_part(row) or "own") == part
    ]
    return _one_budget(rows, chosen, held, own=part == "own")


def _one_budget(
    rows: list[Row], chosen: list[tuple[int, Row]], held: Significant, *, own: bool
) -> str:
    places, times = words.decimals(rows), _seconds(CELLS[rows[0].cell.model])
    head = ["policy", *(["budget"] if own else []), "n", rows[0].metric.replace("_", " ")]
    lines = []
    for place, row in chosen:
        budget = [f"`{row.method.budget}`" if row.method.policy != FULL else ""] if own else []
        bytes_held = words.size(row.held.bytes) if row.held else words.MISSING
        part = words.percent(row.held.part) if row.held and row.held.part else ""
        lines.append(
            [
                *(_name(row), *budget, str(row.n), words.with_ends(row.score, places)),
                _from_namm(row, places, bold=place in held.from_namm),
                f"{bytes_held}{', ' * bool(part)}{part}{' (over)' * row.over_budget}",
                words.size(row.live_final),
                words.size(row.bytes_peak),
                times.get(row.method.label, words.MISSING),
            ]
        )
    return markdown([*head, "NAMM - this", "bytes", "at the end", "peak", "CPU s"], lines)


def _from_namm(row: Row, places: int, *, bold: bool) -> str:
    """The difference to a NAMM of the same budget; a dash where there is none."""
    if row.namm is None or not _part(row) or _budget_part(row.namm.budget) != _part(row):
        return words.MISSING
    return difference(row.from_namm, places, bold=bold)


def _seconds(cell: str) -> dict[str, str]:
    """Processor seconds of a sample by the label of the method, in a cell or its ``_own``."""
    text = TIMES.read_text(encoding="utf-8")
    own = "\n".join(line for line in text.splitlines() if line.startswith(f"| {cell}"))
    return dict(TIME.findall(own))


def _all_budgets(rows: list[Row]) -> str:
    places = words.decimals(rows)
    parts = sorted({part for row in rows if (part := _part(row))}, key=float)
    cells = {(_name(row), _part(row)): row for row in rows}
    names = dict.fromkeys(_name(row) for row in rows if _part(row))
    lines = []
    for name in names:
        found = [cells.get((name, part)) for part in parts]
        lines.append(
            [
                name,
                *(
                    words.MISSING
                    if row is None
                    else words.with_ends(row.score, places) + " (over)" * row.over_budget
                    for row in found
                ),
            ]
        )
    return markdown(["policy", *(f"{float(part):.0%}" for part in parts)], lines)


def _part(row: Row) -> str:
    """The part of the bytes that is the budget; empty for other budgets."""
    return _budget_part(row.method.budget)


def _budget_part(budget: str) -> str:
    kind, _, part = budget.partition(":")
    return part if FRACTIONS.get(kind, (False, False))[1] else ""


def _name(row: Row) -> str:
    return row.method.policy + SHARED * row.method.budget.startswith("pool")


def draw(records: list[Record], folder: Path) -> None:
    """Draw the curve of each modality: its first metric, and budgets in bytes."""
    found: dict[str, str] = {}
    for record in records:
        if record.metric:
            found.setdefault(record.model, record.metric)
    for model, metric in found.items():
        rows = [r for r in rows_of(records, model, metric) if _part(r) or r.method.policy == FULL]
        figure = quality_by_bytes(rows, Styles([row.method for row in rows]))
        if figure is not None:
            pictures.figure(figure, folder / f"field-{model.replace('_', '-')}.png")


def main() -> None:
    """Keep the records of a run, and write the page and its pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="run folder")
    args = parser.parse_args()
    if args.run is not None:
        records, problems = read_records(args.run)
        print(*problems, sep="\n")
        print(f"{write_slim(RECORDS, records) / 1024:.0f} KiB of {len(records)} records")
    records = kept_records()
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), records), encoding="utf-8")
    draw(records, PAGE.parent / "pictures")
    print(PAGE)


if __name__ == "__main__":
    main()
