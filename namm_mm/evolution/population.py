"""A policy for a population: every row of the batch is scored by another NAMM."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.namm import Namm
from namm_mm.namm.network import SCORERS, Scorer
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import THRESHOLD, AnyBudget, LayerView, Policy


@dataclass(frozen=True, eq=False)
class Population(Policy):
    """All candidates of a generation: the NAMM ``vectors[i]`` evicts tokens of row ``i``.

    Attributes
    ----------
    namm
        What the candidates share: layout, statistics, spectrogram.
    vectors
        (candidate, parameter) float32, on the device of the model.
    """

    name: ClassVar[str] = "population"
    namm: Namm
    vectors: Tensor
    budget: AnyBudget = field(default=THRESHOLD, kw_only=True)
    scorer: Scorer = field(init=False, repr=False)

    def check(self) -> None:
        """Cut the vectors into the matrices of the scorers."""
        split: list[dict[str, Tensor]] = [self.namm.layout.split(v) for v in self.vectors]
        # (candidate, 1, ...): one candidate for each row and all of its heads.
        parts: dict[str, Any] = {}
        for name, shape in self.namm.layout.shapes.items():
            stacked = torch.stack([part[name] for part in split])
            parts[name] = stacked.reshape(len(split), 1, *([1] if len(shape) == 1 else []), *shape)
        object.__setattr__(self, "scorer", SCORERS[self.namm.scorer](**parts))

    @property
    def needs(self) -> SpectrogramOf:
        """The spectrogram that all candidates share."""
        return SpectrogramOf(self.namm.spectrogram)

    def score(self, view: LayerView) -> Tensor:
        """Return the scores (row, kv_head, slot), each row by its own candidate."""
        count, asked = len(self.vectors), view.positions.shape[0]
        rows = view.rows or tuple(range(asked))
        if len(rows) != asked or max(rows, default=0) >= count:
            raise UsageError(
                message(
                    "wrong batch for a population",
                    given=asked,
                    expected=f"at most {count} rows, one for each candidate",
                )
            )
        namm = self.namm.to(view.positions.device)
        observed = namm.features(view.statistics["spectrogram"], view.age)
        scorer = self.scorer
        if rows != tuple(range(count)):  # some rows have ended
            names = [part.name for part in fields(scorer)]  # type: ignore[arg-type]
            parts = {name: getattr(scorer, name)[list(rows)] for name in names}
            scorer = type(scorer)(**parts)
        return scorer.score(observed, view.lengths)
