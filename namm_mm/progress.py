"""Progress of a long run: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

LINE_SECONDS = 10.0
"""Without a terminal, say so much no more often than this."""


class Progress(Protocol):
    """Is told how a run goes."""

    def say(self, text: str) -> None:
        """Say one line."""
        ...

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """Start to count the `total` records (or other units) of the cell `name`."""
        ...

    def advance(self) -> None:
        """One more record, or other unit."""
        ...

    def detail(self, text: str) -> None:
        """What is going on within the present record."""
        ...


class Silent:
    """Say nothing: the default of the Python API."""

    def say(self, text: str) -> None:
        """See :class:`Progress`."""

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """See :class:`Progress`."""

    def advance(self) -> None:
        """See :class:`Progress`."""

    def detail(self, text: str) -> None:
        """See :class:`Progress`."""


class Lines:
    """Plain lines, for logs: at the start and end of a cell, and now and then between."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._name, self._total, self._done, self._start, self._said = "", 0, 0, 0.0, 0.0
        self._unit = "records"

    def say(self, text: str) -> None:
        """See :class:`Progress`."""
        self.console.print(text, markup=False, highlight=False)

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """See :class:`Progress`."""
        self._name, self._total, self._done, self._unit = name, total, 0, unit
        self._start = self._said = time.monotonic()

    def advance(self) -> None:
        """See :class:`Progress`."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS or self._done == self._total:
            self._said = now
            passed = now - self._start
            left = passed / self._done * (self._total - self._done)
            times = f"{_clock(passed)} passed, {_clock(left)} left"
            self.say(f"{self._name}: {self._done}/{self._total} {self._unit}, {times}")

    def detail(self, text: str) -> None:
        """Do nothing: a log needs no such detail."""


class Bar:
    """A live bar with the time left."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._name = ""
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        """See :class:`Progress`."""
        self._bars.console.print(text, markup=False, highlight=False)

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """See :class:`Progress`."""
        self._name = name
        self._task = self._bars.add_task(name, total=total)

    def advance(self) -> None:
        """See :class:`Progress`."""
        if self._task is not None:
            self._bars.update(self._task, advance=1, description=self._name)

    def detail(self, text: str) -> None:
        """See :class:`Progress`."""
        if self._task is not None:
            self._bars.update(self._task, description=f"{self._name} ({text})")


@contextmanager
def showing(console: Console) -> Iterator[Progress]:
    """Show progress on `console` while the block runs."""
    if not console.is_terminal:
        yield Lines(console)
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console) as bars:
        yield Bar(bars)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
