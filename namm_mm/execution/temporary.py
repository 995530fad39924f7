"""Temporary folders that do not outlive their process for long.

A folder carries the number of the process that made it. A process that ends as usual removes its
own; those of processes that were killed are removed at the next start.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from namm_mm.execution.processes import is_alive, started

PREFIX = "namm-"  # short: paths of sockets below it have a limit of about a hundred characters
OWNER = ".owner.json"


def make_folder() -> Path:
    """Make and return a new temporary folder of this process; who asks removes it."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    owner = {"pid": os.getpid(), "ticks": started(os.getpid()), "host": socket.gethostname()}
    (folder / OWNER).write_text(json.dumps(owner), encoding="utf-8")
    return folder


def remove_abandoned() -> None:
    """Remove the folders of processes of this machine that are gone."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        try:
            owner = json.loads(file.read_text(encoding="utf-8"))
            mine = file.stat().st_uid == os.getuid() and owner["host"] == socket.gethostname()
            if mine and not is_alive(int(owner["pid"]), int(owner["ticks"])):
                shutil.rmtree(file.parent, ignore_errors=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not ours to judge


@contextmanager
def used() -> Iterator[None]:
    """Let libraries make their temporary files in a folder of this process while the block runs."""
    variable, directory = os.environ.get("TMPDIR"), tempfile.tempdir
    if directory != str(own := _own_folder(os.getpid())):
        own.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)
    try:
        yield
    finally:
        tempfile.tempdir = directory
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable


@cache
def _own_folder(process: int) -> Path:
    """The folder of this process, removed when it ends; `process` tells forks apart."""
    folder = make_folder()

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
