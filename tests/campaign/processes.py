"""Run namm-mm in a process of its own, which can be disturbed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "import sys; from namm_mm.cli import main; sys.exit(main(sys.argv[1:]))"
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(
    command: Sequence[str],
    folder: Path,
    before: Callable[[], None] | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs ``namm-mm command`` inside `folder`; it does not outlive the block."""
    environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment |= {"PYTHONPATH": os.pathsep.join(paths), **(more or {})}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, cwd=folder, env=environment, preexec_fn=before,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def lines(file: Path) -> int:
    """Return how many lines a file has; 0 if it is not there."""
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def wait_for(process: subprocess.Popen[str], file: Path, least: int, seconds: float = 240) -> bool:
    """Wait until `file` has so many lines; return whether the process still works then."""
    end = time.monotonic() + seconds
    while process.poll() is None and lines(file) < least and time.monotonic() < end:
        time.sleep(0.01)
    return process.poll() is None


def trouble(code: int, said: str) -> str:
    """Return what is wrong with how a process ended: a traceback, or no message of its own."""
    if "Traceback" in said:
        return f"a traceback: {said.strip().splitlines()[-1]}"
    if code not in (0, 1, 2, 130, 143):
        return f"exit code {code}"
    return "" if code == 0 or said.strip() else f"exit code {code} without a word"
