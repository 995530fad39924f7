"""The truth: a run folder of plain files, written as things happen and readable at any moment.

::

    RUN/run.json         who the run is, and its status: running, ok, failed, preempted
    RUN/records.jsonl    one scored sample a line, flushed line by line
    RUN/events.jsonl     logged numbers, one event a line
    RUN/tables/NAME.json, RUN/artifacts/NAME/
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from namm_mm.errors import RunError, UsageError, message
from namm_mm.records import Record
from namm_mm.runs.jsonl import RECORDS, dumps, write_record
from namm_mm.runs.state import RUN, RunState
from namm_mm.tracking.base import FinishOnExit, RunInfo, Status, Value, check_status

EVENTS = "events.jsonl"

SYNC_SECONDS = 5.0
"""Every line reaches the operating system at once; it is forced to the disk this often."""


class LocalTracker(FinishOnExit):
    """Writes a run folder. A folder that holds records already is continued.

    Parameters
    ----------
    folder
        The run folder; made if it is not there.
    info
        Who the run is.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        super().__init__()
        self.folder = folder
        self.info = info
        self._synced = time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._records = open_to_append(folder / RECORDS)
            self._events = open_to_append(folder / EVENTS)
            self._write_state("running", {})
        except OSError as error:
            raise UsageError(
                message(
                    "the output folder cannot be written",
                    given=str(folder),
                    expected=f"a folder that you may write to ({error.strerror})",
                    then="Choose another one with `output=FOLDER`.",
                )
            ) from error

    @property
    def places(self) -> Mapping[str, str]:
        """See :class:`~namm_mm.tracking.base.Tracker`."""
        return {"records": str(self.folder / RECORDS)}

    def record(self, record: Record) -> None:
        """See :class:`~namm_mm.tracking.base.Tracker`."""
        try:
            write_record(self._records, record)
            now = time.monotonic()
            if now - self._synced > SYNC_SECONDS:
                os.fsync(self._records.fileno())
                self._synced = now
        except OSError as error:
            raise RunError(
                f"writing {self.folder / RECORDS} failed: {error.strerror}. "
                "The records before this one are kept; free some space and run again."
            ) from error

    def log(self, values: Mapping[str, Value], *, axis: str, at: int) -> None:
        """See :class:`~namm_mm.tracking.base.Tracker`."""
        self._events.write(dumps({"axis": axis, "at": at, "values": dict(values)}) + "\n")
        self._events.flush()

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See :class:`~namm_mm.tracking.base.Tracker`."""
        file = self.folder / "tables" / f"{name.replace('/', '_')}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(
            dumps({"columns": list(columns), "rows": [list(row) for row in rows]}) + "\n",
            encoding="utf-8",
        )

    def artifact(
        self, name: str, paths: Sequence[Path], kind: str, metadata: Mapping[str, Any]
    ) -> None:
        """See :class:`~namm_mm.tracking.base.Tracker`."""
        target = self.folder / "artifacts" / name.replace("/", "_")
        target.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if path.resolve().parent != target.resolve():
                shutil.copy2(path, target / path.name)
        card = {"kind": kind, "files": [path.name for path in paths], "metadata": dict(metadata)}
        (target / "artifact.json").write_text(dumps(card) + "\n", encoding="utf-8")

    def finish(self, status: Status, summary: Mapping[str, Any] | None = None) -> None:
        """See :class:`~namm_mm.tracking.base.Tracker`."""
        check_status(status)
        if self.finished:
            return
        self.finished = True
        for file in (self._records, self._events):
            os.fsync(file.fileno())
            file.close()
        self._write_state(status, summary or {})

    def _write_state(self, status: str, summary: Mapping[str, Any]) -> None:
        """Replace ``run.json`` in one step, so that a reader never sees half of it."""
        state = RunState(
            status=status,
            experiment=self.info.experiment,
            job_type=self.info.job_type,
            tags=self.info.tags,
            notes=self.info.notes,
            config=self.info.config,
            provenance=asdict(self.info.provenance),
            finished="" if status == "running" else datetime.now(UTC).isoformat(timespec="seconds"),
            summary=summary,
        )
        fresh = self.folder / f".{RUN}.new"
        fresh.write_text(dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
        fresh.replace(self.folder / RUN)


def open_to_append(file: Path) -> TextIO:
    """Open for appending, closing a line that an earlier process left unfinished."""
    broken = False
    if file.is_file() and file.stat().st_size:
        with file.open("rb") as old:
            old.seek(-1, os.SEEK_END)
            broken = old.read(1) != b"\n"
    handle = file.open("a", encoding="utf-8")
    if broken:
        handle.write("\n")
        handle.flush()
    return handle
