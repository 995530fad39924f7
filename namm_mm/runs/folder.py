"""Make a run folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from namm_mm.errors import RunError
from namm_mm.runs.disk import unwritable


def new_folder(parent: Path) -> Path:
    """Make and return ``PARENT/YEARMONTHDAY-HOURMINUTESECOND``, with a number if it is taken.

    Raises
    ------
    UsageError
        It cannot be made.
    """
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for number in range(1000):
        folder = parent / (f"{stamp}-{number}" if number else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise unwritable(folder, error) from error
        return folder
    raise RunError(f"{parent} holds a thousand runs of this second: remove some.")
