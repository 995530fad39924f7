"""What differs between runs that stand side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from namm_mm.results import words
from namm_mm.results.blocks import Column, Entry, Table
from namm_mm.runs.load import Run

PLACES = ("folder", "output", "wandb", "execution", "shard")
"""Settings of where and how a run is made; scores do not depend on them."""

LINES = 60
"""Settings that a table shows; of more, the first ones."""

FEW = 3
"""Differing settings that a console tells one by one."""

ABSENT = "(not set)"


def compared_runs(runs: Sequence[Run]) -> Table | None:
    """Return a table of what differs between the runs, a column for each; None for one run."""
    if len(runs) < 2:
        return None
    lines = [
        *_differing([_provenance(run) for run in runs]),
        *_differing([dict(_flat(_compared(run.state.config))) for run in runs]),
    ]
    note = f"{LINES} of {len(lines)} differences are shown." if len(lines) > LINES else ""
    if not lines:
        note = "The runs have the same settings, commit, versions and device."
    return Table(
        "Differences between the runs",
        (Column("setting"), *(Column(run.name) for run in runs)),
        tuple(
            (Entry(name), *(Entry(words.one_line(value, 80)) for value in values))
            for name, values in lines[:LINES]
        ),
        note,
    )


def told(runs: Sequence[Run]) -> list[str]:
    """Return notes and problems of the runs, and what differs between them, one line each.

    Of more than `FEW` differing settings, their number is told: a report has the table of them.
    """
    notes = dict.fromkeys(note for run in runs for note in run.state.notes)
    lines = [*notes, *(problem for run in runs for problem in run.problems)]
    compared = compared_runs(runs)
    if compared is not None:
        if len(compared.rows) > FEW:
            settings = f"{len(compared.rows)} settings differ between the runs"
            return [*lines, f"{settings}: see `Differences between the runs` in the report."]
        names = [column.name for column in compared.columns[1:]]
        for setting, *values in compared.rows:
            each = zip(names, values, strict=True)
            lines.append(f"{setting.text}: {', '.join(f'{v.text} in {name}' for name, v in each)}")
        lines += [compared.note] if compared.note else []
    return lines


def _provenance(run: Run) -> dict[str, str]:
    first = run.records[0].provenance
    versions = {f"version of {name}": version for name, version in first.versions.items()}
    dtypes = dict.fromkeys(r.provenance.dtype for r in run.records if r.provenance.dtype)
    return {
        "commit": first.commit,
        "device": first.device,
        "processor": first.processor,
        "dtype": ", ".join(dtypes),
        **versions,
    }


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in PLACES}


def _differing(runs: Sequence[Mapping[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the names whose values are not the same in all runs, with the value in each."""
    names = dict.fromkeys(name for run in runs for name in run)
    found = [(name, tuple(run.get(name, ABSENT) for run in runs)) for name in names]
    return [(name, values) for name, values in found if len(set(values)) > 1]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the text of every leaf; items of a list go by their own name."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        for place, part in enumerate(value):
            own = part.get("name", place) if isinstance(part, Mapping) else place
            yield from _flat(part, f"{name}.{own}")
    else:
        yield name, str(value)
