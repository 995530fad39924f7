"""A report as Markdown, for a pull request or a repository: tables, and pictures in a folder.

Without matplotlib, figures appear as their numbers alone, which are there in any case.
"""

from __future__ import annotations

import re
from pathlib import Path

from namm_mm.report import pictures
from namm_mm.results.blocks import (
    Block,
    Entry,
    Facts,
    Figure,
    Histories,
    HistoryView,
    Notice,
    Report,
    Samples,
    Table,
    Text,
)
from namm_mm.runs.history import History

EXAMPLES = 3
INDEXES = 32
"""Single samples that a document shows, and how many frames or timesteps of each."""

WORDS = 1500
"""Characters of a passage that a document shows."""


def render(report: Report, folder: Path | None = None) -> str:
    """Return the document.

    Parameters
    ----------
    report
        The blocks.
    folder
        Where to draw pictures, beside the document; None for numbers alone.
    """
    parts = [f"# {_escape(report.title)}", _escape(report.subtitle)]
    for section in report.sections:
        parts.append(f"## {_escape(section.title)}")
        for number, part in enumerate(section.blocks):
            picture = None
            if folder is not None and isinstance(part, Figure | Histories):
                title = re.sub(r"[^a-z0-9]+", "-", part.title.lower()).strip("-")
                picture = folder / f"{section.anchor}-{number}-{title}.png"
            parts.append(block(part, picture))
    return "\n\n".join(parts) + "\n"


def block(part: Block, picture: Path | None = None) -> str:
    """Return one block; `picture` is the file to draw, where the block can be drawn."""
    match part:
        case Text():
            return _escape(part.text)
        case Notice():
            return f"> **{'Warning' if part.warning else 'Note'}:** {_escape(part.text)}"
        case Table():
            return _table(part)
        case Figure():
            head = f"### {_escape(part.title)}\n\n{_escape(part.description)}"
            if picture is not None:
                pictures.figure(part, picture)
                head += f"\n\n{_image(part.title, picture)}"
            return f"{head}\n\n{_rows(part.table)}"
        case Facts():
            lines = [f"- {_escape(name)}: {_escape(value)}" for name, value in part.pairs]
            return f"### {_escape(part.title)}\n\n" + "\n".join(lines)
        case Samples():
            return _samples(part)
        case Histories():
            return _histories(part, picture)


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


def _histories(block: Histories, picture: Path | None) -> str:
    parts = [f"### {_escape(block.title)}", _escape(block.description)]
    for number, view in enumerate(block.views[:EXAMPLES]):
        about = [*view.about, *((one.policy, one.answer) for one in view.histories)]
        lines = "\n".join(f"- {_escape(name)}: {_escape(value)}" for name, value in about)
        parts.append(f"**{_escape(view.name)}**\n\n{lines}")
        file = picture and picture.with_stem(f"{picture.stem}-{number}")
        if file is not None and pictures.history(view, file):
            parts.append(_image(f"{view.name}, kept tokens", file))
        parts += _history(view)
    return "\n\n".join(parts)


def _history(view: HistoryView) -> list[str]:
    """The numbers of each policy; for text the passage in its first, middle and last layer."""
    parts = []
    for one in view.histories:
        history = one.history
        if not history.seen:
            continue
        sizes = ", ".join(
            f"{seen}: {100 * float(history.kept(update)[:seen].mean()):.0f}%"
            for update, seen in list(enumerate(history.seen))[:: -(-len(history.seen) // INDEXES)]
        )
        parts.append(f"{_escape(one.policy)}, kept after so many tokens: {sizes}")
        if view.form == "text" and one.policy.startswith("namm"):
            count = len(history.layers)
            for place in dict.fromkeys((0, count // 2, count - 1)):
                passage = _escape(remembered(history, place))
                parts.append(f"> layer {history.layers[place]}: {passage}")
    return parts


def remembered(history: History, layer: int) -> str:
    """The passage as one layer holds it at the end; what no head holds becomes ``[...]``."""
    held = history.kept(layer=layer) > 0
    text, gap = "", False
    for piece, here in zip(history.pieces, held.tolist(), strict=True):
        if here:
            text += piece
        elif not gap:
            text += " [...] "
        gap = not here
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"


def _image(title: str, file: Path) -> str:
    return f"![{_escape(title)}]({file.parent.name}/{file.name})"


def _table(table: Table) -> str:
    parts = [f"### {_escape(table.title)}", _escape(table.summary), _rows(table)]
    return "\n\n".join(part for part in (*parts, _escape(table.note)) if part)


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
