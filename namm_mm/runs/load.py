"""Read the runs that a report is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from namm_mm.errors import UsageError, message
from namm_mm.records import Record
from namm_mm.runs.jsonl import read_records
from namm_mm.runs.state import RunState, read_state


@dataclass(frozen=True)
class Run:
    """One run folder, read.

    Attributes
    ----------
    name
        Unique among the runs of a report; the `run` in the provenance of all its records.
    folder
        Where it is; the paths of pictures in records begin here.
    problems
        What was wrong with its files, one sentence each.
    """

    name: str
    folder: Path
    state: RunState
    records: tuple[Record, ...]
    problems: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.state.status == "ok"


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders; of two runs of the same name, the second gets its folder's name.

    Raises
    ------
    UsageError
        A folder holds no records at all, or a newer version wrote them.
    """
    if not folders:
        raise UsageError(
            message(
                "no runs",
                given=[],
                expected="one or more run folders",
                then="Run folders are printed at the end of `namm-mm transfer`.",
            )
        )
    runs: list[Run] = []
    for folder in folders:
        run = read_run(folder)
        if not run.records:
            raise UsageError(
                message(
                    "a run without records",
                    given=str(folder),
                    expected="a run folder with at least one complete record",
                    then=" ".join(run.problems) or "It stopped before its first sample.",
                )
            )
        taken = {run.name for run in runs}
        if run.name in taken:
            names = (run.folder.name, *(f"{run.name}-{number}" for number in range(2, 1000)))
            name = next(name for name in names if name not in taken)
            run = dataclasses.replace(run, name=name, records=_named(run.records, name))
        runs.append(run)
    return runs


def read_run(path: Path) -> Run:
    """Read one run folder, or the run folder of a ``records.jsonl``.

    The run has one name, however often it was stopped and resumed: that in its ``run.json``, else
    that of its last record. All records are under it.

    Raises
    ------
    UsageError
        There is no ``records.jsonl``.
    """
    records, problems = read_records(path)
    folder = path if path.is_dir() else path.parent
    state = read_state(folder)
    name = state.name or (records[-1].provenance.run if records else "")
    return Run(name, folder, state, _named(records, name), tuple(problems))


def _named(records: Sequence[Record], name: str) -> tuple[Record, ...]:
    """Give all records of a continued run one name."""
    named = {id(r.provenance): r.provenance for r in records}
    if all(provenance.run == name for provenance in named.values()):
        return tuple(records)
    return tuple(
        dataclasses.replace(r, provenance=dataclasses.replace(r.provenance, run=name))
        for r in records
    )
