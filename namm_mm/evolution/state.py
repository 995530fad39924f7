"""The whole state of an evolution in one file, replaced in one step.

``state.safetensors`` holds the state of the strategy and the best mean. Its metadata holds, as
JSON, which stage and generation come next. A run that is killed at any moment continues from this
file as if it had not been interrupted: the evaluations of the killed generation are in the journal.
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
        Index of the current stage.
    generation
        Finished generations of that stage.
    total
        Finished generations of all stages.
    validated
        Generation of this stage whose mean was validated last; -1 before the first validation.
    best_generation, best_fitness, best_kept
        The best mean of this stage on the validation prompts.
    start_fitness, start_kept
        The start of the stage on the same prompts.
    seconds
        Wall time so far, over all processes.
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
    """Everything that is needed to continue.

    Attributes
    ----------
    strategy
        State of the strategy; empty before the first stage.
    best
        (parameter,) float32: the best mean of this stage; None before the first validation.
    recent
        (generation, n) float64: the last means of this stage, where their average is validated too.
    """

    position: Position
    strategy: Mapping[str, Tensor]
    best: Tensor | None = None
    recent: Tensor | None = None

    def at(self, **changes: Any) -> State:
        """Return the same state with other fields of the position."""
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
        """Return the state of a run folder; None if it has none.

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
    """Write a safetensors file in one step: a reader sees the old file or the new one.

    Raises
    ------
    RunError
        The file cannot be written.
    """
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


def read_tensors(
    path: Path, what: str = "the state of the run"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the position that :func:`write_tensors` wrote.

    Parameters
    ----------
    what
        Name of the content, for the message.

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
                f"cannot read {what} ({type(error).__name__}: {error})",
                given=str(path),
                expected="the file that this run wrote",
                then="Start again in another folder.",
            )
        ) from error
