"""The caches of one attached memory: the newest one, and those that stand for a user's own."""

from __future__ import annotations

from sys import getrefcount
from typing import Any
from weakref import WeakSet

from transformers.cache_utils import DynamicCache

from namm_mm.errors import UnsupportedError
from namm_mm.memory.cache import Block, EvictingCache, EvictingLayer
from namm_mm.memory.carriers import Carrier
from namm_mm.memory.prompt import Prompt
from namm_mm.memory.rules import Rules

HELD_HERE = 2
"""References to the newest cache that count its own holder and the call that counts."""


class Caches:
    """Makes the caches of a ``with attach(...)`` block.

    Parameters
    ----------
    carrier
        The model that they are for.
    rules
        Policy, interval, storage and protocol.
    """

    def __init__(self, carrier: Carrier, rules: Rules) -> None:
        self.carrier, self.rules = carrier, rules
        self.block = Block()
        self.prompt: int | None = None  # columns of the prompt of the next sequences, if known
        self.newest: EvictingCache | None = None
        self._beside: WeakSet[EvictingCache] = WeakSet()

    def begin_beside(self) -> EvictingCache:
        """Return a new cache that is never reported: the newest one is still at work."""
        cache = EvictingCache(self.carrier.layout, self.rules, self.block)
        self._beside.add(cache)
        return cache

    def at_work(self) -> bool:
        """Whether something else holds the newest cache, as ``generate`` does until it returns."""
        return self.newest is not None and getrefcount(self.newest) > HELD_HERE

    def begin(self) -> EvictingCache:
        """Return a new cache, which becomes the newest one."""
        self.newest = None  # freed before the next is made
        prompt, self.prompt = Prompt(self.prompt), None
        cache = EvictingCache(self.carrier.layout, self.rules, self.block, prompt)
        self.newest = cache
        return cache

    def for_call(self, given: Any) -> EvictingCache:
        """Return the cache of a call that brings `given` as its ``past_key_values``.

        None begins new sequences. A cache of this block, or a copy of one, goes on. An empty
        ``DynamicCache`` of the user begins new sequences at its first call: it is given our layers,
        so that it tells its length, and goes on at the next calls, as it does without a memory.

        Raises
        ------
        UnsupportedError
            It is a cache of another kind, of another block, or one that holds tokens already.
        """
        if given is None:
            return self.begin()
        if isinstance(given, EvictingCache):
            if given.block is not self.block:
                raise UnsupportedError(
                    "cannot go on from the cache of another `with attach(...)` block: its policy, "
                    "or its model, is another one. Pass `memory.cache` of this block, or nothing."
                )
            if given not in self._beside:
                self.newest = given
            return given
        if type(given) is DynamicCache:
            if not _ours(given) and given.get_seq_length() == 0:
                given.layers = self.begin().layers
            if _ours(given):
                return self.for_call(EvictingCache.over(given.layers))
        kind = type(given).__name__
        length = given.get_seq_length() if isinstance(given, DynamicCache) else "unknown"
        raise UnsupportedError(
            f"cannot go on from another cache: got a {kind} of length {length}, expected none, or "
            "`memory.cache` to continue. Static, quantised and sliding caches are not served."
        )


def _ours(given: DynamicCache) -> bool:
    """Whether a cache of the user was given the layers of one of ours, or is a copy of such."""
    return any(isinstance(layer, EvictingLayer) for layer in given.layers)
