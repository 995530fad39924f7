"""How a memory runs."""

from __future__ import annotations

from dataclasses import dataclass

from namm_mm.memory.watch import Watcher
from namm_mm.observations.base import Observation
from namm_mm.policies.base import KeepAll, Policy


@dataclass(frozen=True)
class Rules:
    """How a memory runs; the same for all its layers.

    Attributes
    ----------
    policy
        Scores tokens and names the rule of selection.
    interval
        Tokens between two evictions, counted per row.
    per_head
        Heads keep their own numbers of tokens (``storage="per_head"``).
    streaming
        Evict at every interval, in the prompt too; else once, at the end of the prompt.
    watcher
        Is told of every update; None for nobody.
    observation
        What is observed; None for what the policy needs, as it is.
    """

    policy: Policy
    interval: int
    per_head: bool
    streaming: bool
    watcher: Watcher | None = None
    observation: Observation | None = None

    @property
    def reads_some(self) -> bool:
        """Whether nobody is told what is scored in heads that lose no token."""
        return self.per_head and self.streaming and self.watcher is None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever evicted."""
        return isinstance(self.policy.selection, KeepAll)

    def __deepcopy__(self, memo: object) -> Rules:
        """Return itself: copies of a cache share the policy, which may hold a network."""
        return self
