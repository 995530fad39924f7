"""Where a search looks: which parameters move, and what one step of each is worth.

A scorer's parameters differ in what they do. Of a hand-written NAMM one weight is 1 and sees
features that are mostly near 0, others are 0 and see features near 1: equal steps would drown what
it knows. ``fitted`` steps are measured at the start: along each direction of the search a step of 1
moves the scores of a typical token by as much as scores are spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from namm_mm.errors import RunError, UsageError, message
from namm_mm.evolution.state import write_tensors
from namm_mm.namm import Namm
from namm_mm.namm.bam import Bam
from namm_mm.namm.mlp import Linear, Mlp
from namm_mm.namm.network import Scorer
from namm_mm.namm.params import Layout
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.policies.base import LayerView, Observation, Policy, Selection

PLAIN, FITTED = "plain", "fitted"
STEPS = (PLAIN, FITTED)
SUBSPACES: Mapping[str, tuple[str, ...] | None] = {
    "all": None,
    "output": ("output_bias", "score_weight", "score_bias"),
    "score": ("score_weight", "score_bias"),
}
"""Names of the parameters that move; ``output`` are the gates' biases and the final layer."""

CENTRAL = 0.05  # tokens with the lowest and highest scores, this part of each, are left out
RIDGE = 1e-4  # of the strongest direction; bounds how far a weak one is stretched
SEQUENCES = 24  # caches of one head that are looked at to fit steps
_STEP = 1e-4

_SCORERS: Mapping[str, Callable[[Tensor], Scorer]] = {
    "bam": Bam.from_vector,
    "mlp": Mlp.from_vector,
    "linear": Linear.from_vector,
}


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A flat space inside that of all parameters.

    Attributes
    ----------
    origin
        (parameter,) float64: the vector at point 0.
    index
        (n,) int64: the parameters that move.
    basis
        (n, n) float64: what a step in each direction changes; None moves each by itself.
    """

    origin: Tensor
    index: Tensor
    basis: Tensor | None = None

    def vectors(self, points: Tensor) -> Tensor:
        """Points (candidate, n) to parameter vectors (candidate, parameter) float32."""
        found = self.origin.repeat(len(points), 1)
        steps = points.to(self.origin)
        found[:, self.index] += steps if self.basis is None else steps @ self.basis.T
        return found.float()

    def save(self, path: Path) -> None:
        """Write it in one step."""
        parts = {"origin": self.origin, "index": self.index}
        write_tensors(path, parts if self.basis is None else {**parts, "basis": self.basis}, {})

    @classmethod
    def load(cls, path: Path) -> SearchSpace:
        """Read what :meth:`save` wrote."""
        try:
            return cls(**load_file(path))
        except Exception as error:  # safetensors has its own
            raise RunError(
                message(
                    f"cannot read the search space ({type(error).__name__}: {error})",
                    given=str(path),
                    expected="the file that this run wrote",
                    then="Begin anew in another folder.",
                )
            ) from error


def indices(layout: Layout, subspace: str) -> Tensor:
    """(n,) int64: places of a subspace's parameters in the flat vector.

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


def fit(namm: Namm, index: Tensor, seen: Recorder) -> Tensor:
    """Steps (n, n) that move typical scores by their spread, each in a direction of its own.

    Parameters
    ----------
    namm
        The start.
    index
        Parameters that move.
    seen
        What the start was shown.

    Raises
    ------
    RunError
        The start saw no token, or scores all alike: nothing can be measured.
    """
    scores, slopes = seen.slopes(namm, index)
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
    typical = slopes[central]
    values, axes = torch.linalg.eigh(typical.T @ typical / len(typical))
    values = values.clamp_min(0.0)
    steps: Tensor = spread * axes / (values + RIDGE * values.max()).sqrt()
    return steps


@dataclass
class Recorder:
    """A policy that does as another does and remembers what it was shown, of one head each time.

    Parameters
    ----------
    policy
        A NAMM's; it decides.
    """

    policy: Policy
    name: str = "recorder"
    needs: Observation = Observation.SPECTROGRAM
    views: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @property
    def selection(self) -> Selection:
        """That of the policy."""
        return self.policy.selection

    @property
    def spectrogram(self) -> Spectrogram:
        """That of the policy."""
        found: Spectrogram = self.policy.spectrogram  # type: ignore[attr-defined]
        return found

    def score(self, view: LayerView) -> Tensor:
        """Score as the policy does."""
        head = len(self.views) % view.lengths.shape[1]
        length = int(view.lengths[0, head])
        spectrum = view.statistics["spectrogram"][:1, head : head + 1, :length]
        age = view.age[:1, head : head + 1, :length]
        lengths = view.lengths[:1, head : head + 1]
        self.views.append((spectrum.cpu().clone(), age.cpu().clone(), lengths.cpu().clone()))
        return self.policy.score(view)

    def slopes(self, namm: Namm, index: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (token,) of what was seen, and their slopes (token, n), by differences."""
        if not self.views:
            raise RunError(
                "the start met no eviction, so that its steps cannot be fitted: the prompts are "
                f"shorter than the interval of {namm.interval} tokens. Use steps=plain."
            )
        scores, slopes = [], []
        every = -(-len(self.views) // SEQUENCES)
        for spectrum, age, lengths in self.views[::every]:
            observed = namm.features(spectrum, age)
            run = _runner(namm, observed.double(), lengths)
            start = namm.parameters.cpu().double()
            scores.append(run(start))
            columns = []
            for place in index.tolist():
                moved = start.clone()
                moved[place] += _STEP
                columns.append((run(moved) - scores[-1]) / _STEP)
            slopes.append(torch.stack(columns, dim=1))
        return torch.cat(scores), torch.cat(slopes)


def _runner(namm: Namm, observed: Tensor, lengths: Tensor) -> Callable[[Tensor], Tensor]:
    def run(vector: Tensor) -> Tensor:
        return _SCORERS[namm.scorer](vector).score(observed, lengths).flatten()

    return run


def with_vector(namm: Namm, vector: Tensor) -> Namm:
    """The same NAMM with other parameters (parameter,)."""
    return replace(namm, parameters=vector.float())
