"""What a tracker is: the place where a run's records, numbers, tables and files go.

There are two of them. The run folder (:mod:`namm_mm.runs.local`) is the truth: plain files, flushed
record by record. W&B (:mod:`namm_mm.tracking.wandb`) is a mirror that may fail without harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, get_args

from namm_mm.errors import RunError, UsageError, message
from namm_mm.records import Provenance, Record

Status = Literal["ok", "failed", "stopped"]
"""How a run ended; while it is going, its ``run.json`` says ``running``."""

Value = float | int | str | bool | Sequence[float]
"""What can be logged: a number, a word, or a sequence of numbers (in W&B: a histogram)."""


@dataclass(frozen=True)
class RunInfo:
    """Who a run is; the same for all that is tracked in it.

    Attributes
    ----------
    experiment
        Name of the experiment: W&B's group, unless `group` names another.
    job_type
        ``transfer``, ``eval`` or ``train``.
    config
        The resolved settings, nested (JSON values only).
    provenance
        Commit, versions, device: see :func:`namm_mm.runs.provenance.collect`.
    tags
        Words to find the run by: ``adapter:text``, ``task:video_qa``, ``policy:namm``,
        ``zero-shot``.
    notes
        What a reader of the numbers must know ("NAMM: provisional, not evolved"). Printed under
        every table and in every report.
    group
        The sweep that the run belongs to; empty for a run of its own.
    """

    experiment: str
    job_type: str
    config: Mapping[str, Any]
    provenance: Provenance
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    group: str = ""


class Tracker(Protocol):
    """Takes all that a run tells. Use as a context manager: leaving it finishes the run."""

    @property
    def places(self) -> Mapping[str, str]:
        """Where to look afterwards, to be printed: ``{"records": path, "W&B": path}``."""
        ...

    def record(self, record: Record) -> None:
        """Add one scored sample."""
        ...

    def log(self, values: Mapping[str, Value], *, axis: str, at: int) -> None:
        """Add numbers to curves.

        Parameters
        ----------
        values
            Keys with slashes (``fitness/best``) to values.
        axis
            What the curves run along: ``gen`` in evolution, ``sample`` in an evaluation.
        at
            Position on that axis.
        """
        ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table; a later one of the same name replaces it."""
        ...

    def artifact(
        self, name: str, paths: Sequence[Path], kind: str, metadata: Mapping[str, Any]
    ) -> None:
        """Keep copies of files: `kind` is ``model`` for a NAMM, and `metadata` its card."""
        ...

    def finish(self, status: Status, summary: Mapping[str, Any] | None = None) -> None:
        """End the run. Later calls do nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass
class FinishOnExit:
    """The context-manager half: an exception means ``failed``, an interrupt ``stopped``."""

    finished: bool = field(default=False, init=False)

    def finish(self, status: Status, summary: Mapping[str, Any] | None = None) -> None:
        """See :meth:`Tracker.finish`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.finished:
            return
        if kind is None:
            self.finish("ok")
            return
        try:
            if issubclass(kind, Exception):
                self.finish("failed", {"error": f"{kind.__name__}: {error}"})
            else:
                self.finish("stopped")
        except (OSError, RunError):
            pass  # a full disk or a moved folder; the exception that is on its way says so


def check_status(status: str) -> None:
    """Raise `UsageError` unless `status` is one of :data:`Status`."""
    if status not in get_args(Status):
        raise UsageError(
            message(
                "unknown status", given=status, expected="how a run ended", valid=get_args(Status)
            )
        )
