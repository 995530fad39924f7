"""The whole state of an evolution in one file, replaced in one step.

``state.safetensors`` holds the strategy's state and the best mean; its metadata says, as JSON,
which stage and generation come next. A run killed at any moment goes on from it as if nothing had
happened: what the killed generation had evaluated is in the journal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from namm_mm.errors import RunError, message

STATE = "state.safetensors"
_STRATEGY = "strategy."


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes
    ----------
    stage
        Index of the stage that goes on.
    generation
        Generations done in that stage.
    total
        Generations done in all stages.
    validated
        Generation of this stage whose mean was validated last; -1 before the first time.
    best_generation, best_fitness, best_kept
        The best mean of this stage on the validation prompts.
    start_fitness, start_kept
        The stage's start on the same prompts.
    seconds
        Wall time spent so far, over all processes.
    """

    stage: int = 0
    generation: int = 0
    total: int = 0
    validated: int = -1
    best_generation: int = -1
    best_fitness: float = float("-inf")
    best_kept: float = 1.0
    start_fitness: float = float("-inf")
    start_kept: float = 1.0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class State:
    """All that is needed to go on.

    Attributes
    ----------
    strategy
        State of the strategy; empty before the first stage.
    best
        (parameter,) float32: the best mean of this stage; None before the first validation.
    recent
        (generation, n) float64: the last means of this stage, where their average is tried too.
    """

    position: Position
    strategy: Mapping[str, Tensor]
    best: Tensor | None = None
    recent: Tensor | None = None

    def at(self, **changes: Any) -> State:
        """The same state further on."""
        return replace(self, position=replace(self.position, **changes))

    def save(self, folder: Path) -> None:
        """Replace the state of a run folder."""
        tensors = {f"{_STRATEGY}{name}": value for name, value in self.strategy.items()}
        for name, tensor in (("best", self.best), ("recent", self.recent)):
            if tensor is not None:
                tensors[name] = tensor
        write_tensors(folder / STATE, tensors, asdict(self.position))

    @classmethod
    def load(cls, folder: Path) -> State | None:
        """Read the state of a run folder; None if it has none.

        Raises
        ------
        RunError
            The file is damaged.
        """
        path = folder / STATE
        if not path.is_file():
            return None
        tensors, found = read_tensors(path)
        position = Position(**found)
        best, recent = tensors.pop("best", None), tensors.pop("recent", None)
        strategy = {name.removeprefix(_STRATEGY): value for name, value in tensors.items()}
        return cls(position, strategy, best, recent)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> None:
    """Write a safetensors file so that a reader sees the old one or the new one, never half."""
    content = save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
        metadata={"position": json.dumps(dict(position))},
    )
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise RunError(
            f"writing {path} failed: {error.strerror}. The state before is kept; free some space "
            "and run the same command again."
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote.

    Raises
    ------
    RunError
        The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            position = json.loads(file.metadata()["position"])
            return {name: file.get_tensor(name) for name in file.keys()}, position  # noqa: SIM118
    except Exception as error:  # safetensors has its own
        raise RunError(
            message(
                f"cannot read the state of the run ({type(error).__name__}: {error})",
                given=str(path),
                expected="the file that this run wrote",
                then="Begin anew in another folder.",
            )
        ) from error


def trim(path: Path, total: int) -> None:
    """Leave out lines of a ``.jsonl`` that a killed run wrote after its last whole state."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["generation"] < total:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            continue
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    fresh.replace(path)
