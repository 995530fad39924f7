"""The truth: a run folder of plain files, written as things happen and readable at any moment.

::

    RUN/run.json         who the run is, and its status: running, ok, failed, stopped
    RUN/records.jsonl    one scored sample a line, flushed line by line
    RUN/events.jsonl     logged numbers, one event a line
    RUN/tables/NAME.json, RUN/artifacts/NAME/
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError
from namm_mm.records import Record
from namm_mm.runs.disk import mend, reason, unwritable, write_whole
from namm_mm.runs.jsonl import RECORDS, dumps, parse_records, record_line
from namm_mm.runs.lines import LineFile
from namm_mm.runs.state import RunState, read_state, write_state
from namm_mm.runs.tracker import FinishOnExit, RunInfo, Status, Value, check_status

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

    Attributes
    ----------
    id
        The run's identity in W&B, kept in ``run.json``.

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
            self.id = read_state(folder).id or uuid.uuid4().hex[:8]
            self._records = LineFile(folder / RECORDS)
            self._events = LineFile(folder / EVENTS)
            self._write_state("running", {})
        except OSError as error:
            raise unwritable(folder, error) from error

    @property
    def places(self) -> Mapping[str, str]:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        return {"records": str(self.folder / RECORDS)}

    def record(self, record: Record) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`.

        Raises
        ------
        RunError
            It cannot be written, or the folder was moved. The records before it are kept.
        """
        with self._writing():
            self._records.write(record_line(record))
            now = time.monotonic()
            if now - self._synced > SYNC_SECONDS:
                self._records.sync()
                self._synced = now

    def log(self, values: Mapping[str, Value], *, axis: str, at: int) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`.

        Raises
        ------
        RunError
            It cannot be written, or the folder was moved.
        """
        with self._writing():
            self._events.write(dumps({"axis": axis, "at": at, "values": dict(values)}))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`.

        Raises
        ------
        RunError
            It cannot be written, or the folder was moved.
        """
        file = self.folder / "tables" / f"{name.replace('/', '_')}.json"
        with self._writing():
            file.parent.mkdir(exist_ok=True)
            content = {"columns": list(columns), "rows": [list(row) for row in rows]}
            write_whole(file, dumps(content) + "\n")

    def artifact(
        self, name: str, paths: Sequence[Path], kind: str, metadata: Mapping[str, Any]
    ) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`.

        Raises
        ------
        RunError
            It cannot be written, or the folder was moved.
        """
        target = self.folder / "artifacts" / name.replace("/", "_")
        with self._writing():
            target.mkdir(parents=True, exist_ok=True)
            for path in paths:
                if path.resolve().parent != target.resolve():
                    shutil.copy2(path, target / path.name)
            names = [path.name for path in paths]
            card = {"kind": kind, "files": names, "metadata": dict(metadata)}
            write_whole(target / "artifact.json", dumps(card) + "\n")

    def finish(self, status: Status, summary: Mapping[str, Any] | None = None) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`.

        Raises
        ------
        RunError
            The state cannot be written, or the folder was moved.
        """
        check_status(status)
        if self.finished:
            return
        self.finished = True
        try:
            with self._writing():
                self._records.sync()
                self._events.sync()
                self._write_state(status, summary or {})
        finally:
            self._records.close()
            self._events.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what is wrong with the disk, and how many records are whole."""
        if not self._records.in_place:
            whole = self._count()
            if self._records.removed:
                raise RunError(
                    f"the run folder {self.folder} was removed while the run was going, and its "
                    f"{whole} records with it."
                )
            raise RunError(
                f"the run folder {self.folder} was moved while the run was going. It holds {whole} "
                "whole records where it is now: the same command with folder=FOLDER goes on there."
            )
        try:
            yield
        except OSError as error:
            raise RunError(
                f"writing into {self.folder} failed: {reason(error)}. {self._count()} whole "
                f"records are kept. {mend(error)}, and the same command with "
                f"folder={self.folder} goes on."
            ) from error

    def _count(self) -> int:
        return len(parse_records(self._records.text())[0])

    def _write_state(self, status: str, summary: Mapping[str, Any]) -> None:
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
            id=self.id,
        )
        write_state(self.folder, state)
