"""What a policy is told of a sample before the model reads it."""

from __future__ import annotations

from namm_mm.adapters.base import AnsweringAdapter, LanguageAdapter
from namm_mm.errors import UnsupportedError
from namm_mm.memory.repetition import REQUEST, repetition_scores
from namm_mm.policies.base import Policy
from namm_mm.records import Inputs


def told(adapter: AnsweringAdapter, inputs: Inputs, policy: Policy) -> Policy:
    """Return the policy that knows what tokens are and, for a bound, what a repetition shows.

    Parameters
    ----------
    adapter
        Loaded: a bound runs its model.
    inputs
        The sample that is going to be answered.

    Raises
    ------
    UnsupportedError
        A bound on an adapter that is not for text.
    """
    policy = policy.for_tokens(inputs.token_types)
    if not policy.repeats:
        return policy
    if not isinstance(adapter, LanguageAdapter):
        raise UnsupportedError(f"{policy.name} needs an adapter for text, which can ask its model")
    request = adapter.continuation(inputs.sample, REQUEST)
    tokens = inputs.tensors["input_ids"][0].tolist()
    return policy.for_repetition(repetition_scores(adapter.backbone, tokens, request))
