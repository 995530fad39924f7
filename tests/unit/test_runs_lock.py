"""One process at a time works in a run folder; the second is told by whom it is held."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from namm_mm.errors import UsageError
from namm_mm.execution.processes import is_alive, started
from namm_mm.runs import lock
from namm_mm.runs.lock import LOCK, locked, owner_of

HOLD = """
import sys, time
from pathlib import Path
from namm_mm.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        with (
            pytest.raises(UsageError, match=f"process {process.pid} on {socket.gethostname()}"),
            locked(tmp_path),
        ):
            pass
        process.kill()


def test_the_lock_of_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    left = owner_of(tmp_path)
    assert left is not None
    assert left.gone
    with locked(tmp_path):
        owner = owner_of(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.gone) == (os.getpid(), False)
    assert not (tmp_path / LOCK).exists()


def test_the_same_process_does_not_enter_twice(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match=f"process {os.getpid()}")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_without_locks_in_the_file_system_the_file_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(lock.UNSUPPORTED[0], "no locks available")

    monkeypatch.setattr("namm_mm.runs.lock.fcntl.flock", unsupported)
    refused = pytest.raises(UsageError, match=f"process {os.getpid()}")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    elsewhere = {"pid": 1, "host": "another-machine", "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / LOCK).write_text(json.dumps(elsewhere))
    with pytest.raises(UsageError, match=r"another-machine.*remove .*lock\.json"), locked(tmp_path):
        pass
    with subprocess.Popen(["true"]) as process:
        pass
    gone = {**elsewhere, "pid": process.pid, "host": socket.gethostname()}
    (tmp_path / LOCK).write_text(json.dumps(gone))
    with locked(tmp_path):
        pass


def test_a_process_is_told_from_another_of_its_number() -> None:
    ticks = started(os.getpid())
    assert is_alive(os.getpid(), ticks)
    assert not is_alive(os.getpid(), ticks + 1)


def test_a_folder_that_cannot_be_made_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"), locked(tmp_path / "file" / "run"):
        pass
