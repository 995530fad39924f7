"""Units of work that go wrong in their workers on purpose."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError


@dataclass(frozen=True)
class Task:
    """Square a number; `deaths` workers die of it first."""

    number: float
    deaths: int = 0
    wrong: bool = False

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
