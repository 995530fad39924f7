"""One tracker that is two: the truth first, then a mirror that may fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.records import Record
from namm_mm.runs.tracker import FinishOnExit, Status, Tracker, Value

logger = logging.getLogger(__name__)


class Tee(FinishOnExit):
    """Send everything to `truth`, then to `mirror`.

    A failure of the mirror (a full disk, a lost service, a library that is not installed) is said
    once; the mirror is left alone from then on, and the run goes on.

    Parameters
    ----------
    truth
        Errors of this one are raised.
    mirror
        Makes the second tracker; called at once.
    name
        What to call the mirror in the warning.
    """

    def __init__(self, truth: Tracker, mirror: Callable[[], Tracker], name: str = "W&B") -> None:
        super().__init__()
        self._truth = truth
        self._name = name
        self._mirror: Tracker | None = None
        self._try(lambda: setattr(self, "_mirror", mirror()))

    @property
    def places(self) -> Mapping[str, str]:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        return {**self._truth.places, **(self._mirror.places if self._mirror else {})}

    def record(self, record: Record) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        self._truth.record(record)
        self._tell(lambda mirror: mirror.record(record))

    def log(self, values: Mapping[str, Value], *, axis: str, at: int) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        self._truth.log(values, axis=axis, at=at)
        self._tell(lambda mirror: mirror.log(values, axis=axis, at=at))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        self._truth.table(name, columns, rows)
        self._tell(lambda mirror: mirror.table(name, columns, rows))

    def artifact(
        self, name: str, paths: Sequence[Path], kind: str, metadata: Mapping[str, Any]
    ) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        self._truth.artifact(name, paths, kind, metadata)
        self._tell(lambda mirror: mirror.artifact(name, paths, kind, metadata))

    def finish(self, status: Status, summary: Mapping[str, Any] | None = None) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        if self.finished:
            return
        self.finished = True
        self._truth.finish(status, summary)
        self._tell(lambda mirror: mirror.finish(status, summary))

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        mirror = self._mirror
        if mirror is not None:
            self._try(lambda: call(mirror))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # a mirror: whatever breaks in it must not cost a record
            self._mirror = None
            logger.warning(
                "%s stopped (%s: %s). The run goes on; records.jsonl has everything.",
                self._name,
                type(error).__name__,
                error,
            )
