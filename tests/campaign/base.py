"""What a trial is, and what it found."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attempt:
    """One thing that was tried.

    Attributes
    ----------
    what
        In a few words, with the numbers that make it again.
    wrong
        What went wrong; empty if nothing did.
    """

    what: str
    wrong: str = ""


@dataclass(frozen=True)
class Setting:
    """What a trial works with.

    Attributes
    ----------
    tiny
        Folder of tiny models: text/, video/, control/, clips/, namm.safetensors.
    folder
        Empty; the trial's own.
    count, seed
        How often to try, and the seed of what is drawn.
    """

    tiny: Path
    folder: Path
    count: int
    seed: int

    def draw(self, number: int) -> random.Random:
        """Return the random numbers of attempt `number`; they do not depend on `count`."""
        return random.Random(f"{self.seed} {number}")


@dataclass(frozen=True)
class Trial:
    """Something that is tried many times.

    Attributes
    ----------
    name
        A column of the table.
    count
        How often the whole campaign tries it.
    run
        Yields one attempt at a time.
    """

    name: str
    count: int
    run: Callable[[Setting], Iterator[Attempt]]


@dataclass(frozen=True)
class Figure:
    """What a trial found: attempts, those that went wrong, and seconds."""

    name: str
    tried: int
    wrong: tuple[str, ...]
    seconds: float


def measure(trial: Trial, setting: Setting, say: Callable[[str], None] = lambda _: None) -> Figure:
    """Run a trial; `say` is told of each attempt that went wrong, as it happens."""
    start, tried, wrong = time.monotonic(), 0, []
    for attempt in trial.run(setting):
        tried += 1
        if attempt.wrong:
            wrong.append(f"{attempt.what}: {attempt.wrong}")
            say(f"{trial.name}: {wrong[-1]}")
    return Figure(trial.name, tried, tuple(wrong), time.monotonic() - start)
