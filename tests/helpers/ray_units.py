"""Units of work that go wrong in their workers on purpose."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError


@dataclass(frozen=True)
class Task:
    """Square a number, which takes some seconds; `deaths` workers die of it first."""

    number: float
    deaths: int = 0
    wrong: bool = False
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.number}"


@dataclass(frozen=True)
class Squares:
    """The work; the folder counts deaths, which outlive workers."""

    folder: Path

    def __call__(self, unit: Task) -> dict[str, Any]:
        if unit.wrong:
            raise UsageError(f"no square of {unit.number}")
        grave = self.folder / f"{unit.number}-{len(list(self.folder.glob(f'{unit.number}-*')))}"
        if not grave.name.endswith(f"-{unit.deaths}"):
            grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(unit.seconds)
        return {
            "square": unit.number**2,
            "pid": os.getpid(),
            "threads": os.environ["OMP_NUM_THREADS"],
        }


@dataclass(frozen=True)
class MakeSquares:
    """The factory."""

    folder: Path

    def __call__(self) -> Squares:
        return Squares(self.folder)


def why_ray_cannot_start(said: str) -> str | None:
    """Return the machine's reason; None where Ray started, or its own token was refused."""
    if "Ray cannot be reached" not in said or "Authentication" in said:
        return None
    return f"Ray does not start on this machine: {' '.join(said.split())[:300]}"
