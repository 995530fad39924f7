"""Build a report: from runs to blocks, results first, notes and provenance last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from namm_mm.records import Record
from namm_mm.report.answers import answers, errors
from namm_mm.report.histories import histories
from namm_mm.report.samples import samples
from namm_mm.results import words
from namm_mm.results.blocks import Block, Facts, Notice, Report, Section, Text
from namm_mm.results.cells import Cell, Method, group
from namm_mm.results.compared_runs import compared_runs
from namm_mm.results.figures import detail_figures, quality_figures, styles_of
from namm_mm.results.result_table import LEGEND, result_tables
from namm_mm.results.rows import Row, result_rows
from namm_mm.results.styles import Styles
from namm_mm.runs.load import Run


def build(runs: Sequence[Run], rows: Sequence[Row] | None = None) -> Report:
    """Return the report of one run, or of several side by side.

    `rows` are those of all records, where they are known.
    """
    records = [record for run in runs for record in run.records]
    cells = group(records)
    styles = styles_of(cells)
    rows = result_rows(records) if rows is None else rows
    notes = _notes(runs)
    sections = [
        Section("results", "Results", tuple(_results(runs, rows, styles))),
        *_cells(runs, records, cells, styles),
        Section("errors", "Errors", tuple(errors(records))),
        *([Section("notes", "Notes", tuple(notes))] if notes else []),
        Section("provenance", "Provenance", tuple(map(_provenance, runs))),
    ]
    names = ", ".join(dict.fromkeys(record.experiment for record in records))
    told = ", ".join(f"{run.name}{'' if run.finished else ' (not finished)'}" for run in runs)
    subtitle = f"{words.count(len(records), 'record')} of {words.count(len(runs), 'run')}: {told}"
    if any(run.problems for run in runs):
        subtitle += ". Some records could not be read: see the notes."
    return Report(f"namm-mm: {names}", subtitle, tuple(sections))


def _results(runs: Sequence[Run], rows: Sequence[Row], styles: Styles) -> list[Block]:
    """Return each result table with its figure, then what differs between the runs."""
    figures = quality_figures(rows, styles)
    blocks: list[Block] = []
    for key, table in result_tables(rows).items():
        blocks.append(table)
        if key in figures:
            blocks.append(figures[key])
    compared = compared_runs(runs)
    return [*blocks, *([compared] if compared else []), Text(LEGEND)]


def _cells(
    runs: Sequence[Run],
    records: Sequence[Record],
    cells: Mapping[Cell, Mapping[Method, Sequence[Record]]],
    styles: Styles,
) -> list[Section]:
    """Return a section for each cell: figures, single samples, answers."""
    figures = detail_figures(records, styles)
    folders = {run.name: run.folder for run in runs}
    sections = []
    for number, (cell, methods) in enumerate(cells.items(), start=1):
        viewers = (
            histories(methods, styles, folders, len(cells)),
            samples(methods, styles, folders, len(cells)),
        )
        blocks: list[Block] = [*figures[cell], *(v for v in viewers if v is not None)]
        blocks.append(answers(methods, styles))
        sections.append(Section(f"cell-{number}", cell.title, tuple(blocks)))
    return sections


def _notes(runs: Sequence[Run]) -> list[Block]:
    """Return what a reader must know, warnings first."""
    warnings = []
    for run in runs:
        if not run.finished:
            what = {
                "running": "has not finished: it is still running, or was killed",
                "failed": "failed before its end",
                "stopped": "was stopped before its end",
            }.get(run.state.status, "does not say whether it finished: it has no run.json")
            kept = words.count(len(run.records), "record")
            warnings.append(f"{run.name} {what}. This report has its {kept}.")
        warnings += run.problems
    notes = dict.fromkeys(note for run in runs for note in run.state.notes)
    return [*(Notice(warning, warning=True) for warning in warnings), *map(Notice, notes)]


def _provenance(run: Run) -> Block:
    first = run.records[0].provenance
    dtypes = dict.fromkeys(
        f"{r.task}: {r.provenance.dtype}" for r in run.records if r.provenance.dtype
    )
    datasets = dict.fromkeys(f"{r.task}: {r.dataset}" for r in run.records)
    seeds = sorted({record.seed for record in run.records})
    pairs = (
        ("status", run.state.status),
        ("started", first.started),
        ("commit", first.commit or "unknown"),
        ("config hash", first.config_hash),
        ("device", first.device),
        ("processor", first.processor or "not recorded"),
        ("dtype", ", ".join(dtypes) or "not recorded"),
        ("seeds", ", ".join(map(str, seeds[:10])) + (" ..." if len(seeds) > 10 else "")),
        ("models", ", ".join(dict.fromkeys(record.model for record in run.records))),
        ("dataset fingerprints", ", ".join(datasets)),
        ("versions", ", ".join(f"{name} {v}" for name, v in first.versions.items())),
    )
    return Facts(run.name, pairs)
