"""Build a report: from runs to blocks. All numbers come from records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from namm_mm.records import Record
from namm_mm.report.histories import histories
from namm_mm.report.samples import samples
from namm_mm.results import plots, words
from namm_mm.results.blocks import (
    Block,
    Column,
    Entry,
    Facts,
    Notice,
    Report,
    Section,
    Table,
    Text,
)
from namm_mm.results.figures import _styles, figures
from namm_mm.results.rows import FULL, NAMM, Cell, Method, Row, failed, group, result_rows
from namm_mm.results.statistics import Interval
from namm_mm.runs.load import Run

ANSWERS = 200
"""Answers that a report shows of one cell; of more, every so many-th."""

ERRORS = 100

LEGEND = (
    "Brackets are 95 % intervals: Wilson's for right-or-wrong scores, else bootstrap over samples. "
    "Differences are paired, on the same samples. Cache sizes are those at the end, peaks below: "
    "tokens per head (mean over layers and heads), and allocated bytes of the whole cache. Failed "
    "samples are counted and are in no mean."
)


def build(runs: Sequence[Run]) -> Report:
    """Make the report of one run, or of several side by side."""
    records = [record for run in runs for record in run.records]
    cells = group(records)
    rows = result_rows(records)
    drawn = dict(figures(records, rows))
    styles = _styles(cells)
    sections = [Section("results", "Results", tuple(_headline(runs, cells, rows)))]
    for number, (cell, methods) in enumerate(cells.items(), start=1):
        blocks: list[Block] = [*drawn[cell]]
        folders = {run.name: run.folder for run in runs}
        viewers = histories(methods, styles, folders), samples(methods, styles, folders)
        blocks += [viewer for viewer in viewers if viewer is not None]
        blocks.append(_answers(methods, styles))
        sections.append(Section(f"cell-{number}", cell.title, tuple(blocks)))
    sections.append(Section("errors", "Errors", tuple(_errors(records))))
    sections.append(Section("provenance", "Provenance", tuple(_provenance(runs))))
    names = ", ".join(dict.fromkeys(cell.experiment for cell in cells))
    subtitle = f"{len(records):,} records of {_count(len(runs), 'run')}: " + ", ".join(
        run.name for run in runs
    )
    return Report(f"namm-mm: {names}", subtitle, tuple(sections))


def _headline(
    runs: Sequence[Run], cells: dict[Cell, dict[Method, list[Record]]], rows: Sequence[Row]
) -> list[Block]:
    blocks: list[Block] = []
    for run in runs:
        if not run.finished:
            what = {
                "running": "has not finished (it is still going, or was killed)",
                "failed": "failed before its end",
                "stopped": "was stopped before its end",
            }.get(run.state.status, "does not say whether it finished (it has no run.json)")
            blocks.append(
                Notice(
                    f"{run.name} {what}: these are its {len(run.records):,} records.", warning=True
                )
            )
        blocks += [Notice(problem, warning=True) for problem in run.problems]
    blocks += [Notice(note) for note in dict.fromkeys(n for run in runs for n in run.state.notes)]
    for cell in cells:
        own = [row for row in rows if row.cell == cell]
        blocks.append(Text(sentence(own)))
        blocks.append(result_table(cell, own))
    blocks.append(Text(LEGEND))
    return blocks


def sentence(rows: Sequence[Row]) -> str:
    """Say in words what NAMM did in one cell; only what the numbers say."""
    places = words.decimals(rows)
    namm = next((row for row in rows if row.method.policy == NAMM and row.score), None)
    full = next((row for row in rows if row.method.policy == FULL and row.score), None)
    if namm is None:
        return f"{_count(len(rows), 'method')} on {rows[0].cell.task}; NAMM is not among them."
    text = (
        f"NAMM keeps {words.percent(namm.kept_fraction)} of the tokens and scores "
        f"{words.with_ends(namm.score, places)}"
    )
    if full is not None:
        text += f"; the full cache scores {words.with_ends(full.score, places)}"
    if namm.to_full is not None:
        text += f"; the difference is {words.with_ends(namm.to_full, places, signed=True)}"
        text += _verdict(namm.to_full)
    return text + "."


def _verdict(difference: Interval) -> str:
    if not difference.known:
        return ""
    if difference.low <= 0.0 <= difference.high:
        return f", which these {difference.n} samples cannot tell from zero"
    return ""


def result_table(cell: Cell, rows: Sequence[Row]) -> Table:
    """Make the headline table of one cell."""
    runs = len({row.method.run for row in rows}) > 1
    variants = len({row.method[3:] for row in rows if row.method.policy != FULL}) > 1
    places = words.decimals(rows)
    columns = [
        *([Column("run")] if runs else []),
        Column("policy"),
        *([Column("memory", "storage, protocol, update interval")] if variants else []),
        Column("n", "samples scored; failed ones below", numeric=True),
        Column(rows[0].metric.replace("_", " "), "mean with its 95 % interval", numeric=True),
        Column("to full cache", "paired difference to the full cache", numeric=True),
        Column("NAMM - this", "paired difference of NAMM to this policy", numeric=True),
        Column("kept", "tokens at the end, of those seen", numeric=True),
        Column("cache tokens", "per head, at the end; peak below", numeric=True),
        Column("cache bytes", "whole cache, at the end; peak below", numeric=True),
        Column("first token", "time to the first token; each later one below", numeric=True),
    ]
    lines = []
    for row in rows:
        method = row.method
        budget = "" if method.budget == FULL else method.budget
        lines.append(
            (
                *([Entry(method.run, value=method.run)] if runs else []),
                Entry(method.policy, budget, method.label, strong=method.policy == NAMM),
                *(
                    [Entry(f"{method.storage}, {method.protocol}, {method.interval}")]
                    if variants
                    else []
                ),
                Entry(f"{row.n:,}", f"{row.errors:,} failed" if row.errors else "", row.n),
                interval_entry(row.score, places, strong=method.policy == NAMM),
                interval_entry(row.to_full, places, signed=True),
                interval_entry(row.from_namm, places, signed=True),
                Entry(words.percent(row.kept_fraction), value=row.kept_fraction),
                Entry(
                    words.tokens(row.tokens_final), words.tokens(row.tokens_peak), row.tokens_final
                ),
                Entry(words.size(row.bytes_final), words.size(row.bytes_peak), row.bytes_final),
                Entry(
                    words.duration(row.first_token_seconds),
                    words.duration(row.token_seconds),
                    row.first_token_seconds,
                ),
            )
        )
    return Table(cell.title, tuple(columns), tuple(lines))


def interval_entry(
    interval: Interval | None, places: int, *, signed: bool = False, strong: bool = False
) -> Entry:
    """Mean over its interval."""
    return Entry(
        words.mean(interval, places, signed=signed),
        words.ends(interval, places, signed=signed),
        None if interval is None else interval.mean,
        strong,
    )


def _answers(methods: Mapping[Method, Sequence[Record]], styles: plots.Styles) -> Table:
    """Answers of all methods to the same samples, side by side."""
    total = sum(map(len, methods.values()))
    samples = list(dict.fromkeys(r.sample for found in methods.values() for r in found))
    step = max(1, -(-total // ANSWERS))
    rank = {sample: number for number, sample in enumerate(samples[::step])}
    shown = [(r, method) for method, found in methods.items() for r in found if r.sample in rank]
    shown.sort(key=lambda pair: rank[pair[0].sample])
    asked = any(record.asked.question for record, _ in shown)
    lines = []
    for record, method in shown:
        use = record.memory
        kept = use.kept_fraction if use else None
        lines.append(
            (
                Entry(record.sample, value=record.sample),
                Entry(record.family, value=record.family),
                Entry(styles.label(method)),
                *(
                    [
                        Entry(
                            shorten(record.asked.question),
                            shorten(expectation(record)),
                        )
                    ]
                    if asked
                    else []
                ),
                Entry(shorten(record.answer) or words.MISSING, shorten(record.error)),
                Entry(words.number(record.value), value=record.value),
                Entry(words.percent(kept), value=kept),
            )
        )
    columns = (
        Column("sample"),
        Column("family"),
        Column("policy"),
        *([Column("question", "options and the right answer below")] if asked else []),
        Column("answer"),
        Column("score", numeric=True),
        Column("kept", numeric=True),
    )
    note = f"{len(rank):,} of {len(samples):,} samples are shown." if step > 1 else ""
    return Table("Answers", columns, tuple(lines), note)


def expectation(record: Record) -> str:
    """Return the options and the right answer of a record, where it has them."""
    parts = [" / ".join(record.asked.options)] if record.asked.options else []
    if record.asked.right_answer:
        parts.append(f"right: {record.asked.right_answer}")
    return "; ".join(parts)


def shorten(text: str, limit: int = 160) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _errors(records: Sequence[Record]) -> list[Block]:
    broken = [record for record in records if failed(record)]
    if not broken:
        return [Text(f"None: all {len(records):,} records have a score.")]
    reasons = Counter(reason(record) for record in broken)
    shown = broken[:ERRORS]
    table = Table(
        "Samples that failed",
        (Column("task"), Column("policy"), Column("sample"), Column("what went wrong")),
        tuple(
            (
                Entry(record.task),
                Entry(f"{record.policy} {record.budget}"),
                Entry(record.sample),
                Entry(shorten(reason(record), 400)),
            )
            for record in shown
        ),
        note=f"{len(shown)} of {len(broken):,} are shown." if len(shown) < len(broken) else "",
    )
    summary = "; ".join(
        f"{count:,} times: {shorten(why, 120)}" for why, count in reasons.most_common(5)
    )
    return [Text(f"{len(broken):,} of {len(records):,} records failed: {summary}"), table]


def reason(record: Record) -> str:
    """Why a record has no score."""
    return record.error or f"the score is {record.value}"


def _provenance(runs: Sequence[Run]) -> list[Block]:
    blocks: list[Block] = []
    for run in runs:
        first = run.records[0].provenance
        datasets = dict.fromkeys(f"{r.task}: {r.dataset}" for r in run.records)
        seeds = sorted({record.seed for record in run.records})
        pairs = [
            ("status", run.state.status),
            ("started", first.started),
            ("commit", first.commit or "unknown"),
            ("config hash", first.config_hash),
            ("device", first.device),
            ("seeds", ", ".join(map(str, seeds[:10])) + (" ..." if len(seeds) > 10 else "")),
            ("models", ", ".join(dict.fromkeys(record.model for record in run.records))),
            ("dataset fingerprints", ", ".join(datasets)),
            ("versions", ", ".join(f"{name} {v}" for name, v in first.versions.items())),
        ]
        blocks.append(Facts(run.name, tuple(pairs)))
    return blocks


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
