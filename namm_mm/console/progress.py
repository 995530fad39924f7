"""Progress of a long run: a live view with the time left on a terminal, plain lines elsewhere.

Both show the scores so far, by policy, with how many samples they are means of.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from namm_mm.console.running_means import RunningMeans
from namm_mm.execution.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from namm_mm.records import Record

LINE_SECONDS = 10.0
"""Without a terminal, say so much no more often than this."""


class Lines:
    """Plain lines, for logs: at the start and end of a cell, and now and then between."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._name, self._total, self._done, self._start, self._said = "", 0, 0, 0.0, 0.0
        self._unit = "records"
        self._means = RunningMeans("")

    def say(self, text: str) -> None:
        """See :class:`Progress`."""
        self.console.print(text, markup=False, highlight=False)

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """See :class:`Progress`."""
        self._name, self._total, self._done, self._unit = name, total, 0, unit
        self._start = self._said = time.monotonic()
        self._means = RunningMeans(name)

    def advance(self, record: Record | None = None) -> None:
        """See :class:`Progress`."""
        self._done += 1
        if record is not None:
            self._means.add(record)
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS or self._done == self._total:
            self._said = now
            passed = now - self._start
            left = passed / self._done * (self._total - self._done)
            times = f"{_clock(passed)} passed, {_clock(left)} left"
            self.say(f"{self._name}: {self._done}/{self._total} {self._unit}, {times}")
            if self._means and self._done == self._total:
                self.say(f"{self._name}: {self._means.line()}")

    def detail(self, text: str) -> None:
        """Do nothing: a log needs no such detail."""


class Watch:
    """A live view: the scores so far of the cell that runs, and a bar with the time left."""

    def __init__(self, live: Live, bars: Bars) -> None:
        self._live, self._bars = live, bars
        self._name = ""
        self._task: TaskID | None = None
        self._means = RunningMeans("")

    def say(self, text: str) -> None:
        """See :class:`Progress`."""
        self._live.console.print(text, markup=False, highlight=False)

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """See :class:`Progress`."""
        if self._means:  # of a cell that is over: stays on the screen, above the live part
            self._live.console.print(self._means.table())
        self._name, self._means = name, RunningMeans(name)
        self._task = self._bars.add_task(name, total=total)
        self._show()

    def advance(self, record: Record | None = None) -> None:
        """See :class:`Progress`."""
        if record is not None:
            self._means.add(record)
        if self._task is not None:
            self._bars.update(self._task, advance=1, description=self._name)
        self._show()

    def detail(self, text: str) -> None:
        """See :class:`Progress`."""
        if self._task is not None:
            self._bars.update(self._task, description=f"{self._name} ({text})")

    def _show(self) -> None:
        from rich.console import Group

        parts = [self._means.table(), self._bars] if self._means else [self._bars]
        self._live.update(Group(*parts))


@contextmanager
def showing(console: Console) -> Iterator[Progress]:
    """Show progress on `console` while the block runs."""
    if not console.is_terminal:
        yield Lines(console)
        return
    from rich import progress
    from rich.live import Live

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    bars = progress.Progress(*columns, console=console)
    with Live(bars, console=console, refresh_per_second=4) as live:
        yield Watch(live, bars)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
