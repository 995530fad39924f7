"""Finished work by content key: what was once computed is never computed again.

One JSON object a line, written at once. A process killed at any point leaves at most one broken
line, the last; it is closed and ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from namm_mm.errors import RunError
from namm_mm.tracking.local import open_to_append

Result = Mapping[str, Any]


class Results(Protocol):
    """Where results of units go, and come from if they are there."""

    def get(self, key: str) -> Result | None:
        """Return the result of a finished unit, None for one that is not."""
        ...

    def put(self, key: str, result: Result) -> None:
        """Keep the result of a unit, before the next one begins."""
        ...


class Journal:
    """Results on disk, by key.

    Parameters
    ----------
    path
        The file; made if it is not there, continued if it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Result] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry["result"]
                except (ValueError, TypeError, KeyError):
                    continue  # cut off by a kill; the unit runs again
        self._file = open_to_append(path)

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
            self._file.write(json.dumps({"key": key, "result": result}) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"writing {self.path} failed: {error.strerror}. What was finished before is kept; "
                "free some space and run the same command again."
            ) from error
        self._known[key] = result

    def close(self) -> None:
        """Close the file."""
        self._file.close()
