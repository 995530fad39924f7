"""Files that grow line by line: every line is whole, or it is not there."""

from __future__ import annotations

import os
from pathlib import Path

from namm_mm.runs.disk import same_file


class LineFile:
    """A text file that is open for appending.

    A line that cannot be written whole is taken back, so that a full disk leaves whole lines only.
    A line that a killed process left unfinished is closed.

    Parameters
    ----------
    path
        The file; made if it is not there.

    Raises
    ------
    OSError
        It cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+b", buffering=0)
        try:
            self._close_last_line()
        except OSError:
            self._file.close()
            raise

    @property
    def in_place(self) -> bool:
        """Whether the path still names this file: nobody has moved or removed it."""
        return same_file(self._file.fileno(), self.path)

    @property
    def removed(self) -> bool:
        """Whether the file has no name left at all."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def write(self, line: str) -> None:
        """Append one line, given without its end.

        Raises
        ------
        OSError
            It cannot be written; the lines before it are as they were.
        """
        self._append(line.encode("utf-8") + b"\n")

    def text(self) -> str:
        """Return all that the file holds, wherever it is now."""
        self._file.seek(0)
        return self._file.read().decode("utf-8", errors="replace")

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _close_last_line(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._append(b"\n")

    def _append(self, data: bytes) -> None:
        before = os.fstat(self._file.fileno()).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            if len(left) < len(data):
                os.ftruncate(self._file.fileno(), before)
            raise
