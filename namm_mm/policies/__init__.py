"""Policies: one short file per rule. ``create("h2o", ...)`` builds one by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, KeepAll, Policy, Selection, Threshold
from namm_mm.registry.registry import Registry

POLICIES: Registry[Callable[..., Policy]] = Registry(
    "policy",
    "namm_mm.policies",
    {
        "full": "namm_mm.policies.full:Full",
        "recency": "namm_mm.policies.recency:Recency",
        "random": "namm_mm.policies.random:Random",
        "h2o": "namm_mm.policies.h2o:H2O",
        "l2": "namm_mm.policies.l2:L2",
        "window": "namm_mm.policies.window:Window",
        "attention_max": "namm_mm.policies.attention_max:AttentionMax",
        "attention_ema": "namm_mm.policies.attention_ema:AttentionEma",
        "namm": "namm_mm.policies.namm:NammPolicy",
    },
)


def create(name: str, **options: Any) -> Policy:
    """Build the policy registered as `name`.

    Parameters
    ----------
    options
        Fields of the policy; ``selection`` sets its rule of selection.

    Raises
    ------
    UsageError
        An unknown name or option, or an option's wrong value.
    """
    factory = POLICIES.get(name)
    known = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in known:
            raise UsageError(
                message(
                    f"unknown option of the policy {name!r}",
                    given=option,
                    expected="one of its fields",
                    valid=known,
                )
            )
    return factory(**options)


__all__ = ["POLICIES", "Budget", "KeepAll", "Policy", "Selection", "Threshold", "create"]
