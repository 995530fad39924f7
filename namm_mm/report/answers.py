"""Answers of all policies to the same samples, and the samples that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.blocks import Block, Column, Entry, Table, Text
from namm_mm.results.cells import Method, failed
from namm_mm.results.styles import Styles

ANSWERS = 200
"""Answers that a report shows of one cell; of more, every so many-th."""

ERRORS = 100


def answers(methods: Mapping[Method, Sequence[Record]], styles: Styles) -> Table:
    """Return the answers of one cell, sample by sample."""
    total = sum(map(len, methods.values()))
    samples = list(dict.fromkeys(r.sample for found in methods.values() for r in found))
    step = max(1, -(-total // ANSWERS))
    rank = {sample: number for number, sample in enumerate(samples[::step])}
    shown = [(r, method) for method, found in methods.items() for r in found if r.sample in rank]
    shown.sort(key=lambda pair: rank[pair[0].sample])
    asked = any(record.asked.question for record, _ in shown)
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
    lines = tuple(_line(record, styles.label(method), asked) for record, method in shown)
    return Table("Answers", columns, lines, note, listing=True)


def _line(record: Record, label: str, asked: bool) -> tuple[Entry, ...]:
    kept = record.memory.kept_fraction if record.memory else None
    question = Entry(words.one_line(record.asked.question), words.one_line(expectation(record)))
    return (
        Entry(record.sample, value=record.sample),
        Entry(record.family, value=record.family),
        Entry(label),
        *([question] if asked else []),
        Entry(words.one_line(record.answer) or words.MISSING, words.one_line(record.error)),
        Entry(words.number(record.value), value=record.value),
        Entry(words.percent(kept), value=kept),
    )


def expectation(record: Record) -> str:
    """Return the options and the right answer of a record, where it has them."""
    parts = [" / ".join(record.asked.options)] if record.asked.options else []
    if record.asked.right_answer:
        parts.append(f"right: {record.asked.right_answer}")
    return "; ".join(parts)


def errors(records: Sequence[Record]) -> list[Block]:
    """Return how many records failed and why, and a table of them."""
    broken = [record for record in records if failed(record)]
    if not broken:
        return [Text(f"None: all {len(records):,} records have a score.")]
    reasons = Counter(map(reason, broken))
    shown = broken[:ERRORS]
    table = Table(
        "Samples that failed",
        (Column("task"), Column("policy"), Column("sample"), Column("what went wrong")),
        tuple(
            (
                Entry(record.task),
                Entry(f"{record.policy} {record.budget}"),
                Entry(record.sample),
                Entry(words.one_line(reason(record), 400)),
            )
            for record in shown
        ),
        note=f"{len(shown)} of {len(broken):,} are shown." if len(shown) < len(broken) else "",
        listing=True,
    )
    summary = "; ".join(
        f"{count:,} times: {words.one_line(why, 120)}" for why, count in reasons.most_common(5)
    )
    return [Text(f"{len(broken):,} of {len(records):,} records failed: {summary}"), table]


def reason(record: Record) -> str:
    """Return why a record has no score."""
    return record.error or f"the score is {record.value}"
