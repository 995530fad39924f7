"""A report as Markdown: for a pull request, or a repository. Figures appear as their numbers."""

from __future__ import annotations

from namm_mm.report.blocks import (
    Block,
    Entry,
    Facts,
    Figure,
    Notice,
    Report,
    Samples,
    Table,
    Text,
)

EXAMPLES = 3
INDEXES = 32
"""Single samples that a document shows, and how many frames or timesteps of each."""


def render(report: Report) -> str:
    """Return the document."""
    parts = [f"# {_escape(report.title)}", _escape(report.subtitle)]
    for section in report.sections:
        parts.append(f"## {_escape(section.title)}")
        parts += [block(part) for part in section.blocks]
    return "\n\n".join(parts) + "\n"


def block(part: Block) -> str:
    """Return one block."""
    match part:
        case Text():
            return _escape(part.text)
        case Notice():
            return f"> **{'Warning' if part.warning else 'Note'}:** {_escape(part.text)}"
        case Table():
            return _table(part)
        case Figure():
            head = f"### {_escape(part.title)}\n\n{_escape(part.description)}"
            return f"{head}\n\n{_rows(part.table)}"
        case Facts():
            lines = [f"- {_escape(name)}: {_escape(value)}" for name, value in part.pairs]
            return f"### {_escape(part.title)}\n\n" + "\n".join(lines)
        case Samples():
            return _samples(part)


def _samples(samples: Samples) -> str:
    parts = [f"### {_escape(samples.title)}", _escape(samples.description)]
    for view in samples.views[:EXAMPLES]:
        lines = [f"- {_escape(name)}: {_escape(value)}" for name, value in view.about]
        kept = [
            f"- {_escape(row)}: {' '.join(f'{100 * value:.0f}%' for value in line[:INDEXES])}"
            + (" ..." if len(line) > INDEXES else "")
            for row, line in zip(view.rows, view.values, strict=True)
        ]
        parts.append(f"**{_escape(view.name)}**\n\n" + "\n".join([*lines, *kept]))
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    note = f"\n\n{_escape(table.note)}" if table.note else ""
    return f"### {_escape(table.title)}\n\n{_rows(table)}{note}"


def _rows(table: Table) -> str:
    head = "| " + " | ".join(_escape(column.name) for column in table.columns) + " |"
    rule = "|" + "|".join(" ---: " if column.numeric else " --- " for column in table.columns) + "|"
    body = ["| " + " | ".join(_entry(entry) for entry in row) + " |" for row in table.rows]
    return "\n".join([head, rule, *body])


def _entry(entry: Entry) -> str:
    text = _escape(entry.text)
    if entry.strong:
        text = f"**{text}**"
    return f"{text} {_escape(entry.detail)}".rstrip()


def _escape(text: str) -> str:
    for character in "\\`*_[]<>|#":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
