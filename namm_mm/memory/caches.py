"""The caches of one attached memory: the newest one, and those that stand for a user's own."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from transformers.cache_utils import DynamicCache

from namm_mm.errors import UnsupportedError
from namm_mm.memory.cache import Block, EvictingCache
from namm_mm.memory.layer import Rules


class Caches:
    """Makes the caches of a ``with attach(...)`` block.

    Parameters
    ----------
    layers
        Number of attention layers of the model.
    rules
        Policy, interval, storage and protocol.
    """

    def __init__(self, layers: int, rules: Rules) -> None:
        self.layers, self.rules = layers, rules
        self.block = Block()
        self.newest: EvictingCache | None = None
        self._behind: WeakKeyDictionary[DynamicCache, EvictingCache] = WeakKeyDictionary()

    def begin(self) -> EvictingCache:
        """Return a new cache, which becomes the newest one."""
        self.newest = None  # freed before the next is made
        cache = EvictingCache(self.layers, self.rules, self.block)
        self.newest = cache
        return cache

    def for_call(self, given: Any) -> EvictingCache:
        """Return the cache of a call that brings `given` as its ``past_key_values``.

        None begins new sequences. A cache of this block, or a copy of one, goes on. An empty
        ``DynamicCache`` of the user begins new sequences at its first call and goes on with them
        at the next ones, as it does without a memory.

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
            self.newest = given
            return given
        if type(given) is DynamicCache and given.get_seq_length() == 0:
            if given not in self._behind:
                self._behind[given] = self.begin()
            self.newest = self._behind[given]
            return self.newest
        kind = type(given).__name__
        length = given.get_seq_length() if isinstance(given, DynamicCache) else "unknown"
        raise UnsupportedError(
            f"cannot go on from another cache: got a {kind} of length {length}, expected none, or "
            "`memory.cache` to continue. Static, quantised and sliding caches are not served."
        )
