"""The state of a refinement on disk, also as earlier versions wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.state import read_tensors, write_tensors
from research.gradients.refinement_settings import RefinementSettings

STATE = "state.safetensors"


@dataclass(eq=False)
class RefinementState:
    """Everything that is needed to continue a refinement.

    Attributes
    ----------
    vector, average, best
        (4172,) float32: the current vector, the running mean, and the best mean by validation.
    step, best_step
        Finished steps, and the step of the best mean.
    best_value, start_value
        Mean loss of the best mean and of the start on validation, in nats; 0 is the full cache.
    scores
        (n,) float32: recent scores.
    full
        Values of the validation prompts with the full cache.
    moments
        State of Adam.
    """

    vector: Tensor
    average: Tensor
    best: Tensor
    step: int = 0
    best_step: int = 0
    best_value: float = float("-inf")
    start_value: float = float("-inf")
    scores: Tensor = field(default_factory=lambda: torch.empty(0))
    full: list[float] = field(default_factory=list)
    moments: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def begin(cls, start: Tensor) -> RefinementState:
        """Return the state before the first step."""
        return cls(start.clone(), start.clone(), start.clone())

    def save(self, path: Path, settings: RefinementSettings, origin: Mapping[str, str]) -> None:
        """Replace the file; `origin` tells what the run was made with, beside its settings."""
        tensors = {
            "vector": self.vector,
            "average": self.average,
            "best": self.best,
            "scores": self.scores,
            "full": torch.tensor(self.full, dtype=torch.float64),
            "first": self.moments["exp_avg"],
            "second": self.moments["exp_avg_sq"],
        }
        position = {
            "step": self.step,
            "best_step": self.best_step,
            "best_value": self.best_value,
            "start_value": self.start_value,
            "made_with": {**asdict(settings), **origin},
        }
        write_tensors(path, tensors, position)

    @classmethod
    def load(
        cls, path: Path, settings: RefinementSettings, origin: Mapping[str, str]
    ) -> RefinementState:
        """Return the state of a file, which may be of an earlier version.

        Raises
        ------
        UsageError
            The file belongs to other settings or to another origin.
        """
        tensors, position = read_tensors(path)
        before: dict[str, Any] = position["made_with"]
        changed: dict[str, tuple[object, object]] = {
            name: (before.get(name), now) for name, now in origin.items() if before.get(name) != now
        }
        stored = {name: value for name, value in before.items() if name not in origin}
        changed |= settings.changes(stored)
        if changed:
            raise UsageError(
                message(
                    f"{path.parent} has a run with other settings",
                    given=", ".join(f"{name}={now}" for name, (_, now) in sorted(changed.items())),
                    expected=", ".join(f"{n}={old}" for n, (old, _) in sorted(changed.items())),
                    then="Repeat them to continue, or take another folder with out=FOLDER.",
                )
            )
        step = position["step"]
        return cls(
            tensors["vector"],
            tensors["average"],
            tensors["best"],
            step=step,
            best_step=position["best_step"],
            best_value=position["best_value"],
            start_value=position["start_value"],
            scores=tensors["scores"],
            full=tensors["full"].tolist(),
            moments={
                "step": torch.tensor(float(step)),
                "exp_avg": tensors["first"],
                "exp_avg_sq": tensors["second"],
            },
        )
