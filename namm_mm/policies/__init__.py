"""Policies: one short file per rule. ``create("h2o", budget=0.25)`` builds one by name.

Every class is here too: ``policies.H2O(budget=0.25)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, KeepAll, LayerView, Policy, Selection, Threshold
from namm_mm.registry.registry import Registry

if TYPE_CHECKING:
    from namm_mm.policies.attention_ema import AttentionEma
    from namm_mm.policies.attention_max import AttentionMax
    from namm_mm.policies.full import Full
    from namm_mm.policies.h2o import H2O
    from namm_mm.policies.l2 import L2
    from namm_mm.policies.namm import NammPolicy
    from namm_mm.policies.random import Random
    from namm_mm.policies.recency import Recency
    from namm_mm.policies.window import Window

_BUILTIN = {
    "full": "namm_mm.policies.full:Full",
    "recency": "namm_mm.policies.recency:Recency",
    "random": "namm_mm.policies.random:Random",
    "h2o": "namm_mm.policies.h2o:H2O",
    "l2": "namm_mm.policies.l2:L2",
    "window": "namm_mm.policies.window:Window",
    "attention_max": "namm_mm.policies.attention_max:AttentionMax",
    "attention_ema": "namm_mm.policies.attention_ema:AttentionEma",
    "namm": "namm_mm.policies.namm:NammPolicy",
}
_CLASSES = {entry.partition(":")[2]: entry.partition(":")[0] for entry in _BUILTIN.values()}

POLICIES: Registry[Callable[..., Policy]] = Registry("policy", "namm_mm.policies", _BUILTIN)


def create(name: str, **options: Any) -> Policy:
    """Build the policy registered as `name`.

    Parameters
    ----------
    options
        Fields of the policy. ``budget`` is a fraction of the tokens seen, the words of a
        configuration such as ``"tokens:512"``, or a rule of selection.

    Returns
    -------
    Policy
        A small frozen object; it serves any number of models.

    Raises
    ------
    UsageError
        An unknown name or option, or an option's wrong value.
    """
    factory = POLICIES.get(name)
    known = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in known:
            renamed = "`selection` is called `budget` now." if option == "selection" else ""
            raise UsageError(
                message(
                    f"unknown option of the policy {name!r}",
                    given=option,
                    expected="one of its fields",
                    valid=known,
                    then=renamed,
                )
            )
    return factory(**options)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'namm_mm.policies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "H2O",
    "L2",
    "POLICIES",
    "AttentionEma",
    "AttentionMax",
    "Budget",
    "Full",
    "KeepAll",
    "LayerView",
    "NammPolicy",
    "Policy",
    "Random",
    "Recency",
    "Selection",
    "Threshold",
    "Window",
    "create",
]
