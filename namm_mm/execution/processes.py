"""What the system knows of a process: whether it lives, and when it began."""

from __future__ import annotations

import os
from pathlib import Path


def started(pid: int) -> int:
    """Return when a process began, in clock ticks since the machine started; 0 if not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def is_alive(pid: int, ticks: int = 0) -> bool:
    """Whether a process of this machine lives.

    Parameters
    ----------
    ticks
        When it began, from :func:`started`; another process that got its number is another one.
        With 0 the number alone decides.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's
    now = started(pid)
    return not ticks or not now or ticks == now
