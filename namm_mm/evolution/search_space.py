"""The search space: which parameters are searched, and how far one step moves each of them.

The parameters of a scorer have different effects. In a hand-written NAMM one weight is 1 and sees
features that are mostly near 0, while others are 0 and see features near 1: equal steps would
overwrite the rule. ``fitted`` steps are measured at the start of the search: a step of 1 along each
axis of the search space moves the scores of a typical token by the spread of all scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from namm_mm.errors import RunError, UsageError, message
from namm_mm.evolution.state import read_tensors, write_tensors
from namm_mm.namm import Namm
from namm_mm.namm.network import SCORERS
from namm_mm.namm.params import Layout
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import LayerView, Policy, Selection
from namm_mm.policies.namm import NammPolicy

PLAIN, FITTED = "plain", "fitted"
STEPS = (PLAIN, FITTED)
SUBSPACES: Mapping[str, tuple[str, ...] | None] = {
    "all": None,
    "output": ("output_bias", "score_weight", "score_bias"),
    "score": ("score_weight", "score_bias"),
}
"""Names of the searched parameters; ``output`` are the biases of the gates and the final layer."""

CENTRAL = 0.05  # this fraction of the tokens is left out at each end of the scores
RIDGE = 1e-4  # of the largest eigenvalue; limits the steps along directions with little effect
SEQUENCES = 24  # caches of one head from which steps are fitted
_DIFFERENCE = 1e-4  # of the finite differences


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A linear subspace of the parameter space.

    Attributes
    ----------
    origin
        (parameter,) float64: the vector at point 0.
    index
        (n,) int64: the searched parameters.
    basis
        (n, n) float64: the change of the parameters along each axis; None is the identity.
    """

    origin: Tensor
    index: Tensor
    basis: Tensor | None = None

    def vectors(self, points: Tensor) -> Tensor:
        """Return (candidate, parameter) float32 vectors for the points (candidate, n)."""
        found = self.origin.repeat(len(points), 1)
        steps = points.to(self.origin)
        found[:, self.index] += steps if self.basis is None else steps @ self.basis.T
        return found.float()

    def save(self, path: Path) -> None:
        """Write the search space in one step."""
        parts = {"origin": self.origin, "index": self.index}
        write_tensors(path, parts if self.basis is None else {**parts, "basis": self.basis}, {})

    @classmethod
    def load(cls, path: Path) -> SearchSpace:
        """Return what :meth:`save` wrote; raise `RunError` where the file is damaged."""
        tensors, _ = read_tensors(path, "the search space")
        return cls(**tensors)


def indices(layout: Layout, subspace: str) -> Tensor:
    """Return (n,) int64: places of a subspace's parameters in the flat vector.

    Raises
    ------
    UsageError
        The scorer has no such parameters.
    """
    names = SUBSPACES[subspace]
    missing = [name for name in names or () if name not in layout.shapes]
    if missing:
        raise UsageError(
            message(
                f"the scorer {layout.scorer!r} has no subspace {subspace!r}",
                given=sorted(layout.shapes),
                expected=f"parameters {', '.join(missing)}",
                then="Search in `all`, or in `score`.",
            )
        )
    places = layout.split(torch.arange(layout.size))
    return torch.cat([places[name].flatten() for name in names or layout.shapes])


def fit_steps(namm: Namm, index: Tensor, seen: Recorder) -> Tensor:
    """Return steps (n, n) that move typical scores by their spread, each along its own axis.

    Parameters
    ----------
    namm
        The start of the search.
    index
        The searched parameters.
    seen
        Recorded the observations of the start.

    Raises
    ------
    RunError
        The start saw no eviction, or all its scores are equal.
    """
    scores, gradients = seen.gradients(namm, index)
    low, high = torch.quantile(scores, torch.tensor([CENTRAL, 1 - CENTRAL]).to(scores))
    central = (scores >= low) & (scores <= high)
    ends = torch.quantile(scores[central], torch.tensor([0.16, 0.84]).to(scores))
    spread = float(ends[1] - ends[0]) / 2
    if not spread > 0:
        raise RunError(
            message(
                "steps cannot be fitted to a start that scores all tokens alike",
                given=f"a spread of {spread}",
                expected="scores that differ",
                then="Use steps=plain.",
            )
        )
    typical = gradients[central]
    values, axes = torch.linalg.eigh(typical.T @ typical / len(typical))
    values = values.clamp_min(0.0)
    steps: Tensor = spread * axes / (values + RIDGE * values.max()).sqrt()
    return steps


@dataclass(frozen=True)
class Recorder(Policy):
    """Runs the policy of a NAMM and records its observations, of another head at each update.

    Parameters
    ----------
    policy
        Decides what stays.
    """

    name: ClassVar[str] = "recorder"
    policy: NammPolicy
    views: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @property
    def selection(self) -> Selection:
        """The rule of the policy."""
        return self.policy.selection

    @property
    def needs(self) -> SpectrogramOf:
        """What the policy needs."""
        return self.policy.needs

    def score(self, view: LayerView) -> Tensor:
        """Return the scores of the policy."""
        head = len(self.views) % view.lengths.shape[1]
        length = int(view.lengths[0, head])
        spectrum = view.statistics["spectrogram"][:1, head : head + 1, :length]
        age = view.age[:1, head : head + 1, :length]
        lengths = view.lengths[:1, head : head + 1]
        self.views.append((spectrum.cpu().clone(), age.cpu().clone(), lengths.cpu().clone()))
        return self.policy.protected_scores(view)

    def gradients(self, namm: Namm, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (token,) and their gradients (token, n), by finite differences.

        Raises
        ------
        RunError
            Nothing was recorded: no prompt was long enough for an update.
        """
        if not self.views:
            raise RunError(
                "the start met no eviction, so that its steps cannot be fitted: the prompts are "
                f"shorter than the interval of {namm.interval} tokens. Use steps=plain."
            )
        scores, gradients = [], []
        every = -(-len(self.views) // SEQUENCES)
        for spectrum, age, lengths in self.views[::every]:
            observed = namm.features(spectrum, age)
            run = _scores_of(namm, observed.double(), lengths)
            start = namm.parameters.cpu().double()
            scores.append(run(start))
            columns = []
            for place in index.tolist():
                moved = start.clone()
                moved[place] += _DIFFERENCE
                columns.append((run(moved) - scores[-1]) / _DIFFERENCE)
            gradients.append(torch.stack(columns, dim=1))
        return torch.cat(scores), torch.cat(gradients)


def _scores_of(namm: Namm, observed: Tensor, lengths: Tensor) -> Callable[[Tensor], Tensor]:
    def run(vector: Tensor) -> Tensor:
        return SCORERS[namm.scorer].from_vector(vector).score(observed, lengths).flatten()

    return run
