"""What a report is made of: a few kinds of blocks that know no file format.

The renderers turn the same blocks into HTML, Markdown and a W&B report, so that all show the same
numbers. A figure carries its numbers as a table as well: for readers who cannot see it, and for
formats that cannot hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from namm_mm.runs.history import History


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """Something that must not be overlooked."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes
    ----------
    text, detail
        What is shown, and what is shown smaller below it.
    value
        What a table is sorted by; None where there is none, which goes last.
    strong
        Whether it is bold: a difference that holds.
    warning
        Whether `detail` is something that must not be overlooked.
    """

    text: str
    detail: str = ""
    value: float | str | None = None
    strong: bool = False
    warning: bool = False


@dataclass(frozen=True)
class Column:
    """Heading of a column.

    Attributes
    ----------
    name, help
        The heading, and what explains it.
    numeric
        Whether its entries are numbers, which are set to the right and sorted by value.
    rank
        A narrow terminal leaves out the columns of the highest rank first; it always shows 0.
    """

    name: str
    help: str = ""
    numeric: bool = False
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    title, summary
        The heading, and what the table says in a sentence, below the heading.
    columns, rows
        Each row has an entry for each column.
    note
        What must be known; goes below the table.
    listing
        Whether it has a row for each sample. Paper leaves such tables out.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    note: str = ""
    summary: str = ""
    listing: bool = False


@dataclass(frozen=True)
class Described:
    """What has a title, and a description in a sentence for readers who cannot see it."""

    title: str
    description: str


@dataclass(frozen=True)
class Figure(Described):
    """A plot.

    Attributes
    ----------
    plot
        A Plotly figure as a mapping with ``data`` and ``layout`` (JSON values only).
    table
        The numbers of the plot.
    height
        Pixels.
    wide
        Whether it takes the whole width of the page; others may stand side by side.
    task
        The task of a headline figure; empty for others.
    """

    plot: Mapping[str, Any]
    table: Table
    height: int = 360
    wide: bool = False
    task: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    title: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SampleView:
    """One sample, as every policy met it.

    Attributes
    ----------
    name
        The sample's id.
    about
        Names and values: the question, and each policy's answer.
    rows, values
        For each row of the strip its label, and the kept fraction of each index in order.
    frames
        The frames side by side, or the squares of a sound's seconds, as the data address of one
        picture; empty where there is none.
    """

    name: str
    about: tuple[tuple[str, str], ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    frames: str = ""


@dataclass(frozen=True)
class Samples(Described):
    """Samples to step through, one at a time."""

    views: tuple[SampleView, ...]


@dataclass(frozen=True)
class PolicyHistory:
    """What one policy kept of one sample, update by update.

    Attributes
    ----------
    policy, answer
        The policy's label, and what it answered, with its score.
    history
        When each token was forgotten.
    """

    policy: str
    answer: str
    history: History


@dataclass(frozen=True)
class HistoryView:
    """One sample, with the history under every policy.

    Attributes
    ----------
    name, about
        The sample's id; names and values: the question, the right answer.
    form
        What its tokens are: ``frames`` of a video, ``pictures``, seconds of a ``sound``, ``steps``
        of an episode, or ``text``.
    histories
        One for each policy.
    frames
        The frames, pictures or seconds of a sound side by side, each as wide, as the data address
        of one picture; empty where there is none.
    """

    name: str
    about: tuple[tuple[str, str], ...]
    form: str
    histories: tuple[PolicyHistory, ...]
    frames: str = ""


@dataclass(frozen=True)
class Histories(Described):
    """Samples to look into: over time, by layer and by head."""

    views: tuple[HistoryView, ...]


Block = Text | Notice | Table | Figure | Facts | Samples | Histories


@dataclass(frozen=True)
class Section:
    """A part of a report with its own heading and anchor."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
