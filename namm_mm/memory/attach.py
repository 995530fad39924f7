"""Attach a memory to a transformers model for the length of a ``with`` block.

Three public doors of transformers are used and nothing is patched: a registered attention function,
a registered mask function, and a cache class. A forward pre-hook puts our cache where a call brings
none (or a fresh, empty one, as ``generate`` does). Leaving the block takes all of it back.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from namm_mm.errors import NammWarning, UsageError, message
from namm_mm.memory import carriers
from namm_mm.memory.cache import EvictingCache, forget_pending
from namm_mm.memory.caches import Caches
from namm_mm.memory.carriers import Carrier
from namm_mm.memory.hooks import after_call, before_call, end_call, evicting_attention, pass_padding
from namm_mm.memory.probing import fitted
from namm_mm.memory.prompt import Prompt
from namm_mm.memory.rules import Rules
from namm_mm.memory.swapping import swapped_attention
from namm_mm.memory.watch import Watcher
from namm_mm.namm import Namm
from namm_mm.observations.base import Observation
from namm_mm.policies import create, preferences
from namm_mm.policies.base import Policy
from namm_mm.records import PROTOCOLS, STORAGES, MemoryUse, Trace

# "sdpa" or "flash" must not be part of the name: transformers dispatches on substrings.
ATTENTION = "namm_memory"


class Memory:
    """A policy at work on a model: makes the caches and tells what they kept.

    Under ``prune_after_prefill`` a prompt is all that comes before the first decoded token, in one
    call or in several, or what :meth:`expect_prompt` says. Until it is pruned, ``usage``, ``kept``
    and ``trace`` tell what will be left of it.

    Parameters
    ----------
    carrier
        The model; its layers of attention are counted from 0, and other layers are not counted.
    rules
        Policy, interval, storage and protocol.
    """

    def __init__(self, carrier: Carrier, rules: Rules) -> None:
        self.layers = carrier.layout.attention
        self.rules = rules
        self.caches = Caches(carrier, rules)

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self.rules.policy

    @property
    def interval(self) -> int:
        """Tokens between two evictions, counted per row."""
        return self.rules.interval

    @property
    def cache(self) -> EvictingCache:
        """The cache of the newest sequences; pass it as ``past_key_values`` to go on with them.

        The memory keeps the newest cache only. A thread that generates holds its own, so that
        threads may generate at the same time.
        """
        return self.caches.newest or self.caches.begin()

    @cache.setter
    def cache(self, cache: EvictingCache) -> None:
        """Report this cache, after calls that went on with copies of it."""
        self.caches.newest = cache

    @property
    def rows(self) -> int:
        """Number of sequences in the cache; 0 before the first call."""
        newest = self.caches.newest
        return 0 if newest is None else newest.batch

    def branch(self) -> EvictingCache:
        """Return a copy of the cache, to go on with beside it.

        A watcher is not told of evictions in the copy. The memory reports the cache that was used
        last; set :attr:`cache` to report this one again.
        """
        own = copy.deepcopy(self.cache)
        own.sequences.watch_no_more()
        return own

    def reset(self) -> None:
        """Forget: the next call begins new sequences."""
        self.caches.newest = None

    def expect_prompt(self, columns: int) -> None:
        """Say how long the prompt of the next sequences is, under ``prune_after_prefill``.

        It is then pruned layer by layer in the call that brings its last column, so that the keys
        of one layer's whole prompt exist at a time. Without this, the prompt is held until decoding
        begins.

        Parameters
        ----------
        columns
            Columns of the prompt, padding included, over however many calls.

        Raises
        ------
        UsageError
            Fewer than 1.
        """
        Prompt(columns)
        self.caches.prompt = columns

    def prune(self) -> None:
        """Evict now what the policy does not keep of all tokens so far, in every layer.

        Under ``prune_after_prefill`` this ends the prompt: what comes later is kept. A chat calls
        it after a turn to prune again.
        """
        self.cache.sequences.prune()

    def usage(self, row: int = 0) -> MemoryUse:
        """Return the tokens and bytes of one row, now and at their peak."""
        return self.cache.sequences.reported().usage(row)

    def trace(self, row: int = 0) -> Trace:
        """Return the sizes of one row after every update, for a ``match:`` budget."""
        return self.cache.sequences.reported().trace(row)

    def kept(self, layer: int, row: int = 0) -> list[Tensor]:
        """Return the positions that each head still holds, ascending int64 on the CPU.

        A position is the index of a token in its row; padding is not counted.
        """
        return self.cache.sequences.reported().kept(layer, row)


def attach(
    model: nn.Module,
    policy: Policy | Namm | str,
    *,
    interval: int | None = None,
    storage: str | None = None,
    protocol: str = "streaming",
    watcher: Watcher | None = None,
) -> AbstractContextManager[Memory]:
    """Give `model` a forgetting memory for the length of a ``with`` block.

    A call that brings no cache begins new sequences. One that brings
    ``past_key_values=memory.cache`` goes on with them, as ``generate`` does by itself.

    Parameters
    ----------
    model
        A transformers decoder, or a model that holds one, in evaluation mode.
    policy
        Decides what stays: a policy, the name of one, or a NAMM.
    interval
        Tokens between two evictions, counted per row. None: the policy's own, else 512.
    storage
        ``shared``: all heads of a layer keep the same number, the largest that any asks for (the
        official rule). ``per_head``: every head its own. None: the policy's own, else ``shared``.
    protocol
        ``streaming``: evict at every interval, in the prompt too, so that later tokens see only
        what was kept (the official rule). ``prune_after_prefill``: evict once, at the end of the
        prompt, however it was fed; later turns are kept (:meth:`Memory.prune`).
    watcher
        Is told of every eviction.

    Returns
    -------
    context manager
        Entering it gives a :class:`Memory`, filled as the model runs and readable afterwards.

    Raises
    ------
    UsageError
        A wrong policy, interval, storage or protocol.
    UnsupportedError
        A model that cannot carry an evicting memory, with the reason.

    Warns
    -----
    NammWarning
        A threshold runs with another interval or storage than it was set for.
    """
    model, policy = carriers.unwrapped(model), _policy(policy)
    interval = preferences.interval_for(policy, interval)
    storage = preferences.storage_for(policy, storage)
    _check_options(policy, interval, storage, protocol)
    if wrong := preferences.mismatch(policy, interval, storage):
        warnings.warn(wrong, NammWarning, stacklevel=2)
    config = carriers.decoder_config(model, policy)
    policy = fitted(policy, model, config, attach)
    how = (storage == "per_head", protocol == "streaming", watcher)
    rules = Rules(policy.for_model(model), interval, *how, _observation(policy, model))
    return _attached(model, config, Memory(Carrier.of(model, config), rules))


@contextmanager
def _attached(model: nn.Module, config: Any, memory: Memory) -> Iterator[Memory]:
    _check_free(model, config)
    names = [*inspect.signature(model.forward).parameters, "past_key_values"]
    place = names.index("past_key_values")
    with swapped_attention(config, ATTENTION, evicting_attention, pass_padding):
        hooks = (
            model.register_forward_pre_hook(
                lambda called, args, kwargs: (
                    args,
                    before_call(memory.caches, called, args, kwargs, place),
                ),
                with_kwargs=True,
            ),
            model.register_forward_hook(
                lambda called, _args, kwargs, _output: after_call(called, kwargs),
                with_kwargs=True,
            ),
            model.register_forward_hook(lambda *_: end_call(), always_call=True),
        )
        try:
            yield memory
            if memory.caches.newest is not None:
                memory.caches.newest.sequences.prune_prompts()
        finally:
            memory.caches.block.open = False
            for hook in hooks:
                hook.remove()
            forget_pending()


def _observation(policy: Policy, model: nn.Module) -> Observation | None:
    return None if policy.needs is None else policy.needs.for_model(model)


def _policy(given: Policy | Namm | str) -> Policy:
    if isinstance(given, str):
        return create(given)
    if isinstance(given, Namm):
        return create("namm", checkpoint=given)
    if isinstance(given, Policy):
        return given
    raise UsageError(
        message(
            "no policy",
            given=type(given).__name__,
            expected="a policy, the name of one, or a Namm",
        )
    )


def _check_options(policy: Policy, interval: int, storage: str, protocol: str) -> None:
    for name, given, valid in (
        ("storage", storage, STORAGES),
        ("protocol", protocol, PROTOCOLS),
    ):
        if given not in valid:
            raise UsageError(message(f"unknown {name}", given=given, expected="one", valid=valid))
    if interval < 1:
        raise UsageError(message("wrong interval", given=interval, expected="1 token or more"))
    if policy.needs is not None:
        policy.needs.check_interval(interval)


def _check_free(model: nn.Module, config: Any) -> None:
    if config._attn_implementation == ATTENTION:
        raise UsageError(
            f"{type(model).__name__} carries a memory already. Leave the first `with attach(...)` "
            "before the next."
        )
