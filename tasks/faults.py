"""Samples that cannot be asked: a broken row is an error of its sample alone; the others run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.errors import NammError, RunError, UsageError, message
from namm_mm.records import Sample

Row = dict[str, Any]
LISTED = 3
"""Faults that a notice tells; the records tell all."""
UNKNOWN = "unreadable"
"""Family of a row that does not name its own."""


def unwritable(what: str, folder: Path, needed: str, error: OSError) -> RunError:
    """Return the error of a task that cannot write what it generates into its cache."""
    return RunError(
        message(
            f"cannot write {what} ({error})",
            given=str(folder),
            expected=f"a folder that can be written, with {needed}",
            then="Set NAMM_MM_CACHE, or the task's `cache`.",
        )
    )


def row_samples(
    rows: Sequence[Row | str],
    make: Callable[[Row], Sample],
    where: str,
    *,
    fields: Sequence[str] = (),
    family: str = "",
    of_family: str = UNKNOWN,
) -> list[Sample]:
    """Return a sample for each row; a faulty row gives a sample that tells the fault.

    Parameters
    ----------
    rows
        The rows of a file; a string says what is wrong with the row in its place.
    make
        Makes a sample of a row; what it raises is the row's fault.
    where
        The file, for messages.
    fields
        What a row must have.
    family
        Name of the field that holds a row's family; `of_family` where it has none.

    Raises
    ------
    UsageError
        No row gives a sample: the file is not laid out as it should be.
    """
    found, faults = [], []
    for number, row in enumerate(rows, start=1):
        try:
            if isinstance(row, str):
                raise UsageError(f"{where}, row {number}: {row}.")
            _need(row, fields, f"{where}, row {number}")
            found.append(make(row))
        except Exception as error:  # whatever is wrong with one row, the others are asked
            group = row.get(family) if isinstance(row, Mapping) else None
            name = of_family if group is None else str(group)
            fault = in_words(error, f"{where}, row {number}")
            faults.append(fault)
            found.append(faulty(f"row-{number}", name, fault))
    if faults and len(faults) == len(found):
        raise UsageError(faults[0])
    return found


def faulty(name: str, family: str, fault: str) -> Sample:
    """Return a sample that cannot be asked, and says why."""
    return Sample(id=name, family=family, fault=fault)


def in_words(error: Exception, where: str) -> str:
    """Return in one line what is wrong; our own messages contain the place."""
    said = " ".join(str(error).split())
    if not isinstance(error, NammError):
        return f"{where}: {type(error).__name__}: {said}"
    return said if where in said else f"{where}: {said}"


def notices(samples: Iterable[Sample]) -> list[str]:
    """Return one sentence on the samples that cannot be asked, or none."""
    samples = list(samples)
    faults = [sample.fault for sample in samples if sample.fault]
    if not faults:
        return []
    more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
    return [
        f"{len(faults)} of {len(samples)} samples cannot be asked and are counted as errors; the "
        f"others run. {'; '.join(faults[:LISTED])}{more}"
    ]


def _need(row: Mapping[str, Any], fields: Sequence[str], where: str) -> None:
    for field in fields:
        if row.get(field) is None:
            raise UsageError(
                message(
                    f"{where}: the field {field!r} is missing",
                    given=sorted(map(str, row)),
                    expected=f"the fields {', '.join(fields)}",
                )
            )
