"""One process at a time in a run folder: the lock, and who holds it.

The lock is a lock of the operating system on ``RUN/lock.json``, so that it ends with its process,
however that ends. The file tells who holds it. Where the file system has no such locks, the file
alone decides: a process of this machine that is gone holds nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from namm_mm.errors import UsageError
from namm_mm.execution.processes import is_alive, started
from namm_mm.runs.disk import same_file, unwritable

LOCK = "lock.json"

UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system without locks answers."""


@dataclass(frozen=True)
class Owner:
    """Who holds a run folder.

    Attributes
    ----------
    pid, host
        Its process and machine.
    since
        When it took the folder, in UTC.
    ticks
        When the process began, as the system counts: numbers of processes are used again.
    """

    pid: int
    host: str
    since: str
    ticks: int = 0

    @property
    def here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended."""
        return self.here and not is_alive(self.pid, self.ticks)


def owner_of(folder: Path) -> Owner | None:
    """Return who wrote the lock of a run folder; None where there is no lock that can be read."""
    try:
        return Owner(**json.loads((folder / LOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder while the block runs; the folder is made if it is not there.

    Raises
    ------
    UsageError
        Another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        try:
            if same_file(descriptor, folder / LOCK):
                (folder / LOCK).unlink(missing_ok=True)
        except OSError:
            pass  # a lock that nobody holds is taken by the next process
        os.close(descriptor)


def _acquire(folder: Path) -> int:
    """Return the open and locked file."""
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not _lock(descriptor):
                owner = owner_of(folder)
                if owner is None or not owner.gone:
                    raise _held(folder, owner)
                path.unlink(missing_ok=True)  # a child that outlived the owner holds the old file
            if not same_file(descriptor, path):  # it was given back while this process opened it
                os.close(descriptor)
                continue
            _sign(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _lock(descriptor: int) -> bool:
    """Lock an open file; without locks in the file system, judge by what the file says."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return os.fstat(descriptor).st_size == 0
    return True


def _sign(descriptor: int) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    owner = Owner(os.getpid(), socket.gethostname(), now, started(os.getpid()))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(asdict(owner)) + "\n").encode(), 0)


def _held(folder: Path, owner: Owner | None) -> UsageError:
    if owner is None:
        who, then = "another process", "Wait for it, or choose another folder."
    else:
        who = f"process {owner.pid} on {owner.host}, since {owner.since}"
        then = "Wait for its end, stop it, or choose another folder with `folder=FOLDER`."
        if not owner.here:
            then += f" If it is gone, remove {folder / LOCK}."
    return UsageError(f"another process is at work in {folder}: {who}. {then}")
