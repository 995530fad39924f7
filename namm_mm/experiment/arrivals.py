"""Where the records of a run arrive, from this process or from workers, and progress is told."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path

from namm_mm.execution.base import Result
from namm_mm.execution.progress import Progress
from namm_mm.experiment.batches import Batch, CellPlan
from namm_mm.experiment.benchmarks import save_table
from namm_mm.experiment.earlier import Earlier
from namm_mm.records import Record
from namm_mm.runs.tracker import Tracker


class Arrivals:
    """Takes what batches give: files into the run folder, records to the tracker, at once.

    Progress is told in the order of the plan, whichever worker is faster: cell by cell, batch by
    batch. The table of a benchmark is written when the last batch of its cell is there.

    Parameters
    ----------
    folder
        The run folder.
    plans
        What is to arrive.
    earlier
        Records that are there; none of them is taken twice.
    """

    def __init__(
        self,
        folder: Path,
        plans: Sequence[CellPlan],
        earlier: Earlier,
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self.folder = folder
        self.tracker = tracker
        self.progress = progress
        self.records = [*earlier.records]
        self._earlier = earlier
        self._batches = {batch.key: batch for plan in plans for batch in plan.batches}
        self._cells = deque((plan, deque(b.key for b in plan.batches)) for plan in plans)
        self._begun = False
        self._done: set[str] = set()
        self._waiting: dict[str, list[Record | None]] = defaultdict(list)
        self._proceed()

    def keep(self, batch: Batch, record: Record) -> None:
        """Take one record of a batch."""
        new = not self._earlier.has(batch.settings.name, record)
        if new:
            self.tracker.record(record)
            self.records.append(record)
        self._waiting[batch.key].append(record if new else None)
        self._tell(batch.key)

    def get(self, key: str) -> Result | None:
        """See :class:`~namm_mm.execution.base.Results`."""
        return {} if key in self._done else None  # what it gave is on disk

    def put(self, key: str, result: Result) -> None:
        """See :class:`~namm_mm.execution.base.Results`."""
        for name, content in result["files"].items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for record in result["records"]:
            self.keep(self._batches[key], record)
        self._done.add(key)
        self._proceed()

    def _tell(self, key: str) -> None:
        """Tell the progress of the batch whose turn it is."""
        if self._cells and self._cells[0][1] and self._cells[0][1][0] == key:
            for record in self._waiting.pop(key, []):
                self.progress.advance(record)

    def _proceed(self) -> None:
        """Go on to the first batch that is not finished; finish the cells before it."""
        while self._cells:
            plan, keys = self._cells[0]
            if keys and not self._begun:
                self._begun = True
                self.progress.begin(plan.settings.name, plan.total)
            while keys:
                self._tell(keys[0])
                if keys[0] not in self._done:
                    return
                keys.popleft()
            for line in save_table(
                self.folder, plan.settings.name, plan.task, plan.model, self.records
            ):
                self.progress.say(line)
            self._cells.popleft()
            self._begun = False
