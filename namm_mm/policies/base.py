"""What a policy is: what it observes, a score for every cached token, a budget and protection.

A policy knows no modality and no model. It sees one layer at a time, through a :class:`LayerView`,
and answers with a score for each slot; the memory keeps the best ones. A new policy is a frozen
dataclass with a name and a score::

    @dataclass(frozen=True)
    class H2O(Policy):
        name: ClassVar[str] = "h2o"
        needs: ClassVar[Observation] = ColumnSums()
        recents: float = 0.5

        def score(self, view: LayerView) -> Tensor:
            return view.statistics["column_sums"]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from namm_mm.errors import UsageError, message
from namm_mm.observations.base import Observation
from namm_mm.policies.budgets import (
    KEEP_ALL,
    QUARTER,
    THRESHOLD,
    AnyBudget,
    Budget,
    KeepAll,
    Selection,
    Threshold,
    selection_of,
)
from namm_mm.policies.head_need import HeadNeeds, Probe, Windows
from namm_mm.policies.view import LayerView

if TYPE_CHECKING:
    from torch import Tensor, nn

    from namm_mm.records import TokenType
    from namm_mm.residuals.feature_maps import FeatureMaps

__all__ = [
    "KEEP_ALL",
    "QUARTER",
    "THRESHOLD",
    "AnyBudget",
    "Budget",
    "KeepAll",
    "LayerView",
    "Observation",
    "Policy",
    "Selection",
    "Threshold",
    "at_most_half",
    "newest_first",
    "oldest_first",
    "refuse_protection",
]


@dataclass(frozen=True)
class Policy(ABC):
    """Decides which cached tokens stay. Subclasses are small frozen dataclasses.

    A subclass gives a `name` and a `score`, and may give other defaults to the fields below.

    Attributes
    ----------
    budget
        How many tokens stay: a number is a fraction of the tokens seen, words are those of a
        configuration (``"tokens:512"``, ``"threshold"``), or a rule of selection itself.
    sinks, recents
        The first and the newest tokens of a row that stay whatever they score: 1 or more is a
        number of tokens, of which half of a known limit stays at most; 0.1 is that part of the
        limit.
    """

    reencodes: ClassVar[bool] = False
    """Whether it encodes its tokens anew for every decision, and so is no memory to attach."""

    least_tokens: ClassVar[int] = 1
    """Fewer tokens would all be protected, and leave nothing to the score."""

    budget: AnyBudget = field(default=QUARTER, kw_only=True)
    sinks: float = field(default=0, kw_only=True)
    recents: float = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", selection_of(self.budget))
        for name in ("sinks", "recents"):
            given = getattr(self, name)
            if not _protects(given):
                expected = "0 or more tokens, or a part of the limit: 0.5 at most"
                raise UsageError(message(f"wrong {name}", given=given, expected=expected))
        self._check_size()
        self.check()

    def _check_size(self) -> None:
        budget = self.budget
        tokens = budget.tokens if isinstance(budget, Budget) else None
        if tokens is not None and tokens < self.least_tokens:
            raise UsageError(
                message(
                    f"{self.name} protects as many tokens as it may keep",
                    given=f"tokens:{tokens}",
                    expected=f"tokens:{self.least_tokens} or more",
                )
            )

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name for tables; usually a class variable."""

    @property
    def needs(self) -> Observation | None:
        """What the memory observes for this policy; None where it looks at no attention.

        A class variable, or a property where the observation depends on the policy's own fields.
        """
        return None

    @property
    def content(self) -> str | None:
        """What the tokens must be of, where it must be told what they are: ``video``; else None."""
        return None

    @property
    def repeats(self) -> bool:
        """Whether it must see the model repeat its prompt first: a bound, no streaming policy."""
        return False

    @property
    def made_for(self) -> str:
        """The model that something of it was trained for; empty where it takes any."""
        return ""

    @property
    def bytes_per_token(self) -> int:
        """Bytes that the memory holds for it beside each cached token and head."""
        return 0 if self.needs is None else self.needs.bytes_per_token

    @property
    def interval(self) -> int | None:
        """Tokens between two evictions that the policy was made for; None where any will do."""
        return None

    @property
    def storage(self) -> str | None:
        """The storage that the policy was made for; None where any will do."""
        selection = self.selection
        return "per_head" if isinstance(selection, Budget) and selection.uneven else None

    @property
    def selection(self) -> Selection:
        """The rule that turns scores into kept tokens."""
        return selection_of(self.budget)

    @property
    def residual(self) -> FeatureMaps | None:
        """Feature maps of a state that evicted tokens go into; None where they leave nothing."""
        return None

    def check(self) -> None:  # noqa: B027  (optional)
        """Raise `UsageError` for wrong values of the subclass's own fields."""

    def for_model(self, model: nn.Module) -> Self:
        """Return the policy fitted to `model`, which a memory is attached to; itself by default.

        Raises
        ------
        UsageError
            It was made for another model.
        UnsupportedError
            The model lacks what the policy looks at.
        """
        return self

    @property
    def probe(self) -> Probe | None:
        """What the memory must measure in a model before it begins; None by default."""
        return None

    def for_needs(self, needs: HeadNeeds, windows: Windows) -> Self:
        """Return the policy with what the probe found; itself by default.

        Parameters
        ----------
        needs
            For each layer and kv head, 0 or more.
        windows
            The sliding window of each layer in tokens; None where it has none.
        """
        return self

    def for_tokens(self, token_types: Sequence[TokenType]) -> Self:
        """Return the policy told what each token of a sample is; itself by default.

        Raises
        ------
        UsageError
            They are not of its `content`.
        """
        return self

    def for_repetition(self, scores: Sequence[Tensor]) -> Self:
        """Return the policy with what a repetition of the prompt showed; itself by default."""
        return self

    @abstractmethod
    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot) float32: higher stays. A row's scores depend on that row alone."""

    def protected_scores(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot) float32: the scores, with protected tokens above all others."""
        return self.protect(self.score(view), view)

    def protect(self, scores: Tensor, view: LayerView) -> Tensor:
        """(row, kv_head, slot): `scores` of this policy, with protected tokens above all others."""
        return newest_first(oldest_first(scores, view, self.sinks), view, self.recents)


def refuse_protection(policy: Policy) -> None:
    """Raise `UsageError` if a policy for which protection means nothing was given some."""
    if policy.sinks or policy.recents:
        raise UsageError(
            message(
                f"{policy.name} protects no tokens",
                given={"sinks": policy.sinks, "recents": policy.recents},
                expected="neither",
            )
        )


def _protects(given: object) -> bool:
    """Whether it is a number of tokens, or a part of a limit."""
    if isinstance(given, float):
        return 0.0 <= given <= 0.5
    return isinstance(given, int) and not isinstance(given, bool) and given >= 0


def at_most_half(amount: float, view: LayerView) -> Tensor | int:
    """(row, kv_head, 1) int64: how many tokens `amount` protects.

    A float is that part of the limit, or of what is cached where no limit is known. An integer is
    so many tokens, and half of a known limit where that is less: what is protected whatever its
    score must leave room for what the score is about.
    """
    if isinstance(amount, float):
        limits = view.lengths if view.limits is None else view.limits
        return (limits * amount).long()[..., None]
    if view.limits is None:
        return amount
    return (view.limits // 2).clamp_max(amount)[..., None]


def oldest_first(scores: Tensor, view: LayerView, sinks: float) -> Tensor:
    """Scores (row, kv_head, slot) in which the first `sinks` tokens come before all others."""
    if not sinks:
        return scores
    protected = view.positions < at_most_half(sinks, view)
    return scores.where(~protected, _highest(scores, view) + 1.0)


def newest_first(scores: Tensor, view: LayerView, recents: float) -> Tensor:
    """Scores (row, kv_head, slot) in which the `recents` newest tokens come before all others.

    The newest comes first, and all of them score 0 or more. For what few queries could look at yet,
    and for comparing policies that protect such tokens with others at equal terms.
    """
    if not recents:
        return scores
    protected = at_most_half(recents, view)
    return scores.where(view.age >= protected, _highest(scores, view) + 1.0 + protected - view.age)


def _highest(scores: Tensor, view: LayerView) -> Tensor:
    """(row, 1, 1): the highest score of a row's tokens, or 0 where that is more."""
    return scores.masked_fill(~view.filled, 0.0).amax((1, 2), keepdim=True).clamp_min(0.0)
