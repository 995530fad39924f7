"""What goes wrong with a disk, in words, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from namm_mm.errors import NammError, RunError, UsageError, message

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file has reached the size limit of this process (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOENT: "the folder is gone: it was moved or removed",
    errno.ESTALE: "the folder is gone: it was moved or removed",
    errno.EIO: "the disk has an input/output error",
}

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""A disk that takes nothing more, wherever an error of it comes from."""

MENDS = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EFBIG: "Raise the limit",
    errno.ENOENT: "Name the folder where it is now",
    errno.ESTALE: "Name the folder where it is now",
}


def reason(error: OSError) -> str:
    """Return what an error of the operating system means for a file that is written."""
    return REASONS.get(error.errno or 0) or error.strerror or str(error)


def mend(error: OSError) -> str:
    """Return what a person can do about it, as the beginning of a sentence."""
    return MENDS.get(error.errno or 0, "Make the folder writable")


def unwritable(folder: Path, error: OSError) -> UsageError:
    """Return the error for a run folder that cannot be begun."""
    return UsageError(
        message(
            "the output folder cannot be written",
            given=str(folder),
            expected=f"a folder that you may write to ({reason(error)})",
            then="Choose another one with `output=FOLDER` or `folder=FOLDER`.",
        )
    )


def write_whole(file: Path, content: str | bytes) -> None:
    """Replace a file in one step, so that a reader or a full disk never finds half of it.

    Parameters
    ----------
    content
        Of a text, what is no valid UTF-8 is written as a question mark.

    Raises
    ------
    OSError
        It cannot be written; the file is as it was.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", errors="replace")
    if file.exists() and not file.is_file():  # a device or a pipe
        file.write_bytes(data)
        return
    file = file.resolve()  # a link stays a link
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.write_bytes(data)
        fresh.replace(file)
    except OSError:
        with suppress(OSError):  # the disk may not even take that; the first error says why
            fresh.unlink(missing_ok=True)
        raise


def same_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is still what its path names."""
    try:
        named = path.stat()
    except OSError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Tell failures of the disk that holds a run folder as what they are.

    Libraries report a full disk in many ways. So whatever goes wrong in the block is a failure of
    the disk if the disk is full, or the folder is gone or cannot be written.

    Raises
    ------
    RunError
        The disk is the reason.
    """
    try:
        yield
    except NammError:
        raise
    except Exception as error:
        why = _why(folder, error)
        if not why:
            raise
        raise RunError(
            f"writing into {folder} failed: {why}. What was finished before is kept: when that is "
            "mended, the same command with folder=FOLDER goes on."
        ) from error


def _why(folder: Path, error: Exception) -> str:
    """The failure of the disk behind an error; empty where it is something else."""
    if not folder.is_dir():
        return REASONS[errno.ENOENT]
    if isinstance(error, OSError):
        if error.errno in FULL:
            return reason(error)
        below = str(error.filename or "").startswith(str(folder))
        if below and error.errno in (errno.EACCES, errno.EPERM, errno.ESTALE, errno.EIO):
            return reason(error)
    if number := re.search(r"os error (\d+)", str(error)):  # safetensors
        return REASONS[int(number[1])] if int(number[1]) in FULL else ""
    full = not os.statvfs(folder).f_bavail or "No space left" in str(error)
    return REASONS[errno.ENOSPC] if full else ""
