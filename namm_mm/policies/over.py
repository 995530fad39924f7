"""A policy on top of another: it changes how the other's scores are spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message
from namm_mm.observations.base import Observation
from namm_mm.policies.base import Budget, LayerView, Policy
from namm_mm.policies.creating import create

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Over(Policy):
    """Scores, observation and protected tokens are those of the policy below.

    Attributes
    ----------
    over
        The policy below: a name, a mapping with ``name`` and options, or a policy. Its own budget
        does not count.
    """

    over: Policy | str | Mapping[str, Any] = "snapkv"
    below: Policy = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        """Build the policy below and take over its protected tokens.

        Raises
        ------
        UsageError
            It has a wrong name or option, or a budget without a size.
        """
        object.__setattr__(self, "below", _policy(self.over))
        object.__setattr__(self, "sinks", self.sinks or self.below.sinks)
        object.__setattr__(self, "recents", self.recents or self.below.recents)
        if not isinstance(self.budget, Budget):
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

    def score(self, view: LayerView) -> Tensor:
        """Return the scores of the policy below."""
        return self.below.score(view)


def _policy(given: Policy | str | Mapping[str, Any]) -> Policy:
    if isinstance(given, Policy):
        return given
    options = {"name": given} if isinstance(given, str) else dict(given)
    return create(str(options.pop("name", "")), **options)
