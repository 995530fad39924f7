"""Write research/results/tables.md, with its plots, from the records of record.

    namm-mm transfer --configs research/configs experiment=pocket_full checkpoint=FILE
    python research/benchmarks/results_page.py RUN_FOLDER ...
    python research/benchmarks/results_page.py --add RUN_FOLDER
    python research/benchmarks/results_page.py

The first keeps the records of the runs and writes the page; ``--add`` adds them to the kept records
of the experiment, where newer ones replace older; the last writes the page again.

Records are kept small, as research/results/NAME.jsonl, where NAME is that of the experiment. A run
of the same experiment replaces them, unless it is added. The cells of an experiment may come from
several runs; what two runs have counts once, from the first.

Plots need matplotlib: ``pip install -c constraints.txt -e '.[report]'``.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from namm_mm.records import Record
from namm_mm.results.cells import FULL, NAMM, Cell, by_metric, cell_of, group
from namm_mm.results.rows import Row, result_rows
from namm_mm.results.slim import read_slim, write_slim
from namm_mm.runs import read_records, read_state
from namm_mm.runs.keys import key_of
from research.benchmarks.results_plots import draw_curve, draw_families
from research.benchmarks.results_tables import curve_table, family_table, limit, main_table

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "research" / "results"
RECORDS, NOTES = ".jsonl.gz", ".notes.txt"
"""Endings of the records and of the notes of an experiment."""
PAGE = KEPT / "tables.md"
LEGEND = (
    "The tables have means with 95 % intervals: Wilson's for right-or-wrong scores, a bootstrap "
    "over samples for others (bias-corrected and accelerated below 30 samples). *NAMM - this* is "
    "the paired difference by sample (or environment seed). A difference is **bold** where it "
    "holds at 5 % after Holm's correction over the table. The budget `match:namm` keeps as many "
    "tokens as the NAMM did on that sample, in every layer after every update, the same number in"
    " all heads; `match_heads:namm` as many in every head; `match_total:namm` as many in all, the"
    " same number in all layers and heads. *Tokens* are per head at the end, *bytes* are those of"
    " the whole cache, *time* is that to the first token (control: of each step). Failed samples "
    "are counted and are in no mean."
)
ORIGIN = (
    "All data was generated and all small models were trained locally. No number here compares "
    "with a published score. The records are older than the code of today: each section names the"
    " commit and the versions of its runs. In records of version 0.1.0 `h2o` is what is called "
    "`h2o_16` now: it protects 16 recent tokens, not half of the budget. `l2` is `l2_all` now: it "
    "evicts in the first two layers too."
)
SPREAD_NOTE = (
    "The same number of tokens in all, spread over layers and heads in other ways, on fewer "
    "samples. It separates what the NAMM knows of where memory is needed from which token to keep."
)
CURVE_NOTE = (
    "At equal limits, the same in all layers, on fewer samples; a limit is a fraction of the "
    "tokens or a number of tokens. Under `pool` the heads of a layer share their budget, as "
    "those of the NAMM do; all heads of the other policies keep the same number, unless "
    "`(pool)` is said."
)
CURVE = ("fraction", "tokens", "pool")
SPREAD = ("match_heads", "match_total")


def main() -> None:
    """Keep the records of runs, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    parser.add_argument("--add", action="store_true", help="keep other records, too")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of the kept records")
    args = parser.parse_args()
    keep(args.runs, args.kept, add=args.add)
    args.page.write_text(write(args.kept), encoding="utf-8")
    print(args.page)


def keep(runs: Sequence[Path], kept: Path, *, add: bool) -> None:
    """Write the records of `runs` into the folder `kept`, by experiment."""
    found: dict[str, list[Record]] = defaultdict(list)
    notes: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        records, problems = read_records(run)
        for problem in problems:
            print(f"{run}: {problem}")
        state = read_state(run)
        if state.status != "ok":
            print(f"{run}: this run has not finished; {len(records)} records are kept")
        found[records[0].experiment] += records
        notes[records[0].experiment] |= dict.fromkeys(state.notes)
    for name, several in found.items():
        file, told = kept / f"{name}{RECORDS}", kept / f"{name}{NOTES}"
        if add and file.is_file():
            several = several + read_slim(file)
            lines = told.read_text(encoding="utf-8").splitlines()
            notes[name] = dict.fromkeys(lines) | notes[name]
        records = list({key_of(record): record for record in reversed(several)}.values())[::-1]
        print(f"{file}: {write_slim(file, records) / 1024:.0f} KiB of {len(records)} records")
        told.write_text("\n".join(notes[name]) + "\n", encoding="utf-8")


def write(kept: Path) -> str:
    """Return the page, from all records in `kept`; the plots are written beside the records."""
    made_by = "Written by `python research/benchmarks/results_page.py`; do not edit."
    parts = ["# Results", made_by, LEGEND, ORIGIN]
    for notes in sorted(kept.glob(f"*{NOTES}")):
        stem = notes.name.removesuffix(NOTES)
        records = read_slim(kept / f"{stem}{RECORDS}")
        parts += [f"## {stem}", provenance(records)]
        parts += [f"> {line}" for line in notes.read_text(encoding="utf-8").splitlines()]
        for number, cell in enumerate(dict.fromkeys(map(cell_of, records)), start=1):
            own = [_of_one_run(record) for record in records if cell_of(record) == cell]
            parts += _sections(cell, own, kept / f"{stem}-{number}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _sections(cell: Cell, records: Sequence[Record], picture: Path) -> list[str]:
    """Return the sections of a cell, one for each metric."""
    metrics = by_metric(group(records)[cell])
    parts = []
    for metric, methods in metrics.items():
        title, name = cell.title, picture.name
        if len(metrics) > 1:
            title, name = f"{title}: {metric.replace('_', ' ')}", f"{name}-{metric}"
        own = [record for found in methods.values() for record in found]
        parts += section(title, own, picture.with_name(name))
    return parts


def _of_one_run(record: Record) -> Record:
    """Return the record without the name of its run: kept records count as one run."""
    return replace(record, provenance=replace(record.provenance, run=""))


def section(title: str, records: Sequence[Record], picture: Path) -> list[str]:
    """Return tables and plots: at the NAMM's own sizes, by family, and along the curve."""
    own, spread, curve = parts_of(records)
    rows, families = result_rows(own), result_rows(own, by_family=True)
    parts = [f"### {title}", main_table(rows)]
    if len({row.family for row in families}) > 1:
        draw_families(families, Path(f"{picture}-by-family.png"))
        parts += ["By family:", family_table(families), _image(picture, "by-family")]
    if spread:
        parts += [SPREAD_NOTE, main_table(spread_rows(own, spread))]
    if curve:
        found = [row for row in result_rows(_along(records, curve)) if row.score]
        draw_curve(found, Path(f"{picture}-curve.png"))
        parts += [CURVE_NOTE, curve_table(found), _image(picture, "curve")]
    return parts


def parts_of(records: Sequence[Record]) -> tuple[list[Record], list[Record], list[Record]]:
    """Return the records at the NAMM's own sizes, those spread in other ways, and the curve's."""
    matched = _matched(records)
    spread = [r for r in records if _kind(r) in SPREAD]
    curve = [
        r
        for r in records
        if _kind(r) in CURVE
        and r.policy != "window"  # its size is what it re-encodes, and not that of a cache
        and (r.policy, r.budget) != (NAMM, matched)
    ]
    elsewhere = {id(record) for record in (*spread, *curve)}
    return [r for r in records if id(r) not in elsewhere], spread, curve


def spread_rows(own: Sequence[Record], spread: Sequence[Record]) -> list[Row]:
    """Return the rows of policies whose sizes are spread in other ways, on the same samples."""
    names, asked = {r.policy for r in spread}, {r.sample for r in spread}
    same = [r for r in own if r.sample in asked and r.policy in {FULL, NAMM, *names}]
    return sorted(result_rows([*same, *spread]), key=_by_policy)


def _along(records: Sequence[Record], curve: Sequence[Record]) -> list[Record]:
    """Return the records of a curve, with the full cache and the NAMM on the same samples."""
    budgets, asked = {r.budget for r in curve}, {r.sample for r in curve}
    sizes = {limit(budget) for budget in budgets}
    return [
        r
        for r in records
        if r.sample in asked
        and r.policy != "window"
        and (
            r.budget in budgets
            or r.policy == FULL
            or (r.policy == NAMM and _kind(r) in CURVE and limit(r.budget) in sizes)
        )
    ]


def _kind(record: Record) -> str:
    return record.budget.partition(":")[0]


def _matched(records: Sequence[Record]) -> str:
    """Return the NAMM's budget that baselines match: its own rule, else that of most samples.

    Empty where there are baselines and none of them matches it.
    """
    others = [r for r in records if r.policy not in (FULL, NAMM, "window")]
    if others and not any(r.budget.startswith("match") for r in others):
        return ""
    found = Counter(r.budget for r in records if r.policy == NAMM)
    own = [budget for budget in found if budget.startswith("threshold")]
    return own[0] if own else max(found, key=found.__getitem__, default="")


def _by_policy(row: Row) -> tuple[int, str]:
    return (row.method.policy not in (FULL, NAMM), row.method.policy)


def provenance(records: Sequence[Record]) -> str:
    """Return where the numbers come from, as a paragraph."""
    runs = {r.provenance.run: r.provenance for r in records}
    seeds = sorted({r.seed for r in records})
    facts = [
        f"run {p.run}, configuration {p.config_hash[:12]}, commit {p.commit[:12] or 'unknown'}, "
        f"{p.device}, " + ", ".join(f"{k} {v}" for k, v in p.versions.items())
        for p in runs.values()
    ]
    return f"{'; '.join(facts)}. Seeds {', '.join(map(str, seeds))}."


def _image(picture: Path, kind: str) -> str:
    return f"![{kind}]({picture.name}-{kind}.png)"


if __name__ == "__main__":
    main()
