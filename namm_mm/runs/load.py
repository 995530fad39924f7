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
        records, problems = read_records(folder)
        if not records:
            raise UsageError(
                message(
                    "a run without records",
                    given=str(folder),
                    expected="a run folder with at least one complete record",
                    then=" ".join(problems) or "It stopped before its first sample.",
                )
            )
        name = records[-1].provenance.run
        taken = {run.name for run in runs}
        if name in taken:
            name = next(
                n for n in (folder.name, *(f"{name}-{i}" for i in range(2, 1000))) if n not in taken
            )
        folder = folder if folder.is_dir() else folder.parent
        runs.append(Run(name, folder, read_state(folder), _named(records, name), tuple(problems)))
    return runs


def _named(records: Sequence[Record], name: str) -> tuple[Record, ...]:
    """Give all records of a continued run one name."""
    named = {id(r.provenance): r.provenance for r in records}
    if all(provenance.run == name for provenance in named.values()):
        return tuple(records)
    return tuple(
        dataclasses.replace(r, provenance=dataclasses.replace(r.provenance, run=name))
        for r in records
    )
