"""A policy on top of another: it changes how the other's scores are spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from namm_mm.errors import UsageError, message
from namm_mm.observations.base import Observation
from namm_mm.policies.base import AnyBudget, Budget, LayerView, Policy, Selection
from namm_mm.policies.creating import create
from namm_mm.policies.head_need import HeadNeeds, Probe, Windows

if TYPE_CHECKING:
    from torch import Tensor, nn

    from namm_mm.records import TokenType


@dataclass(frozen=True)
class Over(Policy):
    """Scores, observation and protected tokens are those of the policy below.

    Attributes
    ----------
    over
        The policy below: a name, a mapping with ``name`` and options, or a policy.
    budget
        None is the budget of the policy below.
    """

    sized: ClassVar[bool] = True
    """Whether the budget must name a size."""

    over: Policy | str | Mapping[str, Any] = "snapkv"
    budget: AnyBudget | None = field(default=None, kw_only=True)  # type: ignore[assignment]
    below: Policy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the policy below; take over its protected tokens, and its budget if none is given.

        Raises
        ------
        UsageError
            The policy below has a wrong name or option, or there is a budget without a size.
        """
        below = policy_below(self.over)
        object.__setattr__(self, "sinks", self.sinks or below.sinks)
        object.__setattr__(self, "recents", self.recents or below.recents)
        budget = below.budget if self.budget is None else self.budget
        object.__setattr__(self, "budget", budget)
        object.__setattr__(self, "below", replace(below, budget=budget))
        super().__post_init__()
        if self.sized and not isinstance(self.budget, Budget):
            raise UsageError(
                message(
                    f"{self.name} needs a budget with a size",
                    given=self.budget,
                    expected="a fraction, tokens:N or match:POLICY",
                )
            )

    @property
    def needs(self) -> Observation | None:
        """What the policy below observes."""
        return self.below.needs

    @property
    def content(self) -> str | None:
        """What the tokens must be of for the policy below."""
        return self.below.content

    def for_model(self, model: nn.Module) -> Self:
        """Return the policy on top of the one below, fitted to `model`."""
        return replace(self, over=self.below.for_model(model))

    def for_tokens(self, token_types: Sequence[TokenType]) -> Self:
        """Return the policy on top of the one below, told what each token is."""
        return replace(self, over=self.below.for_tokens(token_types))

    @property
    def repeats(self) -> bool:
        """Whether the policy below must see the model repeat its prompt."""
        return self.below.repeats

    @property
    def made_for(self) -> str:
        """The model that the policy below was trained for."""
        return self.below.made_for

    def for_repetition(self, scores: Sequence[Tensor]) -> Self:
        """Return the policy on top of the one below with what a repetition showed."""
        return replace(self, over=self.below.for_repetition(scores))

    @property
    def probe(self) -> Probe | None:
        """What must be measured for the policy below."""
        return self.below.probe

    def for_needs(self, needs: HeadNeeds, windows: Windows) -> Self:
        """Return the policy on top of the one below with what a probe found."""
        return replace(self, over=self.below.for_needs(needs, windows))

    @property
    def interval(self) -> int | None:
        """The interval of the policy below."""
        return self.below.interval

    @property
    def storage(self) -> str | None:
        """Storage per head where heads share a size; else that of the policy below."""
        return super().storage or self.below.storage

    @property
    def selection(self) -> Selection:
        """The rule of the policy below under this budget."""
        return self.below.selection

    def score(self, view: LayerView) -> Tensor:
        """Return the scores of the policy below."""
        return self.below.score(view)


def policy_below(given: Policy | str | Mapping[str, Any]) -> Policy:
    """Return what a policy on top was given as its `over`: a policy, or the name of one."""
    if isinstance(given, Policy):
        return given
    options = {"name": given} if isinstance(given, str) else dict(given)
    return create(str(options.pop("name", "")), **options)
