"""Probed: retrieval heads get more memory; a probe of the model finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import AnyBudget, Budget, Policy, Selection
from namm_mm.policies.head_need import HeadNeed, HeadNeeds, Probe, Windows
from namm_mm.policies.over import Over, policy_below
from namm_mm.records import Trace

TWO_FIFTHS = Budget(fraction=0.4)
"""The budget where neither this policy nor the one below was given a size."""


@dataclass(frozen=True)
class Probed(Over):
    """The budget goes to the heads that need it; the policy below decides which tokens stay.

    The memory measures the needs when it is attached: the model reads the same random token ids
    twice. A head's need is the attention that it pays from a token of the second time to the same
    token of the first time and to the one after it. No text and no sample of a task is read. Such
    heads are retrieval heads (RazorAttention, arXiv 2407.15891; DuoAttention, arXiv 2410.10819).
    Needs storage per head, and a model that reads token ids.

    Attributes
    ----------
    budget
        None is the budget of the policy below; two fifths of the tokens if that names no size.
        Under ``match:POLICY`` the mean of all heads is that of the other policy.
    floor
        Part of an equal share that each head keeps in any case.
    tokens
        Random tokens that are read twice.
    between
        Other random tokens between the two times.
    rows
        Number of such sequences.
    seed
        Of the random tokens: two probes of one model with one seed are the same.
    """

    over: Policy | str | Mapping[str, Any] = "namm"
    budget: AnyBudget | None = field(default=None, kw_only=True)
    floor: float = 0.25
    tokens: int = 64
    between: int = 32
    rows: int = 2
    seed: int = 0
    need: HeadNeed | None = None

    def __post_init__(self) -> None:
        """Take the budget of the policy below, or two fifths; even out sizes of another run."""
        below = policy_below(self.over)
        if self.budget is None and not isinstance(below.selection, Budget):
            object.__setattr__(self, "budget", TWO_FIFTHS)
        if isinstance(self.budget, Budget) and self.budget.trace is not None:
            object.__setattr__(self, "budget", _evened(self.budget))
        super().__post_init__()

    @property
    def name(self) -> str:
        """Its own name and that of the policy below."""
        return f"probed({self.below.name})"

    def check(self) -> None:
        """Raise `UsageError` for a floor that is not a part, or an empty probe."""
        if not 0.0 <= self.floor <= 1.0:
            raise UsageError(
                message("wrong floor of probed", given=self.floor, expected="0 to 1, a part")
            )
        sizes = {"tokens": self.tokens, "between": self.between, "rows": self.rows}
        if self.tokens < 2 or self.between < 0 or self.rows < 1:
            raise UsageError(
                message(
                    "wrong probe",
                    given=sizes,
                    expected="2 tokens or more, 0 between or more, 1 row or more",
                )
            )
        if isinstance(self.budget, Budget) and self.budget.table:
            raise UsageError(
                message(
                    "probed measures the size of each head",
                    given=self.budget.describe(),
                    expected="a size for the mean of all heads: fraction:F, bytes:F, tokens:N, "
                    "match:POLICY",
                )
            )

    @property
    def selection(self) -> Selection:
        """The budget, divided by the needs of the heads."""
        budget = super().selection
        need = self.need or HeadNeed(floor=self.floor)
        return replace(budget, need=need) if isinstance(budget, Budget) else budget

    @property
    def probe(self) -> Probe | None:
        """What the memory must measure; None once it has."""
        if self.need is not None:
            return None
        return Probe(self.tokens, self.between, self.rows, self.seed)

    def for_needs(self, needs: HeadNeeds, windows: Windows) -> Self:
        """Return the policy with what the probe found, layer by layer and head by head."""
        found = tuple(tuple(map(float, layer)) for layer in needs)
        return replace(self, need=HeadNeed(found, self.floor, tuple(windows)))


def _evened(budget: Budget) -> Budget:
    """Return the budget with as many tokens of each trace, even over layers and heads."""
    trace = budget.trace
    if trace is None:
        return budget
    if isinstance(trace, Trace):
        return replace(budget, trace=trace.even_layers())
    return replace(budget, trace=tuple(one.even_layers() for one in trace))
