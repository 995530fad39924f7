"""Finished work by content key: what was once computed is never computed again.

One JSON object a line, written at once. A process killed at any point leaves at most one broken
line, the last; it is closed and ignored.
"""

from __future__ import annotations

import json
from pathlib import Path

from namm_mm.errors import RunError
from namm_mm.execution.base import Result
from namm_mm.runs.disk import mend, reason
from namm_mm.runs.lines import LineFile


class Journal:
    """Results on disk, by key: the :class:`~namm_mm.execution.base.Results` of an evolution.

    Parameters
    ----------
    path
        The file; made if it is not there, continued if it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Result] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry["result"]
                except (ValueError, TypeError, KeyError):
                    continue  # cut off by a kill; the unit runs again
        self._file = LineFile(path)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Result | None:
        """Return the result of a finished unit, None for one that is not."""
        return self._known.get(key)

    def put(self, key: str, result: Result) -> None:
        """Keep the result of a unit; numbers come back exactly as they were.

        Raises
        ------
        RunError
            It cannot be written.
        """
        try:
            self._file.write(json.dumps({"key": key, "result": result}))
        except OSError as error:
            raise RunError(
                f"writing {self.path} failed: {reason(error)}. What was finished before is kept. "
                f"{mend(error)} and run the same command again."
            ) from error
        self._known[key] = result

    def close(self) -> None:
        """Close the file."""
        self._file.close()
