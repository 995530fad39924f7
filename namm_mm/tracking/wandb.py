"""The mirror: a W&B run made of the same records.

It is offline unless asked otherwise. All of its folders lie under the run folder, artifacts that
wait for upload included. A run that was stopped and resumed is one W&B run: it begins with the
records and numbers that the run folder holds.

Keys, where WHO is model, policy and budget (``pocket-video/h2o_match_namm``):

- ``TASK/METRIC/WHO`` the mean so far, ``cache/kept_fraction/TASK/WHO``, ``errors/TASK/WHO``,
  ``perf/first_token_seconds/TASK/WHO``, along ``sample``;
- what :mod:`namm_mm.tracking.wandb_results` sends at the end.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from namm_mm.records import Record
from namm_mm.results.cells import cell_of, failed, method_of
from namm_mm.runs.jsonl import RECORDS
from namm_mm.runs.load import read_run
from namm_mm.runs.local import EVENTS
from namm_mm.runs.tracker import FinishOnExit, RunInfo, Status, Value, check_status
from namm_mm.tracking.environment import wandb_environment
from namm_mm.tracking.wandb_names import Names, safe
from namm_mm.tracking.wandb_results import send_results, table
from namm_mm.tracking.wandb_start import start


class WandbTracker(FinishOnExit):
    """A W&B run. Project, entity, name, group and id follow the ``WANDB_*`` variables where set.

    Parameters
    ----------
    folder
        The run folder, which holds ``records.jsonl``.
    info
        Who the run is.
    mode
        ``offline`` or ``online``; without a login or a network, the second becomes the first, with
        a warning.
    identity
        The run's id in W&B.
    """

    def __init__(
        self, folder: Path, info: RunInfo, *, mode: Literal["offline", "online"], identity: str
    ) -> None:
        super().__init__()
        self.folder = folder
        self._means: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._samples: Counter[str] = Counter()
        self._names = Names()
        self._axes: set[str] = set()
        with wandb_environment(folder):
            self._run, self._offline = start(folder, info, mode, identity)
            self._catch_up()

    @property
    def places(self) -> Mapping[str, str]:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        return {"W&B": str(Path(self._run.dir).parent) if self._offline else self._run.url}

    def record(self, record: Record) -> None:
        """Log running means: one point on the curves of this record's task and method."""
        values, at = self._point(record)
        self.log(values, axis="sample", at=at)

    def log(self, values: Mapping[str, Value], *, axis: str, at: int) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        import wandb

        with wandb_environment(self.folder):
            if axis not in self._axes:
                self._run.define_metric(axis, hidden=True)
                self._axes.add(axis)
            for key in values:
                family = f"{key.split('/')[0]}/*" if "/" in key else key
                if f"{axis}:{family}" not in self._axes:
                    self._run.define_metric(family, step_metric=axis)
                    self._axes.add(f"{axis}:{family}")
            plain = {
                key: value
                if isinstance(value, float | int | str | bool)
                else wandb.Histogram(list(value))
                for key, value in values.items()
            }
            self._run.log({**plain, axis: at})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        with wandb_environment(self.folder):
            self._run.log({name: table(columns, rows)})

    def artifact(
        self, name: str, paths: Sequence[Path], kind: str, metadata: Mapping[str, Any]
    ) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        import wandb

        with wandb_environment(self.folder):
            artifact = wandb.Artifact(safe(name), type=kind, metadata=dict(metadata))
            for path in paths:
                artifact.add_file(str(path))
            self._run.log_artifact(artifact)

    def finish(self, status: Status, summary: Mapping[str, Any] | None = None) -> None:
        """Send the tables, made from all records of the run, and the summary; then end the run.

        Raises
        ------
        TimeoutError
            W&B did not take everything in time; it is on the disk.
        """
        check_status(status)
        if self.finished:
            return
        self.finished = True
        with wandb_environment(self.folder):
            try:
                send_results(self._run, self.folder, self._names)
                self._run.summary.update({"status": status, **(summary or {})})
                if status == "stopped":
                    self._run.mark_preempting()
            finally:
                self._run.finish(exit_code=0 if status == "ok" else 1)

    def _catch_up(self) -> None:
        """Take what the run folder holds; W&B has it already where it resumed the run."""
        known = bool(self._run.resumed)
        records = read_run(self.folder).records if (self.folder / RECORDS).is_file() else ()
        for record in records:
            values, at = self._point(record)
            if not known:
                self.log(values, axis="sample", at=at)
        if not known:
            for event, axis, at in _events(self.folder / EVENTS):
                self.log(event, axis=axis, at=at)

    def _point(self, record: Record) -> tuple[dict[str, float], int]:
        """Running means that a record changes, and its number among its method's samples."""
        who = self._names.of(cell_of(record), method_of(record))
        self._samples[who] += 1
        values: dict[str, float] = {}
        if failed(record):
            values[f"errors/{record.task}/{who}"] = self._total(f"errors/{record.task}/{who}", 1.0)
        else:
            key = f"{record.task}/{record.metric}/{who}"
            values[key] = self._mean(key, float(record.value or 0.0))
            if record.first_token_seconds:  # 0: the adapter does not measure it
                key = f"perf/first_token_seconds/{record.task}/{who}"
                values[key] = self._mean(key, record.first_token_seconds)
        kept = None if record.memory is None else record.memory.kept_fraction
        if kept is not None:
            key = f"cache/kept_fraction/{record.task}/{who}"
            values[key] = self._mean(key, kept)
        return values, self._samples[who]

    def _total(self, key: str, value: float) -> float:
        self._means[key][0] += value
        return self._means[key][0]

    def _mean(self, key: str, value: float) -> float:
        self._means[key][1] += 1
        return self._total(key, value) / self._means[key][1]


def _events(file: Path) -> Iterator[tuple[dict[str, Value], str, int]]:
    """What was logged, once for each place on an axis: a killed run may have done a step again."""
    found: dict[tuple[str, int, tuple[str, ...]], dict[str, Value]] = {}
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    for line in text.split("\n"):
        try:
            event = json.loads(line)
            values = dict(event["values"])
            found[str(event["axis"]), int(event["at"]), tuple(sorted(values))] = values
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill
    for (axis, at, _), values in found.items():
        yield values, axis, at
